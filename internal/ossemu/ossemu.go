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
// On a versioned bucket the first version of a key has the plain file, and later
// ones lie in DIR/.ossuary. Multipart uploads that are not completed do not
// survive the server.
//
// Not here: what lifecycle rules would do, policies and RAM, images, symbolic
// links, replication. Encryption is noted, not done. It is no server for the open
// net: it has no TLS and few limits.
package ossemu

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
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

	// Credentials are the secrets by access key id; Keys are more of them, with
	// what makes them temporary. None at all: signatures are not checked and
	// anonymous requests are served. SetKey changes them while the server runs.
	Credentials   map[string]string
	Keys          map[string]Key
	SecurityToken string // if set, requests with Credentials must carry it (as with STS)
	Region        string // cn-hangzhou; if set, V4 signatures for others are refused
	RefuseV1      bool   // refuse V1 signatures, as new accounts and buckets do

	// Domain is a host name under which buckets are subdomains; besides it
	// localhost is. On any other host the bucket is the path's first part, but
	// for those of CNames, which are a bucket's own.
	Domain string
	CNames map[string]string // bucket by host name
	// RefusePathStyle refuses requests that name the bucket in the path, as the
	// service does everywhere but at IP addresses; here it does so there too.
	RefusePathStyle bool
	// Elsewhere are buckets of other regions, with the endpoint that has them.
	Elsewhere map[string]string
	Buckets   []string // to exist from the start

	MaxObject int64 // 0: MaxObject
	Variants  Variants
	// Admin serves faults and counters under /_ossemu/, to anybody.
	Admin bool
	Seed  uint64 // of faults by probability
	Log   zerolog.Logger
	// RequestLog gets one line of JSON for each request, see Entry.
	RequestLog io.Writer
	Now        func() time.Time // nil: time.Now
}

// Key is an access key's secret. One with a token is temporary: requests must
// carry the token, and are refused from Expires on, if that is set.
type Key struct {
	Secret  string
	Token   string
	Expires time.Time
}

// Server is an emulator. It is safe for concurrent use.
type Server struct {
	opt      Options
	store    *store
	uploads  uploads
	faults   *faults
	requests requestLog

	keysMu sync.RWMutex
	keys   map[string]Key // guarded by keysMu
	open   bool           // guarded by keysMu; there has never been a key

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
	keys := maps.Clone(o.Keys)
	if keys == nil {
		keys = map[string]Key{}
	}
	for id, secret := range o.Credentials {
		keys[id] = Key{Secret: secret, Token: o.SecurityToken}
	}
	st, err := openStore(o)
	if err != nil {
		return nil, err
	}
	s := &Server{opt: o, store: st, uploads: uploads{m: map[string]*upload{}}, faults: newFaults(o.Seed), keys: keys, open: len(keys) == 0}
	s.requests.w, s.requests.log = o.RequestLog, o.Log
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
	return s.store.createBucket(name, func(*bucketState) {})
}

// SetKey adds an access key, or changes it: requests from now on are checked
// against it.
func (s *Server) SetKey(id string, k Key) {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	s.keys[id], s.open = k, false
}

// RemoveKey makes an access key unknown.
func (s *Server) RemoveKey(id string) {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	delete(s.keys, id)
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

// newID returns what nothing else is called.
func newID() string {
	var p [12]byte
	rand.Read(p[:]) // never fails
	return strings.ToUpper(hex.EncodeToString(p[:]))
}
