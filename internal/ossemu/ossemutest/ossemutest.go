// Package ossemutest starts emulators for tests.
package ossemutest

import (
	"errors"
	"net"
	"testing"

	"ossuary/internal/ossemu"
)

// The access key and bucket of a server that was started without any.
const (
	AccessKeyID     = "test-id"
	AccessKeySecret = "test-secret"
	Bucket          = "test-bucket"
	Region          = "cn-hangzhou"
)

// Server is a running emulator.
type Server struct {
	*ossemu.Server
	Endpoint string // http://127.0.0.1:port
}

// Start runs an emulator on a free port of the loopback until the test ends.
// Without credentials and buckets in o it has those of this package.
func Start(t testing.TB, o ossemu.Options) *Server {
	t.Helper()
	if o.Credentials == nil {
		o.Credentials = map[string]string{AccessKeyID: AccessKeySecret}
	}
	if o.Buckets == nil {
		o.Buckets = []string{Bucket}
	}
	s, err := ossemu.New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(errors.Join(err, s.Close()))
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &Server{s, "http://" + l.Addr().String()}
}
