package ossemu

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	versioningEnabled   = "Enabled"
	versioningSuspended = "Suspended"
)

// bucketState is a bucket as the journal has it.
type bucketState struct {
	Created    time.Time  `json:"t"`
	ACL        string     `json:"acl,omitempty"`
	Class      string     `json:"class,omitempty"`
	Redundancy string     `json:"red,omitempty"`
	Versioning string     `json:"ver,omitempty"` // "", Enabled, Suspended
	Worm       *worm      `json:"worm,omitempty"`
	DirectRead bool       `json:"direct,omitempty"` // archived objects are read without being restored
	Lifecycle  string     `json:"life,omitempty"`   // as it came
	Tags       []tag      `json:"tags,omitempty"`
	SSE        attributes `json:"sse,omitzero"` // how objects are encrypted that do not say
}

// worm is a retention policy.
type worm struct {
	ID      string    `json:"id"`
	Locked  bool      `json:"locked,omitempty"`
	Days    int       `json:"days"`
	Created time.Time `json:"t"`
}

func (s *store) newBucketState() bucketState {
	return bucketState{Created: s.opt.Now().UTC().Truncate(time.Second), ACL: "private", Class: standard, Redundancy: "LRS"}
}

// defaults gives an object what its bucket has for those that do not say; the
// caller holds the bucket's gate.
func (b *bucket) defaults(a *attributes) {
	if a.Class == "" && b.Class != standard {
		a.Class = b.Class
	}
	if a.SSE == "" && b.SSE.SSE != "" {
		a.SSE, a.SSEData, a.SSEKey = b.SSE.SSE, b.SSE.SSEData, b.SSE.SSEKey
	}
	if a.SSE == kmsAlgorithm && a.SSEKey == "" {
		a.SSEKey = serviceKey
	}
}

// serviceKey is the id of the key that the service has for everybody.
const serviceKey = "00000000-0000-4000-8000-000000000001"

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

// createBucket creates a bucket as fn makes it, unless it is there.
func (s *store) createBucket(name string, fn func(*bucketState)) error {
	if _, ok := s.bucketState(name); ok {
		return nil
	}
	info := s.newBucketState()
	fn(&info)
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

// changeBucket commits what fn makes of a bucket's state. No operation on an
// object sees half of it, or is half done before it.
func (s *store) changeBucket(name string, fn func(*bucketState) error) error {
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
	info := b.bucketState
	if err := fn(&info); err != nil {
		return err
	}
	return s.journal.commit(&record{Op: "bucket", Bucket: name, Info: &info}, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		b.bucketState = info
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
	n := len(b.all)
	entries := slices.Collect(maps.Values(b.entries))
	s.mu.RUnlock()
	if n > 0 {
		return bucketNotEmpty(name)
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

func bucketNotEmpty(name string) *apiError {
	return errorf(409, "BucketNotEmpty", "The bucket has objects. Please delete them first.", "0015-00000301", [2]string{"BucketName", name})
}
