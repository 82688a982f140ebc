package objecttest

import (
	"maps"
	"slices"
	"time"

	"ossuary/internal/object"
)

// These act on the store from outside of the protocol, as another program or a
// person would. They count as no operation and meet no fault.

// Put makes key an object that was put: it takes no appends.
func (s *Store) Put(key string, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = &item{data: slices.Clone(p), crc: object.CRC64(0, p), modified: time.Now()}
}

// AppendRaw appends foreign bytes, whatever the length; it creates the object
// if there is none.
func (s *Store) AppendRaw(key string, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	if o == nil {
		o = &item{appendable: true}
		s.objects[key] = o
	}
	o.data = append(o.data, p...)
	o.crc = object.CRC64(o.crc, p)
	o.modified = time.Now()
	o.version++
}

// Replace makes key an appendable object of just these bytes.
func (s *Store) Replace(key string, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = &item{data: slices.Clone(p), crc: object.CRC64(0, p), appendable: true, modified: time.Now()}
}

// Delete removes the object, if there is one.
func (s *Store) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
}

// Truncate cuts the object to length bytes; a longer length leaves it as it is.
func (s *Store) Truncate(key string, length int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	if o == nil || length >= int64(len(o.data)) {
		return
	}
	o.data = slices.Clone(o.data[:length])
	o.crc = object.CRC64(0, o.data)
	o.version++
}

// Flip changes one byte in place: what a broken disk would do.
func (s *Store) Flip(key string, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	o.data = slices.Clone(o.data)
	o.data[at] ^= 0xff
	o.crc = object.CRC64(0, o.data)
}

// Lock puts the object under retention: appends are refused with FileImmutable.
func (s *Store) Lock(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[key]; o != nil {
		o.immutable = true
	}
}

// Arrive lets all late appends arrive now.
func (s *Store) Arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	on := s.late
	s.late = nil
	for _, l := range on {
		l.apply()
	}
}

// Bytes returns a copy of the object, nil if there is none.
func (s *Store) Bytes(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	if o == nil {
		return nil
	}
	return append([]byte{}, o.data...)
}

// Keys returns all keys in ascending order.
func (s *Store) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Created returns what the object was created with.
func (s *Store) Created(key string) (object.Create, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	if o == nil {
		return object.Create{}, false
	}
	return o.create, true
}

// Clone returns a store with the same objects, no faults and nothing late, so
// that a test can go on from one state in several ways.
func (s *Store) Clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := New()
	c.MaxSize = s.MaxSize
	for k, o := range s.objects {
		d := *o
		d.data = slices.Clone(o.data)
		c.objects[k] = &d
	}
	return c
}
