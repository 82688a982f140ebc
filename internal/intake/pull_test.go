package intake

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
	"ossuary/internal/router"
)

// lax takes events without a payload.
type lax struct{ *fakeSink }

func (s lax) Put(ctx context.Context, layout int, t router.Target, e *event.Event, slot uint64) error {
	if len(e.Data) == 0 {
		e.Data = []byte(e.Subject)
	}
	return s.fakeSink.Put(ctx, layout, t, e, slot)
}

func laxly(o *Options) {
	newSink := o.NewSink
	o.NewSink = func(so SinkOptions) (Sink, error) {
		s, err := newSink(so)
		return lax{s.(*fakeSink)}, err
	}
}

// A message may look like the server's own words to a client: no payload, and a
// header named Status.
func TestStatusLikeMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	for _, h := range []nats.Header{
		{"Status": {"200"}}, {"Status": {"404"}, "Description": {"Not Found"}}, {"Status": {"100"}}, {"Status": {"503"}},
		{"Status": {"409"}, "Description": {"Consumer Deleted"}}, {"Status": {"400"}, "Description": {"Bad Request"}},
	} {
		r.publish(3)
		ack, err := r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "events.s0.x", Header: h})
		if err != nil {
			t.Fatal(err)
		}
		r.want["x/s0"] = append(r.want["x/s0"], ack.Sequence)
	}
	p := r.start("first", laxly)
	r.check()
	if got := p.ended(); len(got) != 0 {
		t.Errorf("epochs ended by %v", got)
	}
	p.stop()
}

// headless publishes a message whose headers nobody can read.
func headless(t *testing.T, r *rig, subject string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.srv.ClientURL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := "NATS/1.0\r\nno colon\r\n\r\n"
	fmt.Fprintf(c, "CONNECT {\"headers\":true,\"verbose\":true}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n", subject, len(h), len(h)+len(subject), h, subject)
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		if lines.Text() == "PONG" {
			return
		}
	}
}

// The message at the floor, which a restart looks at, may be one that the client
// library cannot read or takes for an error.
func TestOddMessageAtTheFloor(t *testing.T) {
	t.Parallel()
	for name, publish := range map[string]func(*testing.T, *rig){
		"status": func(t *testing.T, r *rig) {
			if _, err := r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "events.s0.x", Header: nats.Header{"Status": {"200"}}}); err != nil {
				t.Fatal(err)
			}
		},
		"headers that are none": func(t *testing.T, r *rig) { headless(t, r, "events.s0.x") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, jetstream.LimitsPolicy)
			cfg := r.info().Config
			cfg.AllowDirect = name == "status"
			if _, err := r.js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			p := r.start("first", laxly)
			r.publish(3)
			publish(t, r)
			r.want["x/s0"] = append(r.want["x/s0"], 4)
			r.check()
			p.stop()
			r.publish(3)
			p = r.start("second", laxly)
			r.check()
			if got := p.ended(); len(got) != 0 {
				t.Errorf("epochs ended by %v", got)
			}
			p.stop()
		})
	}
}

// The start is looked for by looking at messages.
func TestStartBehindStatusLikeMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, jetstream.LimitsPolicy)
	cfg := r.info().Config
	cfg.AllowDirect = true
	if _, err := r.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "events.s0.x", Header: nats.Header{"Status": {"404"}}}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Millisecond)
	start := Start{Time: time.Now()}
	time.Sleep(2 * time.Millisecond)
	r.publish(5)
	p := r.start("first", func(o *Options) { o.Start = start })
	r.check()
	p.stop()
	if tally, _ := r.state().Tally(router.FirstLane); tally.From != 6 {
		t.Errorf("tally %+v, want it from 6 on", tally)
	}
}

// serve runs a server of which the test needs more than the embedded one shows.
func serve(t *testing.T, dir string, payload int32) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, MaxPayload: payload})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func connect(t *testing.T, s *server.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// rigOn is a rig whose processes are started with startOn.
func rigOn(t *testing.T, s *server.Server) *rig {
	t.Helper()
	r := &rig{t: t, store: objecttest.New(), arch: &fakeArchive{series: map[string][]record{}}, want: map[string][]uint64{}}
	var err error
	if r.js, err = jetstream.New(connect(t, s)); err != nil {
		t.Fatal(err)
	}
	r.stream(jetstream.LimitsPolicy)
	return r
}

// A message may be larger than what the server takes by now: its limit was
// lowered, or a leaf node stands between that has another.
func TestMessageLargerThanAPull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := serve(t, dir, 32<<20)
	r := rigOn(t, big)
	for _, size := range []int{10, 20 << 20, 10, 9 << 20} {
		body := append([]byte("events.s0.x"), bytes.Repeat([]byte("."), size)...)
		ack, err := r.js.Publish(t.Context(), "events.s0.x", body)
		if err != nil {
			t.Fatal(err)
		}
		r.want["x/s0"] = append(r.want["x/s0"], ack.Sequence)
	}
	big.Shutdown()
	big.WaitForShutdown()
	p := r.startOn(connect(t, serve(t, dir, 0)), "first", func(o *Options) {
		o.Layout.MaxEvent, o.AuditEvery = 64<<20, time.Second
		newSink := o.NewSink
		o.NewSink = func(so SinkOptions) (Sink, error) {
			s, err := newSink(so)
			return trimming{s.(*fakeSink)}, err
		}
	})
	r.check()
	p.stop()
	if got := p.ended(); len(got) != 0 {
		t.Errorf("epochs ended by %v", got)
	}
}
