// Package objecttest is an object store in memory that behaves as OSS does
// where appendable objects are concerned: an append succeeds only at the
// object's length, objects that were put take none, checksums cover the whole
// object. Faults are planted by a hook that sees every operation.
//
// It is a fake that behaves, not a recording: it answers errors as
// *object.Error with the kinds that internal/objectstore gives, and both pass
// the same conformance suite. It speaks no HTTP; internal/ossemu does.
package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"ossuary/internal/object"
)

// Store is an object store in memory. It is safe for concurrent use; each
// operation is atomic.
type Store struct {
	// Fault, if set, is asked before each operation. op is append, head, read
	// or list; n counts the operations of the store from 1. It is called
	// without the store's lock, so it may call the store's helpers (Put,
	// AppendRaw, Delete, ...) to let somebody else get in between; operations
	// it starts itself are counted and asked about too. Set it before the
	// store is shared, or with SetFault.
	Fault func(op, key string, n int) Fault

	// MaxSize is the length past which an object takes no append; 0 means
	// object.MaxSize.
	MaxSize int64

	mu      sync.Mutex
	n       int
	objects map[string]*item
	late    []late // guarded by mu
}

type item struct {
	data       []byte
	crc        uint64
	appendable bool
	create     object.Create
	modified   time.Time
	version    int
	immutable  bool
}

// late is an append on the wire whose caller has given up.
type late struct {
	wait  int // operations that pass before it arrives
	apply func()
}

// New returns an empty store.
func New() *Store { return &Store{objects: map[string]*item{}} }

// SetFault replaces the hook while the store is in use.
func (s *Store) SetFault(f func(op, key string, n int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Fault = f
}

// Operations returns how many operations there have been.
func (s *Store) Operations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// begin counts the operation and asks the hook about it.
func (s *Store) begin(ctx context.Context, op, key string) (Fault, error) {
	if err := ctx.Err(); err != nil {
		return Fault{}, &object.Error{Op: op, Key: key, Kind: object.InDoubt, Err: err}
	}
	s.mu.Lock()
	s.n++
	n, hook := s.n, s.Fault
	s.mu.Unlock()
	f := Planted(ctx)
	if hook != nil && f.none() {
		f = hook(op, key, n)
	}
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-ctx.Done():
			return f, &object.Error{Op: op, Key: key, Kind: object.InDoubt, Err: ctx.Err()}
		}
	}
	if f.Before != nil {
		s.mu.Lock()
		s.settle()
		s.mu.Unlock()
		return f, fill(f.Before, op, key)
	}
	return f, nil
}

// settle lets the late appends arrive whose time has come; the caller holds mu
// and is about to return from an operation.
func (s *Store) settle() {
	on := s.late
	s.late = nil
	for _, l := range on {
		if l.wait--; l.wait > 0 {
			s.late = append(s.late, l)
			continue
		}
		l.apply()
	}
}

