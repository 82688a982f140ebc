package ossemu

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
)

func noSuchVersion(key, version string) *apiError {
	return errorf(404, "NoSuchVersion", "The specified version does not exist.", "0026-00000002", [2]string{"Key", key}, [2]string{"VersionId", version})
}

// newVersion returns the id for a version written now; the caller holds the
// bucket's gate.
func (b *bucket) newVersion() string {
	switch b.Versioning {
	case versioningEnabled:
		return "CAEQ" + newID()
	case versioningSuspended:
		return nullVersion
	}
	return ""
}

// push returns what the key has when a version with this id is to become the
// current one, without that version. What is overwritten by it, the null version
// by another, is trash.
func (e *entry) push(version string) history {
	h := history{trash: slices.Clone(e.trash)}
	if e.Exists || e.Marker {
		h.old = append(h.old, e.state)
	}
	h.old = append(h.old, e.old...)
	if version == nullVersion {
		h.old = slices.DeleteFunc(h.old, func(st state) bool {
			if st.version() != nullVersion {
				return false
			}
			if st.Path != "" {
				h.trash = append(h.trash, st.Path)
			}
			return true
		})
	}
	return h
}

// swept removes the files of versions that are gone. What cannot be removed now
// is at the next look, or when the store opens.
func (s *store) swept(e *entry) {
	if len(e.trash) > 0 {
		_ = s.mend(e)
	}
}

// retained says that a version may not be changed or removed yet; the caller
// holds the bucket's gate.
func (s *store) retained(b *bucket, st *state) error {
	if !b.Worm.active(s.opt.Now()) || !st.Exists {
		return nil
	}
	if until := st.Modified.AddDate(0, 0, b.Worm.Days); s.opt.Now().Before(until) {
		return errorf(409, "FileImmutable", "The object you specified is immutable.", "0026-00000040", [2]string{"Bucket", b.name})
	}
	return nil
}

// find returns a version of the key; "" is the current one.
func (h *history) find(key, version string) (*state, error) {
	switch {
	case version == "" && h.Exists:
		return &h.state, nil
	case version == "":
		e := noSuchKey(key)
		if h.Marker {
			e.Header = map[string]string{"X-Oss-Delete-Marker": "true", "X-Oss-Version-Id": h.version()}
		}
		return nil, e
	case (h.Exists || h.Marker) && h.version() == version:
		return &h.state, nil
	}
	for i := range h.old {
		if h.old[i].version() == version {
			return &h.old[i], nil
		}
	}
	return nil, noSuchVersion(key, version)
}

// look returns a version's state and, if asked, its open file, which keeps the
// bytes it has now.
func (s *store) look(bucketName, key, version string, open bool) (st state, f io.ReadSeekCloser, err error) {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return st, nil, err
	}
	defer done()
	s.mu.RLock()
	e := b.entries[key]
	s.mu.RUnlock()
	if e == nil {
		// No entry for every key that somebody asks for in vain.
		if s.fresh(b, key, &entry{}) {
			_, err := (&history{}).find(key, version)
			return st, nil, err
		}
		e = s.entry(b, key)
	}
	get := func() error {
		found, err := e.find(key, version)
		if err != nil {
			return err
		}
		if found.Marker {
			e := errorf(405, "MethodNotAllowed", "The specified method is not allowed against this resource.", "0026-00000003")
			e.Header = map[string]string{"X-Oss-Delete-Marker": "true", "X-Oss-Version-Id": found.version()}
			return e
		}
		st = *found
		if st.Version == "" && b.Versioning != "" {
			st.Version = nullVersion
		}
		if open {
			f, err = s.files.open(st.Path)
		}
		return err
	}
	e.mu.RLock()
	if s.fresh(b, key, e) {
		defer e.mu.RUnlock()
		return st, f, get()
	}
	e.mu.RUnlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.refresh(b, key, e); err != nil {
		return st, nil, err
	}
	err = get()
	return st, f, err
}

