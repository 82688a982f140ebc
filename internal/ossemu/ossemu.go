// Package ossemu is a server that answers as Alibaba Cloud OSS does where
// appendable objects are concerned: put, get with ranges, head, delete, append,
// listings, buckets, V1 and V4 signatures, errors as the service words them.
//
// It serves three ends: the object store of a set-up without a cloud, the double
// of the service in tests, and the place where faults are planted (see Rule).
//
// Objects lie as plain files under DIR/<bucket>/<key>, so that ls and zcat work
// on them. What else must be remembered lies in DIR/.ossuary: a journal of what
// was committed, and objects whose keys make no file name. An append is atomic:
// its bytes are written behind the committed length, and it exists once one
// checksummed line in the journal says so; after a kill at any moment an object
// has all of it or nothing. Against a power failure this holds with
// Options.Fsync only.
//
// A file that is removed by hand is a deleted object. Bytes that are added to a
// file by hand while the server runs, or while it was stopped cleanly, become
// part of the object, as foreign bytes; after a kill they cannot be told from a
// torn append and are cut off. A file that is laid into a bucket's directory by
// hand becomes an appendable object when the server starts or the key is asked
// for. On a file system that folds case, keys that differ in nothing else meet
// in one file.
//
// Not here: versioning, ACLs, multipart uploads, copies, lifecycle, encryption.
// It is no server for the open net: it has no TLS and few limits.
package ossemu

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// MaxObject is the length past which an object takes no append (5 GB).
const MaxObject = 5_000_000_000

// Options of a server. The zero value keeps everything in memory and checks no
// signatures.
type Options struct {
	Dir   string // where objects lie; "" keeps them in memory
	Fsync bool   // force each change to the disk before it is confirmed

	// Credentials are the secrets by access key id. None at all: signatures
	// are not checked and anonymous requests are served.
	Credentials   map[string]string
	SecurityToken string // if set, requests must carry it (as with STS)
	Region        string // cn-hangzhou; if set, V4 signatures for others are refused
	RefuseV1      bool   // refuse V1 signatures, as new accounts and buckets do

	// Domain is a host name under which buckets are subdomains; besides it
	// localhost is. On any other host the bucket is the path's first part.
	Domain  string
	Buckets []string // to exist from the start

	MaxObject int64 // 0: MaxObject
	// Admin serves faults and counters under /_ossemu/, to anybody.
	Admin bool
	Seed  uint64 // of faults by probability
	Log   zerolog.Logger
	Now   func() time.Time // nil: time.Now
}

// Server is an emulator. It is safe for concurrent use.
type Server struct {
	opt    Options
	store  *store
	faults *faults

	mu     sync.Mutex
	http   []*http.Server
	closed bool
}

// New opens the directory, repairs what a kill left half done, and makes a
// server. Only one server at a time may use a directory.
func New(o Options) (*Server, error) {
	if o.MaxObject <= 0 {
		o.MaxObject = MaxObject
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Domain = strings.ToLower(o.Domain)
	st, err := openStore(o)
	if err != nil {
		return nil, err
	}
	s := &Server{opt: o, store: st, faults: newFaults(o.Seed)}
	for _, b := range o.Buckets {
		if err := s.CreateBucket(b); err != nil {
			return nil, errors.Join(err, st.close())
		}
	}
	return s, nil
}

// CreateBucket creates a bucket, unless it is there.
func (s *Server) CreateBucket(name string) error {
	if !validBucket(name) {
		return fmt.Errorf("bucket %q: 3 to 63 of a-z, 0-9 and -, with no - at either end", name)
	}
	return s.store.createBucket(name)
}

// Handler serves the protocol over any HTTP server.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Serve accepts connections on l until Close; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	h := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       60 * time.Second, // as the service
		MaxHeaderBytes:    64 << 10,
		// Faults cut connections on purpose; nothing here is news.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	s.http = append(s.http, h)
	s.mu.Unlock()
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// closeGrace is how long Close lets requests finish.
const closeGrace = 3 * time.Second

// Close stops serving and closes the store. Requests in flight get a moment to
// finish.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	servers := s.http
	s.mu.Unlock()
	s.faults.drop()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	for _, h := range servers {
		if h.Shutdown(ctx) != nil {
			h.Close()
		}
	}
	return s.store.close()
}

// AddFault plants a fault; it returns the rule's id.
func (s *Server) AddFault(r Rule) (string, error) { return s.faults.add(r) }

// ClearFaults removes the rule with this id, or all if id is "".
func (s *Server) ClearFaults(id string) { s.faults.clear(id) }

// Faults returns the rules with how often they have matched and fired.
func (s *Server) Faults() []Rule { return s.faults.list() }

// Counters returns the number of requests by operation, faults included.
func (s *Server) Counters() map[string]uint64 { return s.faults.counters() }

// Arrive lets appends that were held back by a late fault arrive now.
func (s *Server) Arrive() { s.faults.arrive(s.faults.mark()) }

// IsLoopback says whether addr (host:port, as for net.Listen) is reachable from
// this machine only.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func newRequestID() string {
	var p [12]byte
	rand.Read(p[:]) // never fails
	return strings.ToUpper(hex.EncodeToString(p[:]))
}