// Append appends body at position. See object.Kind for the errors.
func (s *Store) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	f, err := s.begin(ctx, "append", key)
	if err != nil {
		return object.Appended{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Late {
		s.settle()
		// Nobody waits for the answer. The bytes are read when it arrives: they must not
		// have changed since.
		s.late = append(s.late, late{f.Later + 1, func() { _, _ = s.apply(key, position, body.Bytes(), c) }})
		if f.After == nil {
			f.After = &object.Error{Err: errors.New("no response in time (planted)")}
		}
		return object.Appended{}, fill(f.After, "append", key)
	}
	res, err := s.apply(key, position, body.Bytes(), c)
	s.settle()
	if f.After != nil {
		return object.Appended{}, fill(f.After, "append", key)
	}
	if err == nil && f.Garble != nil {
		f.Garble(&res)
	}
	return res, err
}

// apply is the append itself; the caller holds mu.
func (s *Store) apply(key string, position int64, body []byte, c *object.Create) (object.Appended, error) {
	fail := func(kind object.Kind, status int, code, msg string) (object.Appended, error) {
		e := &object.Error{Op: "append", Key: key, Kind: kind, Status: status, Code: code, Message: msg, RequestID: s.requestID()}
		if kind == object.Mismatch {
			e.Length = 0
			if o := s.objects[key]; o != nil {
				e.Length = int64(len(o.data))
			}
		}
		return object.Appended{}, e
	}
	if key == "" || len(key) > 1023 || key[0] == '/' || key[0] == '\\' {
		return fail(object.Invalid, 400, "InvalidObjectName", "The specified object is not valid.")
	}
	if position < 0 {
		return fail(object.Invalid, 400, "InvalidArgument", "position must not be negative.")
	}
	o := s.objects[key]
	var length int64
	if o != nil {
		if o.immutable {
			return fail(object.Unappendable, 409, "FileImmutable", "The object you specified is immutable.")
		}
		if !o.appendable {
			return fail(object.Unappendable, 409, "ObjectNotAppendable", "The object is not appendable")
		}
		length = int64(len(o.data))
	}
	if position != length {
		return fail(object.Mismatch, 409, "PositionNotEqualToLength", "Position is not equal to file length")
	}
	limit := s.MaxSize
	if limit == 0 {
		limit = object.MaxSize
	}
	if length+int64(len(body)) > limit {
		return fail(object.Invalid, 400, "EntityTooLarge", "Your proposed append exceeds the maximum allowed object size.")
	}
	if o == nil {
		o = &item{appendable: true}
		if c != nil {
			o.create = *c
			o.create.Meta = maps.Clone(c.Meta)
		}
		s.objects[key] = o
	}
	o.data = append(o.data, body...)
	o.crc = object.CRC64(o.crc, body)
	o.modified = time.Now()
	o.version++
	return object.Appended{Next: int64(len(o.data)), CRC64: o.crc, RequestID: s.requestID()}, nil
}

func (s *Store) requestID() string { return fmt.Sprintf("%024X", s.n) }

func notFound(op, key string) error {
	return &object.Error{Op: op, Key: key, Kind: object.NotFound, Status: 404, Code: "NoSuchKey", Message: "The specified key does not exist."}
}

// Head returns what the store knows of the object.
func (s *Store) Head(ctx context.Context, key string) (object.Info, error) {
	f, err := s.begin(ctx, "head", key)
	if err != nil {
		return object.Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.settle()
	if f.After != nil {
		return object.Info{}, fill(f.After, "head", key)
	}
	o := s.objects[key]
	if o == nil {
		return object.Info{}, notFound("head", key)
	}
	return object.Info{
		Length: int64(len(o.data)), CRC64: o.crc, Appendable: o.appendable,
		Modified: o.modified, ETag: fmt.Sprintf("%016X%08X", o.crc, o.version),
	}, nil
}

// Read returns the bytes [from,to) of the object as they are now, or to the end
// if to is negative or past it. An empty range gives an empty reader; from past
// the end is a Mismatch that carries the length.
func (s *Store) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	f, err := s.begin(ctx, "read", key)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.settle()
	if f.After != nil && f.Cut == 0 {
		return nil, fill(f.After, "read", key)
	}
	if from < 0 || to >= 0 && to < from {
		return nil, &object.Error{Op: "read", Key: key, Kind: object.Invalid, Message: fmt.Sprintf("no such range: %d to %d", from, to)}
	}
	o := s.objects[key]
	if o == nil {
		return nil, notFound("read", key)
	}
	length := int64(len(o.data))
	if from > length {
		return nil, &object.Error{Op: "read", Key: key, Kind: object.Mismatch, Status: 416, Code: "InvalidRange", Length: length}
	}
	if to < 0 || to > length {
		to = length
	}
	// Bytes once written never change (data only grows, Put and Truncate make
	// new slices), so the reader needs no copy.
	p := o.data[from:to:to]
	if f.Cut > 0 && f.Cut <= len(p) {
		after := f.After
		if after == nil {
			after = &object.Error{Err: errors.New("connection lost (planted)")}
		}
		return io.NopCloser(io.MultiReader(bytes.NewReader(p[:f.Cut]), failing{fill(after, "read", key)})), nil
	}
	return io.NopCloser(bytes.NewReader(p)), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// List calls fn for every object whose key starts with prefix, in ascending
// byte order of the keys, as they were when List began. fn's error ends the
// listing and is returned as it is.
func (s *Store) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	f, err := s.begin(ctx, "list", prefix)
	if err != nil {
		return err
	}
	s.mu.Lock()
	var entries []object.Entry
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if strings.HasPrefix(key, prefix) {
			o := s.objects[key]
			entries = append(entries, object.Entry{Key: key, Size: int64(len(o.data)), Modified: o.modified})
		}
	}
	s.settle()
	s.mu.Unlock()
	if f.After != nil {
		return fill(f.After, "list", prefix)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return &object.Error{Op: "list", Key: prefix, Kind: object.InDoubt, Err: err}
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}