// put replaces the object, or creates it if that is all the caller wants.
func (s *store) put(bucketName, key string, data *body, st state, onlyNew bool) (state, error) {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return state{}, err
	}
	defer done()
	crc, err := data.crc(s.files, 0)
	if err != nil {
		return state{}, err
	}
	e := s.entry(b, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.refresh(b, key, e); err != nil {
		return state{}, err
	}
	if b.Versioning == "" {
		if e.Exists && onlyNew {
			return state{}, fileAlreadyExists()
		}
		if err := s.retained(b, &e.state); err != nil {
			return state{}, err
		}
	}
	h := e.history
	version := b.newVersion()
	p := e.Path
	switch {
	case e.Exists && b.Versioning == "":
	case !e.any():
		if p, err = s.create(b, key, e); err != nil {
			return state{}, err
		}
	default:
		p = versionPlace(b.name, key)
		h = e.push(version)
	}
	st.Exists, st.Path, st.Length, st.CRC, st.Version = true, p, data.n, crc, version
	st.Modified, st.Pending = s.opt.Now().UTC(), "install:"+data.tmp
	if st.ETag == "" {
		st.MD5 = base64.StdEncoding.EncodeToString(data.md5[:])
		st.ETag = fmt.Sprintf("%X", data.md5)
	}
	b.defaults(&st.attributes)
	h.state = st
	// Here it happens. A file that cannot be put in its place now is at the next
	// look, or when the store opens, and until then keeps its temporary name.
	if err := s.commitAll(b, key, e, h); err != nil {
		if s.journal.failed() != nil {
			data.tmp = "" // not dropped: the record may be in the journal all the same
		}
		return state{}, errors.Join(err, s.mend(e))
	}
	if err := s.files.install(p, data); err != nil {
		data.tmp = ""
		return state{}, err
	}
	s.settled(e)
	s.swept(e)
	return st, nil
}

// change commits what fn makes of a version's state; its bytes stay.
func (s *store) change(bucketName, key, version string, fn func(*bucket, *state) error) (state, error) {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return state{}, err
	}
	defer done()
	e := s.entry(b, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.refresh(b, key, e); err != nil {
		return state{}, err
	}
	h := e.history
	h.old = slices.Clone(h.old)
	st, err := h.find(key, version)
	if err != nil {
		return state{}, err
	}
	if st.Marker {
		return state{}, errorf(405, "MethodNotAllowed", "The specified method is not allowed against this resource.", "0026-00000003")
	}
	if err := fn(b, st); err != nil {
		return state{}, err
	}
	changed := *st
	if changed.Version == "" && b.Versioning != "" {
		changed.Version = nullVersion
	}
	return changed, s.commitAll(b, key, e, h)
}

// removal is what a deletion has done.
type removal struct {
	version string // that was removed, or that the delete marker has; "" without versions
	marker  bool   // a delete marker was made or, by its version, removed
}

// remove deletes the object: for good where the bucket is not versioned or a
// version is named, else behind a delete marker.
func (s *store) remove(bucketName, key, version string) (removal, error) {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return removal{}, err
	}
	defer done()
	e := s.entry(b, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.refresh(b, key, e); err != nil {
		return removal{}, err
	}
	switch {
	case version != "" && (b.Versioning != "" || version != nullVersion):
		return s.removeVersion(b, key, e, version)
	case b.Versioning != "":
		id := b.newVersion()
		h := e.push(id)
		h.state = state{Marker: true, Version: id, Modified: s.opt.Now().UTC()}
		if err := s.commitAll(b, key, e, h); err != nil {
			return removal{}, err
		}
		s.swept(e)
		return removal{id, true}, nil
	case !e.Exists:
		return removal{}, nil
	}
	if err := s.retained(b, &e.state); err != nil {
		return removal{}, err
	}
	if err := s.commit(b, key, e, state{Path: e.Path, Pending: "remove"}); err != nil {
		return removal{}, err
	}
	return removal{}, s.mend(e)
}

// removeVersion removes a version for good; that there is none is no error. The
// one before the current version is the current one then.
func (s *store) removeVersion(b *bucket, key string, e *entry, version string) (removal, error) {
	st, err := e.find(key, version)
	if err != nil {
		return removal{version: version}, nil //nolint:nilerr // what is not there is removed
	}
	if err := s.retained(b, st); err != nil {
		return removal{}, err
	}
	gone := *st
	h := history{old: slices.Clone(e.old), trash: slices.Clone(e.trash)}
	if st == &e.state {
		if len(h.old) > 0 {
			h.state, h.old = h.old[0], h.old[1:]
		}
	} else {
		h.state = e.state
		h.old = slices.DeleteFunc(h.old, func(st state) bool { return st.version() == version })
	}
	if gone.Path != "" {
		h.trash = append(h.trash, gone.Path)
	}
	if err := s.commitAll(b, key, e, h); err != nil {
		return removal{}, err
	}
	s.swept(e)
	return removal{version, gone.Marker}, nil
}
