//go:build unix

package rig

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/reader"
)

// natsEnv tells a process of this binary that it is a NATS server, and which.
const natsEnv = "OSSUARY_RIG_NATS"

// natsOptions are what a child needs to know.
type natsOptions struct {
	Dir     string
	Name    string
	Port    int
	Monitor int // HTTP port; 0: none

	ClusterPort int      // 0: a single server
	Routes      []string // the other nodes' cluster ports, as URLs
}

// BeNATS turns a process that was started as a NATS server into one, and does not
// return then. It is the first call of every program that uses the rig.
func BeNATS() {
	if text := os.Getenv(natsEnv); text != "" {
		if err := serveNATS(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

func serveNATS(text string) error {
	var o natsOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	so := &server.Options{
		ServerName: o.Name, Host: "127.0.0.1", Port: o.Port, HTTPHost: "127.0.0.1", HTTPPort: o.Monitor,
		JetStream: true, StoreDir: o.Dir, NoSigs: true,
	}
	if o.ClusterPort > 0 {
		// No advertising: clients shall stay with the proxies that they were given.
		so.Cluster = server.ClusterOpts{Name: "rig", Host: "127.0.0.1", Port: o.ClusterPort, NoAdvertise: true}
		so.RoutesStr = strings.Join(o.Routes, ",")
		so.Routes = server.RoutesFromStr(so.RoutesStr)
	}
	s, err := server.NewServer(so)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	return nil // as rough as a kill; the store must bear it
}

// NATS is a NATS server with JetStream and a file store in a process of its own.
// Kill and Start leave ports and files as they are.
type NATS struct {
	*Process
	Dir     string // its files
	Port    int
	monitor int
	cluster bool
}

// NewNATS makes a single server without starting it. name must be unlike others'.
func NewNATS(t T, dir, name string) *NATS {
	t.Helper()
	return newNATS(t, dir, natsOptions{Name: name, Port: FreePort(t), Monitor: FreePort(t)})
}

// NewCluster makes the nodes of a cluster without starting them.
func NewCluster(t T, dir string, nodes int) []*NATS {
	t.Helper()
	ports, urls := make([]int, nodes), make([]string, nodes)
	for i := range nodes {
		ports[i] = FreePort(t)
		urls[i] = fmt.Sprintf("nats://127.0.0.1:%d", ports[i])
	}
	out := make([]*NATS, nodes)
	for i := range nodes {
		var others []string
		for j, u := range urls {
			if j != i {
				others = append(others, u)
			}
		}
		out[i] = newNATS(t, dir, natsOptions{Name: fmt.Sprintf("n%d", i+1), Port: FreePort(t), Monitor: FreePort(t), ClusterPort: ports[i], Routes: others})
	}
	return out
}

func newNATS(t T, dir string, o natsOptions) *NATS {
	o.Dir = filepath.Join(dir, o.Name)
	s := &NATS{Dir: o.Dir, Port: o.Port, monitor: o.Monitor, cluster: o.ClusterPort > 0}
	s.Process = NewProcess(t, o.Name, filepath.Join(dir, o.Name+".log"), func() *exec.Cmd {
		cmd := exec.Command(self())
		cmd.Env = append(os.Environ(), natsEnv+"="+string(Must(json.Marshal(o))))
		return cmd
	})
	return s
}

// URL is where clients connect.
func (s *NATS) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.Port) }

// Start starts a single server and returns when JetStream serves.
func (s *NATS) Start() {
	s.t.Helper()
	s.Process.Start()
	s.Serves()
}

// Serves waits until JetStream answers here.
func (s *NATS) Serves() {
	s.t.Helper()
	Eventually(s.t, 60*time.Second, s.Name+" serves", func() (bool, string) {
		if !s.Alive() {
			s.t.Fatalf("%s ended: %s", s.Name, s.LogTail(10))
		}
		nc, err := nats.Connect(s.URL(), nats.Timeout(2*time.Second), nats.NoReconnect())
		if err != nil {
			return false, err.Error()
		}
		defer nc.Close()
		js := Must(jetstream.New(nc))
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err = js.AccountInfo(ctx)
		return err == nil, fmt.Sprint(err)
	})
}

// quiet keeps a client from printing that its server is away.
var quiet = nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})

// Connect opens a connection of the proof's own, which outlives outages.
func Connect(t T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Messages reads what a stream holds now; series says where each belongs.
func Messages(ctx context.Context, js jetstream.JetStream, stream string, series func(subject string, headers map[string][]string, ts time.Time, seq uint64) string) (map[uint64]reader.Expected, error) {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	state := s.CachedInfo().State
	want := make(map[uint64]reader.Expected, state.Msgs)
	if state.Msgs == 0 {
		return want, nil
	}
	cons, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	it, err := cons.Messages()
	if err != nil {
		return nil, err
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("reading stream %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		headers := map[string][]string(m.Headers())
		want[meta.Sequence.Stream] = reader.Expected{
			Series:  series(m.Subject(), headers, meta.Timestamp, meta.Sequence.Stream),
			Subject: m.Subject(), Time: meta.Timestamp, Headers: headers, Payload: sha256.Sum256(m.Data()),
		}
		if meta.NumPending == 0 {
			return want, nil
		}
	}
}

// Monitor is where the server's monitoring answers.
func (s *NATS) Monitor() string { return fmt.Sprintf("http://127.0.0.1:%d", s.monitor) }
