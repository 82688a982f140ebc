package ossemu

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// store holds buckets and objects. Locks are taken in this order: a bucket's
// gate, an object's, the journal's, the store's.
type store struct {
	opt     Options
	files   files
	journal *journal
	lock    *os.File     // held while the directory is ours; nil in memory mode
	busy    atomic.Int64 // operations under way

	mu      sync.RWMutex
	buckets map[string]*bucket // guarded by mu, and so are the maps and keys inside
}

type bucketState struct {
	Created time.Time `json:"t"`
	ACL     string    `json:"acl,omitempty"`
	Class   string    `json:"class,omitempty"`
}

type bucket struct {
	name string
	bucketState
	gate    sync.RWMutex // held for reading by operations on objects, for writing by the bucket's deletion
	gone    bool         // guarded by gate
	entries map[string]*entry
	keys    []string // of existing objects, ascending
}

// entry is the place of one key; it stays when the object goes.
type entry struct {
	// mu is held for the whole of an operation on the object, so that two
	// appends at one position cannot both see its length.
	mu sync.RWMutex
	// state is what is committed: written with mu and the journal's lock held,
	// read with either.
	state
}

// state is an object as the journal has it.
type state struct {
	Exists     bool      `json:"e,omitempty"`
	Path       string    `json:"p,omitempty"` // of its file
	Length     int64     `json:"n,omitempty"`
	CRC        uint64    `json:"c,omitempty"`
	Appendable bool      `json:"a,omitempty"`
	ETag       string    `json:"etag,omitempty"`
	Modified   time.Time `json:"t,omitzero"`
	attributes
	// Pending is what is still to be done to the file when this is committed:
	// "create", "remove", or "install:" and the temporary file that becomes it;
	// or "cut", what an append that failed may have left behind the object. It
	// is done, or for create undone, before anybody looks at the file again: see
	// store.mend, and store.settle for after a kill.
	Pending string `json:"w,omitempty"`
}

func appendETag(st *state) string { return fmt.Sprintf("%016X%016X", st.CRC, st.Length) }

// enter finds a bucket and keeps it from being deleted until done is called.
func (s *store) enter(name string) (b *bucket, done func(), err error) {
	s.mu.RLock()
	b = s.buckets[name]
	s.mu.RUnlock()
	if b == nil {
		return nil, nil, noSuchBucket(name)
	}
	s.busy.Add(1)
	b.gate.RLock()
	done = func() { b.gate.RUnlock(); s.busy.Add(-1) }
	if b.gone {
		done()
		return nil, nil, noSuchBucket(name)
	}
	return b, done, nil
}

