// Package embeddedtest starts NATS servers for tests.
package embeddedtest

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/embedded"
)

// Start runs a server with JetStream on a random port of 127.0.0.1, with its
// files in the test's temporary directory, until the test ends.
func Start(tb testing.TB) *embedded.Server {
	tb.Helper()
	s, err := embedded.Start(embedded.Options{StoreDir: tb.TempDir(), Port: embedded.RandomPort, ServerName: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Shutdown)
	return s
}

// Connect opens a connection to s that is closed when the test ends.
func Connect(tb testing.TB, s *embedded.Server) (*nats.Conn, jetstream.JetStream) {
	tb.Helper()
	nc, err := s.Connect()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	return nc, js
}

// JetStream starts a server and connects to it.
func JetStream(tb testing.TB) jetstream.JetStream {
	tb.Helper()
	_, js := Connect(tb, Start(tb))
	return js
}

// CreateStream makes a stream, also one whose name was just given free: the server
// removes a deleted stream's files behind the answer, and refuses to make another while
// it does.
func CreateStream(tb testing.TB, js jetstream.JetStream, cfg jetstream.StreamConfig) {
	tb.Helper()
	const creatingStore jetstream.ErrorCode = 10049
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		_, err := js.CreateStream(tb.Context(), cfg)
		var refused *jetstream.APIError
		switch {
		case err == nil:
			return
		case !errors.As(err, &refused) || refused.ErrorCode != creatingStore || time.Now().After(end):
			tb.Fatalf("creating stream %s: %v", cfg.Name, err)
		}
	}
}
