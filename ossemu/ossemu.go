// Package ossemu runs an emulator of Alibaba Cloud OSS in a Go program, above all
// in tests:
//
//	srv := ossemu.Start(t, ossemu.Options{})
//	client, err := oss.New(srv.Endpoint, srv.AccessKeyID, srv.AccessKeySecret)
//
// It listens on a free port of the loopback, keeps everything in memory unless
// Options.Dir says otherwise, checks signatures, has one bucket, srv.Bucket, and
// ends with the test. Appendable objects are what it is best at: every header,
// position, error and limit of AppendObject, as the vendor's documents and the
// test suites of his SDKs have them; besides, the operations on objects and
// buckets that clients need around them. Faults are planted with
// [Server.AddFault].
package ossemu

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"ossuary/internal/ossemu"
)

type (
	// Options of a server; the zero value is a good one.
	Options = ossemu.Options
	// Key is a secret with what makes it temporary.
	Key = ossemu.Key
	// Rule plants a fault.
	Rule = ossemu.Rule
	// Duration is a time.Duration as rules have it.
	Duration = ossemu.Duration
	// Variants choose where documents disagree.
	Variants = ossemu.Variants
)

// What a server has that was started without credentials, buckets and region.
const (
	AccessKeyID     = "test-id"
	AccessKeySecret = "test-secret"
	Bucket          = "test-bucket"
	Region          = "cn-hangzhou"
)

// Server is a running emulator.
type Server struct {
	*ossemu.Server
	Endpoint        string // http://127.0.0.1:port
	AccessKeyID     string // one of Options.Credentials
	AccessKeySecret string
	Bucket          string // the first of Options.Buckets
	Region          string

	served chan error
	closed sync.Once
	err    error // of the close
}

// Run starts an emulator on a free port of the loopback; the caller closes it.
func Run(o Options) (*Server, error) {
	if o.Credentials == nil { // an empty map turns signatures off
		o.Credentials = map[string]string{AccessKeyID: AccessKeySecret}
	}
	if o.Buckets == nil {
		o.Buckets = []string{Bucket}
	}
	emu, err := ossemu.New(o)
	if err != nil {
		return nil, fmt.Errorf("starting an emulator: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting an emulator: %w", err), emu.Close())
	}
	s := &Server{Server: emu, Endpoint: "http://" + l.Addr().String(), Region: o.Region, served: make(chan error, 1)}
	if s.Region == "" {
		s.Region = Region
	}
	for s.AccessKeyID, s.AccessKeySecret = range o.Credentials {
		break
	}
	if len(o.Buckets) > 0 {
		s.Bucket = o.Buckets[0]
	}
	go func() { s.served <- emu.Serve(l) }()
	return s, nil
}

// Close ends the server. Requests in flight get a moment to finish.
func (s *Server) Close() error {
	s.closed.Do(func() { s.err = errors.Join(s.Server.Close(), <-s.served) })
	return s.err
}

// Start runs an emulator until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