func (s *store) entry(b *bucket, key string) *entry {
	s.mu.RLock()
	e := b.entries[key]
	s.mu.RUnlock()
	if e != nil {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e = b.entries[key]; e == nil {
		e = &entry{}
		b.entries[key] = e
	}
	return e
}

// commit makes st the object's state; the caller holds e.mu.
func (s *store) commit(b *bucket, key string, e *entry, st state) error {
	return s.journal.commit(&record{Op: "object", Bucket: b.name, Key: key, Object: &st}, func() {
		if e.Exists != st.Exists {
			s.index(b, key, st.Exists)
		}
		e.state = st
	})
}

func (s *store) index(b *bucket, key string, exists bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearch(b.keys, key)
	switch {
	case exists && !found:
		b.keys = slices.Insert(b.keys, i, key)
	case !exists && found:
		b.keys = slices.Delete(b.keys, i, i+1)
	}
}

// mend does to the file what is pending; the caller holds e.mu. Until that has
// worked nobody may look at the file: half an append would be taken for bytes
// that were laid there by hand, and so would what a deletion has left.
func (s *store) mend(e *entry) error {
	if e.Pending == "" {
		return nil
	}
	n, _, err := s.files.size(e.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there := err == nil
	err = nil
	tmp, install := strings.CutPrefix(e.Pending, "install:")
	switch {
	case install:
		// No temporary file: the rename was done, or something later.
		if _, _, gone := s.files.size(tmpDir + "/" + tmp); gone == nil {
			err = s.files.install(e.Path, &body{tmp: tmp})
		}
	case !there:
	case e.Pending == "create", e.Pending == "remove":
		err = s.files.remove(e.Path)
	case e.Pending == "cut" && n > e.Length:
		err = s.files.truncate(e.Path, e.Length)
	}
	if err != nil {
		return fmt.Errorf("mending %s (%s): %w", e.Path, e.Pending, err)
	}
	s.settled(e)
	return nil
}

// settled notes that nothing is pending any more; the caller holds e.mu.
func (s *store) settled(e *entry) {
	s.journal.locked(func() {
		e.Pending = ""
		if !e.Exists {
			e.Path = ""
		}
	})
}

// mended says whether nothing is pending for any object.
func (s *store) mended() (all bool) {
	all = true
	s.journal.locked(func() {
		s.mu.RLock()
		defer s.mu.RUnlock()
		for _, b := range s.buckets {
			for _, e := range b.entries {
				all = all && e.Pending == ""
			}
		}
	})
	return all
}

// fresh says whether the object's file is as committed; the caller holds e.mu
// for reading at least.
func (s *store) fresh(b *bucket, key string, e *entry) bool {
	if e.Pending != "" {
		return false
	}
	if !e.Exists {
		p, plain := place(b.name, key)
		if !plain {
			return true
		}
		_, _, err := s.files.size(p)
		return err != nil
	}
	n, _, err := s.files.size(e.Path)
	return err == nil && n == e.Length
}

// refresh does what is pending, and takes in what was done to the object's file
// by hand; the caller holds e.mu.
func (s *store) refresh(b *bucket, key string, e *entry) error {
	if err := s.mend(e); err != nil {
		return err
	}
	st := e.state
	if !st.Exists {
		p, plain := place(b.name, key)
		if !plain {
			return nil
		}
		if _, _, err := s.files.size(p); err != nil {
			return nil //nolint:nilerr // no file there, whatever else is
		}
		st = state{Exists: true, Path: p, Appendable: true}
	}
	n, modified, err := s.files.size(st.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.commit(b, key, e, state{})
	case err != nil:
		return err
	case e.Exists && n == st.Length:
		return nil
	}
	if err := s.measure(&st, n); err != nil {
		return err
	}
	st.Modified = modified
	return s.commit(b, key, e, st)
}

// measure makes length and checksum those of the file's first n bytes. Bytes
// that were added cost a reading of those only.
func (s *store) measure(st *state, n int64) error {
	f, err := s.files.open(st.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := crcWriter{}
	from := int64(0)
	if n >= st.Length {
		w.crc, from = st.CRC, st.Length
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.CopyN(&w, f, n-from); err != nil {
		return fmt.Errorf("reading %s: %w", st.Path, err)
	}
	st.Length, st.CRC = n, w.crc
	st.ETag = appendETag(st)
	return nil
}

// look returns an object's state and, if asked, its open file, which keeps the
// bytes it has now.
func (s *store) look(bucketName, key string, open bool) (st state, f io.ReadSeekCloser, err error) {
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
			return st, nil, noSuchKey(key)
		}
		e = s.entry(b, key)
	}
	get := func() error {
		if !e.Exists {
			return noSuchKey(key)
		}
		st = e.state
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

// create makes an empty file for a key that has none; the caller holds e.mu, and
// until it commits the object, the file is pending.
func (s *store) create(b *bucket, key string, e *entry) (string, error) {
	p, plain := place(b.name, key)
	for {
		// Noted first: a file nobody knows of would be taken for one that was
		// laid there by hand.
		if err := s.commit(b, key, e, state{Path: p, Pending: "create"}); err != nil {
			return "", err
		}
		err := s.files.create(p)
		if errors.Is(err, errNoPlace) && plain {
			p, plain = escaped(b.name, key), false
			continue
		}
		if err != nil {
			return "", errors.Join(fmt.Errorf("creating the file of %s: %w", key, err), s.mend(e))
		}
		return p, nil
	}
}

// append is the append itself: the bytes go behind the committed length, where
// nobody reads, and the commit makes them part of the object.
func (s *store) append(bucketName, key string, position int64, data *body, attrs attributes) (state, error) {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return state{}, err
	}
	defer done()
	e := s.entry(b, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !s.fresh(b, key, e) {
		if err := s.refresh(b, key, e); err != nil {
			return state{}, err
		}
	}
	created := !e.Exists
	switch {
	case e.Exists && !e.Appendable:
		return state{}, errorf(409, "ObjectNotAppendable", "The object is not appendable", "0026-00000020", [2]string{"Bucket", bucketName}, [2]string{"Object", key})
	case position != e.Length:
		return state{}, positionMismatch(e.Length)
	case e.Length+data.n > s.opt.MaxObject:
		return state{}, errorf(400, "EntityTooLarge", "Your proposed append exceeds the maximum allowed object size.", "0017-00000601")
	}
	st := e.state
	if !created {
		// Of all that an object has, the ACL alone is taken from later appends.
		if attrs.ACL != "" {
			st.ACL = attrs.ACL
		}
		if data.n == 0 {
			if st.ACL != e.ACL {
				err = s.commit(b, key, e, st)
			}
			return st, err
		}
	}
	if created {
		p, err := s.create(b, key, e)
		if err != nil {
			return state{}, err
		}
		st = state{Exists: true, Path: p, Appendable: true, attributes: attrs}
	}
	// What has failed may have left bytes behind the object, or an object of
	// none. Should they not go away now, they must before the next look.
	undo := func(err error) (state, error) {
		if !created {
			s.journal.locked(func() { e.Pending = "cut" })
		}
		return state{}, errors.Join(err, s.mend(e))
	}
	if st.CRC, err = data.crc(s.files, st.CRC); err != nil {
		return undo(err)
	}
	if data.n > 0 {
		if err := s.files.write(st.Path, st.Length, data); err != nil {
			return undo(err)
		}
	}
	st.Length += data.n
	st.Modified = s.opt.Now().UTC()
	st.ETag = appendETag(&st)
	// Here it happens: before the record is in the journal the object is as it
	// was (the bytes behind it are cut off when the store opens), and after it
	// the object has all of them.
	if err := s.commit(b, key, e, st); err != nil {
		return undo(err)
	}
	return st, nil
}

// put replaces the object, or creates it if that is all the caller wants.
func (s *store) put(bucketName, key string, data *body, attrs attributes, onlyNew bool) (state, error) {
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
	if e.Exists && onlyNew {
		return state{}, errorf(409, "FileAlreadyExists", "The object you specified already exists and can not be overwritten.", "0026-00000008")
	}
	p := e.Path
	if !e.Exists {
		if p, err = s.create(b, key, e); err != nil {
			return state{}, err
		}
	}
	st := state{
		Exists: true, Path: p, Length: data.n, CRC: crc, attributes: attrs,
		Modified: s.opt.Now().UTC(), ETag: fmt.Sprintf("%X", data.md5), Pending: "install:" + data.tmp,
	}
	// Here it happens. A file that cannot be put in its place now is at the next
	// look, or when the store opens, and until then keeps its temporary name.
	if err := s.commit(b, key, e, st); err != nil {
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
	return st, nil
}

// change commits what fn makes of an object's state; its bytes stay.
func (s *store) change(bucketName, key string, fn func(*state)) error {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return err
	}
	defer done()
	e := s.entry(b, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.refresh(b, key, e); err != nil {
		return err
	}
	if !e.Exists {
		return noSuchKey(key)
	}
	st := e.state
	fn(&st)
	return s.commit(b, key, e, st)
}

func (s *store) remove(bucketName, key string) error {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return err
	}
	defer done()
	e := s.entry(b, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.refresh(b, key, e); err != nil {
		return err
	}
	if !e.Exists {
		return nil
	}
	if err := s.commit(b, key, e, state{Path: e.Path, Pending: "remove"}); err != nil {
		return err
	}
	return s.mend(e)
}

func (s *store) bucketState(name string) (bucketState, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.buckets[name]
	if b == nil {
		return bucketState{}, false
	}
	return b.bucketState, true
}

func (s *store) bucketNames() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.buckets))
}

func (s *store) createBucket(name string) error {
	info := bucketState{Created: s.opt.Now().UTC().Truncate(time.Second), ACL: "private", Class: "Standard"}
	if _, ok := s.bucketState(name); ok {
		return nil
	}
	if d, ok := s.files.(*diskFiles); ok {
		if err := d.root.MkdirAll(name, 0o755); err != nil {
			return fmt.Errorf("creating the bucket's directory: %w", err)
		}
	}
	return s.journal.commit(&record{Op: "bucket", Bucket: name, Info: &info}, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.buckets[name] == nil {
			s.buckets[name] = &bucket{name: name, bucketState: info, entries: map[string]*entry{}}
		}
	})
}

func (s *store) deleteBucket(name string) error {
	s.mu.RLock()
	b := s.buckets[name]
	s.mu.RUnlock()
	if b == nil {
		return noSuchBucket(name)
	}
	b.gate.Lock()
	defer b.gate.Unlock()
	if b.gone {
		return noSuchBucket(name)
	}
	s.mu.RLock()
	n := len(b.keys)
	entries := slices.Collect(maps.Values(b.entries))
	s.mu.RUnlock()
	if n > 0 {
		return errorf(409, "BucketNotEmpty", "The bucket has objects. Please delete them first.", "0015-00000301", [2]string{"BucketName", name})
	}
	for _, e := range entries {
		// What they have left would be in the way of the next bucket of the name.
		e.mu.Lock()
		err := s.mend(e)
		e.mu.Unlock()
		if err != nil {
			return err
		}
	}
	err := s.journal.commit(&record{Op: "nobucket", Bucket: name}, func() {
		b.gone = true
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.buckets, name)
	})
	if d, ok := s.files.(*diskFiles); ok && err == nil {
		_ = d.root.Remove(name) // stays if somebody has laid something into it
	}
	return err
}
