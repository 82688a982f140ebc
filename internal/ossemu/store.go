package ossemu

import (
	"fmt"
	"os"
	"slices"
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

type bucket struct {
	name string
	// Read with gate held or the store's mu, written with both.
	bucketState
	gate    sync.RWMutex // held for reading by operations on objects, for writing by the bucket's changes and deletion
	gone    bool         // guarded by gate
	entries map[string]*entry
	keys    []string // of existing objects, ascending
	all     []string // of those and of all that have former versions, ascending
}

// entry is the place of one key; it stays when the object goes.
type entry struct {
	// mu is held for the whole of an operation on the object, so that two
	// appends at one position cannot both see its length.
	mu sync.RWMutex
	// history is what is committed: written with mu and the journal's lock held,
	// read with either.
	history
}

// history is what a key has in all.
type history struct {
	state          // the current version, or nothing
	old   []state  // versions before it and their delete markers, the newest first
	trash []string // files of versions that are gone, still to be removed
}

// any says whether there is a version at all, a delete marker included.
func (h *history) any() bool { return h.Exists || h.Marker || len(h.old) > 0 }

// state is a version of an object as the journal has it.
type state struct {
	Exists     bool      `json:"e,omitempty"`
	Marker     bool      `json:"m,omitempty"` // a delete marker: no object, but a version
	Version    string    `json:"ver,omitempty"`
	Path       string    `json:"p,omitempty"` // of its file
	Length     int64     `json:"n,omitempty"`
	CRC        uint64    `json:"c,omitempty"`
	Appendable bool      `json:"a,omitempty"`
	Sealed     time.Time `json:"seal,omitzero"` // takes no appends any more
	ETag       string    `json:"etag,omitempty"`
	MD5        string    `json:"md5,omitempty"` // of what was put in one piece
	Modified   time.Time `json:"t,omitzero"`
	Restore    *restore  `json:"r,omitempty"` // of an archived object
	attributes
	// Pending is what is still to be done to the file when this is committed:
	// "create", "remove", or "install:" and the temporary file that becomes it;
	// or "cut", what an append that failed may have left behind the object. It
	// is done, or for create undone, before anybody looks at the file again: see
	// store.mend, and store.settle for after a kill. Former versions have none.
	Pending string `json:"w,omitempty"`
}

// nullVersion is the id of what was written while the bucket was not versioned.
const nullVersion = "null"

func (st *state) version() string {
	if st.Version == "" {
		return nullVersion
	}
	return st.Version
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

// commit makes st the key's current version; the caller holds e.mu.
func (s *store) commit(b *bucket, key string, e *entry, st state) error {
	return s.commitAll(b, key, e, history{st, e.old, e.trash})
}

// commitAll makes h all that the key has; the caller holds e.mu.
func (s *store) commitAll(b *bucket, key string, e *entry, h history) error {
	return s.journal.commit(&record{Op: "object", Bucket: b.name, Key: key, Object: &h.state, Old: h.old, Trash: h.trash}, func() {
		if e.Exists != h.Exists || e.any() != h.any() {
			s.index(b, key, &h)
		}
		e.history = h
	})
}

func (s *store) index(b *bucket, key string, h *history) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.keys = indexed(b.keys, key, h.Exists)
	b.all = indexed(b.all, key, h.any())
}

func indexed(keys []string, key string, in bool) []string {
	i, found := slices.BinarySearch(keys, key)
	switch {
	case in && !found:
		return slices.Insert(keys, i, key)
	case !in && found:
		return slices.Delete(keys, i, i+1)
	}
	return keys
}
