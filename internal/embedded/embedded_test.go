package embedded_test

import (
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/embedded"
	"ossuary/internal/embedded/embeddedtest"
)

func TestRestartKeepsStreams(t *testing.T) {
	o := embedded.Options{StoreDir: t.TempDir(), Port: embedded.RandomPort}
	for round := range 2 {
		s, err := embedded.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), "s", nil); err != nil {
				t.Fatal(err)
			}
		}
		st, err := js.Stream(t.Context(), "S")
		if err != nil {
			t.Fatal(err)
		}
		if n := st.CachedInfo().State.LastSeq; round == 1 && n != 1 {
			t.Fatalf("last sequence %d", n)
		}
		nc.Close()
		s.Shutdown()
		s.Shutdown()
	}
}

func TestInProcessOnly(t *testing.T) {
	s, err := embedded.Start(embedded.Options{StoreDir: t.TempDir(), InProcessOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	if u := s.ClientURL(); u != "" {
		t.Fatal(u)
	}
	_, js := embeddedtest.Connect(t, s)
	if _, err := js.AccountInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = embedded.Start(embedded.Options{StoreDir: t.TempDir(), Port: port})
	if err == nil || !strings.Contains(err.Error(), "cannot listen on 127.0.0.1") {
		t.Fatal(err)
	}
}

// What the server itself finds wrong is told too, and does not end the process.
func TestServerRefuses(t *testing.T) {
	_, err := embedded.Start(embedded.Options{StoreDir: "/dev/null/x", Port: embedded.RandomPort})
	if err == nil || !strings.Contains(err.Error(), "did not start: ") {
		t.Fatal(err)
	}
	if _, err := embedded.Start(embedded.Options{}); err == nil {
		t.Fatal("no store directory was taken")
	}
}
