package ossemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// openStore reads the journal, makes the files agree with it, takes in what was
// laid there by hand, and starts a new journal.
func openStore(o Options) (*store, error) {
	s := &store{opt: o, buckets: map[string]*bucket{}}
	if o.Dir == "" {
		s.files, s.journal = &memFiles{m: map[string][]byte{}}, &journal{}
		return s, nil
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &diskFiles{root: root, fsync: o.Fsync}
	s.files = d
	s.journal = &journal{root: root, fsync: o.Fsync, snapshot: s.snapshot}
	if err := s.open(d); err != nil {
		if s.lock != nil {
			_ = s.lock.Close()
		}
		_ = root.Close()
		return nil, fmt.Errorf("opening %s: %w", o.Dir, err)
	}
	return s, nil
}

func (s *store) open(d *diskFiles) error {
	for _, dir := range []string{tmpDir, escapedDir} {
		if err := d.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	f, err := d.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	s.lock = f
	if err := lock(f); err != nil {
		return errors.New("another server uses this directory")
	}
	clean, err := replay(d.root, s.replayed)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, b := range s.buckets {
		for key, e := range b.entries {
			if err := s.settle(d, e, clean); err != nil {
				return fmt.Errorf("object %s of bucket %s: %w", key, b.name, err)
			}
			if !e.any() {
				delete(b.entries, key)
				continue
			}
			b.all = append(b.all, key)
			if e.Exists {
				b.keys = append(b.keys, key)
				known[e.Path] = true
			}
			for _, st := range e.old {
				known[st.Path] = true
			}
		}
	}
	if err := s.adopt(d, known); err != nil {
		return err
	}
	for _, b := range s.buckets {
		slices.Sort(b.keys)
		slices.Sort(b.all)
	}
	if err := s.journal.compact(); err != nil {
		return fmt.Errorf("starting a new journal: %w", err)
	}
	if err := s.sweepVersions(d, known); err != nil {
		return err
	}
	left, err := fs.ReadDir(d.root.FS(), tmpDir)
	if err != nil {
		return err
	}
	for _, f := range left {
		if err := d.root.Remove(tmpDir + "/" + f.Name()); err != nil {
			return err
		}
	}
	return nil
}

// sweepVersions removes files of versions that were never committed.
func (s *store) sweepVersions(d *diskFiles, known map[string]bool) error {
	return fs.WalkDir(d.root.FS(), versionsDir, func(p string, f fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil || f.IsDir() || known[p]:
			return err
		}
		return d.root.Remove(p)
	})
}

func (s *store) replayed(rec *record) error {
	b := s.buckets[rec.Bucket]
	switch rec.Op {
	case "journal":
	case "bucket":
		if !validBucket(rec.Bucket) || rec.Info == nil {
			return fmt.Errorf("the journal has a bucket %q", rec.Bucket)
		}
		if b == nil {
			b = &bucket{name: rec.Bucket, entries: map[string]*entry{}}
			s.buckets[rec.Bucket] = b
		}
		b.bucketState = *rec.Info
	case "nobucket":
		delete(s.buckets, rec.Bucket)
	case "object":
		if b == nil || rec.Object == nil || !validRecord(rec) {
			return fmt.Errorf("the journal has an object %q in bucket %q", rec.Key, rec.Bucket)
		}
		e := b.entries[rec.Key]
		if e == nil {
			e = &entry{}
			b.entries[rec.Key] = e
		}
		e.history = history{*rec.Object, rec.Old, rec.Trash}
	default:
		return fmt.Errorf("the journal has a record %q: it is a newer program's", rec.Op)
	}
	return nil
}

// validRecord says whether all that the record names lies below the directory.
func validRecord(rec *record) bool {
	for _, st := range append(rec.Old, *rec.Object) {
		if st.Path != "" && !fs.ValidPath(st.Path) {
			return false
		}
	}
	return !slices.ContainsFunc(rec.Trash, func(p string) bool { return !fs.ValidPath(p) })
}

// settle makes an object's file agree with the journal when the store opens.
//
// After a kill, what was pending is finished or undone, and bytes behind the
// committed length are cut off: they are an append that was never confirmed.
// After a clean end nothing was pending, and whatever differs was done by hand.
func (s *store) settle(d *diskFiles, e *entry, clean bool) error {
	if clean {
		e.Pending = ""
	}
	if err := s.mend(e); err != nil {
		return err
	}
	// A former version takes no appends, so nothing of it can be torn.
	var gone error
	e.old = slices.DeleteFunc(e.old, func(st state) bool {
		if st.Marker {
			return false
		}
		_, _, err := d.size(st.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			gone = err
			return false
		}
		return err != nil
	})
	if gone != nil {
		return gone
	}
	if !e.Exists {
		return nil
	}
	n, modified, err := d.size(e.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Exists = false
		return nil
	case err != nil:
		return err
	case n > e.Length && !clean:
		return d.truncate(e.Path, e.Length)
	case n != e.Length:
		e.Modified = modified
		return s.measure(&e.state, n)
	}
	return nil
}

// adopt takes in directories as buckets and files as objects that the journal
// does not know: somebody laid them there, or the journal was removed.
func (s *store) adopt(d *diskFiles, known map[string]bool) error {
	fsys := d.root.FS()
	top, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return err
	}
	for _, dir := range top {
		if !dir.IsDir() || !validBucket(dir.Name()) {
			continue
		}
		b := s.buckets[dir.Name()]
		if b == nil {
			b = &bucket{name: dir.Name(), bucketState: s.newBucketState(), entries: map[string]*entry{}}
			s.buckets[b.name] = b
		}
		err := fs.WalkDir(fsys, b.name, func(p string, f fs.DirEntry, err error) error {
			if err != nil || !f.Type().IsRegular() || known[p] || !utf8.ValidString(p) {
				return err
			}
			key := strings.TrimPrefix(p, b.name+"/")
			if want, plain := place(b.name, key); !plain || want != p || !validKey(key) || b.entries[key] != nil {
				return nil
			}
			n, modified, err := d.size(p)
			if err != nil {
				return err
			}
			e := &entry{history: history{state: state{Exists: true, Path: p, Appendable: true, Modified: modified}}}
			if err := s.measure(&e.state, n); err != nil {
				return err
			}
			b.entries[key] = e
			b.keys = append(b.keys, key)
			b.all = append(b.all, key)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// snapshot gives all that is committed; the caller holds the journal's lock.
func (s *store) snapshot(yield func(*record) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, b := range s.buckets {
		info := b.bucketState
		if err := yield(&record{Op: "bucket", Bucket: name, Info: &info}); err != nil {
			return err
		}
		for key, e := range b.entries {
			if !e.any() && e.Pending == "" && len(e.trash) == 0 {
				continue
			}
			h := e.history
			if err := yield(&record{Op: "object", Bucket: name, Key: key, Object: &h.state, Old: h.old, Trash: h.trash}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) close() error {
	// An operation that did not finish in time may leave half of its bytes, and
	// so may one that failed.
	err := s.journal.close(s.busy.Load() == 0 && s.mended())
	if d, ok := s.files.(*diskFiles); ok {
		err = errors.Join(err, d.root.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}
