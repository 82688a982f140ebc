package ossemu

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// mend does to the file what is pending; the caller holds e.mu. Until that has
// worked nobody may look at the file: half an append would be taken for bytes
// that were laid there by hand, and so would what a deletion has left.
func (s *store) mend(e *entry) error {
	for _, p := range e.trash {
		// What is gone already is passed over: a directory of its path may be
		// another object's file by now.
		_, _, err := s.files.size(p)
		if err == nil {
			err = s.files.remove(p)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", p, err)
		}
	}
	if len(e.trash) > 0 {
		s.journal.locked(func() { e.trash = nil })
	}
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
				all = all && e.Pending == "" && len(e.trash) == 0
			}
		}
	})
	return all
}

// fresh says whether the object's file is as committed; the caller holds e.mu
// for reading at least.
func (s *store) fresh(b *bucket, key string, e *entry) bool {
	if e.Pending != "" || len(e.trash) > 0 {
		return false
	}
	if !e.Exists {
		p, plain := place(b.name, key)
		if !plain || e.owns(p) {
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
		if !plain || e.owns(p) {
			return nil
		}
		if _, _, err := s.files.size(p); err != nil {
			return nil //nolint:nilerr // no file there, whatever else is
		}
		st = state{Exists: true, Path: p, Appendable: true}
		if e.Marker {
			return s.adoptVersion(b, key, e, st)
		}
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

// owns says whether the file is a former version's.
func (e *entry) owns(p string) bool {
	return slices.ContainsFunc(e.old, func(st state) bool { return st.Path == p })
}

// adoptVersion takes in a file that was laid by hand at a deleted key.
func (s *store) adoptVersion(b *bucket, key string, e *entry, st state) error {
	n, modified, err := s.files.size(st.Path)
	if err == nil {
		err = s.measure(&st, n)
	}
	if err != nil {
		return err
	}
	st.Modified, st.Version = modified, b.newVersion()
	h := e.push(st.Version)
	h.state = st
	return s.commitAll(b, key, e, h)
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
