package replay

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// cluster is three servers in this process.
func cluster(t *testing.T) jetstream.JetStream {
	t.Helper()
	ports := make([]int, 3)
	var routes []string
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		l.Close()
	}
	var urls []string
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: server.RoutesFromStr(strings.Join(routes, ","))})
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("a server is not ready")
		}
		urls = append(urls, s.ClientURL())
	}
	nc, err := nats.Connect(strings.Join(urls, ","))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "T", Subjects: []string{"back.>", "else.>"}, AllowDirect: true, Replicas: 3})
		if err == nil {
			return js
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // the cluster has no leader yet
	}
}

// A cluster checks the place of a message at another time than a single server
// does: some of it when the leader proposes it, some when it is applied.
func TestReplayOverTroubleInACluster(t *testing.T) {
	if os.Getenv("OSSUARY_LONG") == "" {
		t.Skip("set OSSUARY_LONG=1: it runs three servers")
	}
	js := cluster(t)
	hits := map[string]int{}
	for seed := range uint64(10) {
		events := sampleEvents(150)
		for i := range events {
			events[i].Sequence += 1000 * seed
		}
		u := &unreliable{JetStream: js, t: t, rand: rand.New(rand.NewPCG(seed, 3)), hits: hits}
		o := options(t, u, events)
		r, err := Run(t.Context(), o)
		if err != nil || r.Published != 150 {
			t.Fatalf("seed %d: %+v %v", seed, r, err)
		}
		for _, h := range u.held {
			_ = js.Conn().PublishMsg(h)
		}
		o.JS = js
		if r, err := Run(t.Context(), o); err != nil || r.Published != 0 {
			t.Fatalf("seed %d: a second replay: %+v %v", seed, r, err)
		}
		wantProven(t, o, 150)
	}
	t.Log(hits)
}
