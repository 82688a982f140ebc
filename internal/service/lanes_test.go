package service

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/intake"
)

// fleet is a stream that its server splits into partitions, and a configuration
// that has a lane for each.
type fleet struct {
	cfg   *config.Config
	lanes int
	nc    *nats.Conn
	js    jetstream.JetStream
}

func newFleet(t *testing.T, lanes int, change func(*config.Config)) *fleet {
	t.Helper()
	cfg := config.Default()
	cfg.Embedded.DataDir = t.TempDir()
	cfg.HTTP.Listen = ""
	cfg.Intake.Audit = time.Second
	r := cfg.Sources[0].Routes[0]
	r.Name, r.Subjects, r.Series = "devices", []string{"dev.*.>"}, "{{lane}}/{{wildcard(1)}}"
	r.Flush.Linger = 10 * time.Millisecond
	cfg.Sources = []config.Source{{Stream: "DEVICES", Lanes: lanes, Routes: []config.Route{r}}}
	local, err := StartLocalAnywhere(cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(local.Close)
	cfg.Embedded.Enabled = false
	if change != nil {
		change(cfg)
	}
	f := &fleet{cfg: cfg, lanes: lanes}
	if f.nc, f.js, err = ConnectNATS(t.Context(), cfg, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.nc.Close)
	if _, err := f.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "DEVICES", Subjects: []string{"dev.>"},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: "dev.*.>", Destination: fmt.Sprintf("{{partition(%d,1)}}.dev.{{wildcard(1)}}.>", lanes)}}); err != nil {
		t.Fatal(err)
	}
	return f
}

// instance opens one more service, as a process of its own would.
func (f *fleet) instance(t *testing.T) *Service {
	t.Helper()
	s, err := Open(t.Context(), f.cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (f *fleet) publish(t *testing.T, devices, each int) {
	t.Helper()
	for i := range devices * each {
		if _, err := f.js.PublishAsync(fmt.Sprintf("dev.%d.reading", i%devices), fmt.Appendf(nil, `{"i":%d}`, i/devices), jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-f.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("publishing takes too long")
	}
}

// check verifies the archive, which must hold n events.
func (f *fleet) check(t *testing.T, n uint64) *archive.Report {
	t.Helper()
	a, err := OpenArchive(t.Context(), f.cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	r, err := a.Verify(t.Context(), time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 || r.Events != n {
		t.Errorf("%d events, want %d: %+v", r.Events, n, r.Problems)
	}
	return r
}

func running(s *Service) (n int) {
	for _, l := range s.lanes {
		if l.intake.Status().State == intake.Running {
			n++
		}
	}
	return n
}

func archived(services ...*Service) (n int64) {
	for _, s := range services {
		for _, l := range s.Report().Lanes {
			n += l.Archived
		}
	}
	return n
}

// begin runs s until stop is called, and does not wait for it to be ready: an
// instance that has its share of lanes is not before others have the rest.
func begin(t *testing.T, s *Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// patiently is eventually for what takes many requests of a machine that may be busy.
func patiently(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// A hundred lanes on one stream, shared by instances with the same configuration:
// each takes no more than it may, everything is archived once and in order, and
// when one goes the others have room for its lanes.
func TestManyLanes(t *testing.T) {
	lanes, devices := 100, 200
	if raceEnabled {
		lanes, devices = 16, 40
	}
	most, each := lanes/2+lanes/8, 2
	t.Parallel()
	f := newFleet(t, lanes, func(c *config.Config) { c.Lease.Lanes = most })
	first, second := f.instance(t), f.instance(t)
	stopFirst := begin(t, first)
	patiently(t, "the first has as many lanes as it may", func() bool { return running(first) == most })
	stopSecond := begin(t, second)
	patiently(t, "the second has the others", func() bool { return running(second) == lanes-most })
	patiently(t, "both are ready", func() bool { return len(first.NotReady())+len(second.NotReady()) == 0 })
	f.publish(t, devices, each)
	patiently(t, "all is archived", func() bool { return archived(first, second) == int64(devices*each) })
	if archived(first) == 0 || archived(second) == 0 {
		t.Error("one instance did all the work")
	}

	stopFirst()
	patiently(t, "the second takes over what it may", func() bool { return running(second) == most })
	third := f.instance(t)
	stopThird := begin(t, third)
	patiently(t, "the third has the rest", func() bool { return running(second)+running(third) == lanes })
	f.publish(t, devices, each)
	patiently(t, "all is archived", func() bool { return archived(first, second, third) == int64(2*devices*each) })
	stopSecond()
	stopThird()
	if r := f.check(t, uint64(2*devices*each)); r.Segments < devices {
		t.Errorf("%d segments, want one for each of %d devices", r.Segments, devices)
	}
}

// Lanes for which no instance has room are told of.
func TestTooFewSeats(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, func(c *config.Config) { c.Lease.Lanes, c.Lease.TTL = 2, 2*time.Second })
	s := f.instance(t)
	stop := begin(t, s)
	patiently(t, "not ready for the lane that nobody has", func() bool {
		why := s.NotReady()
		return len(why) == 1 && strings.Contains(why[0].Reason, "lease.lanes")
	})
	other := f.instance(t)
	stopOther := begin(t, other)
	patiently(t, "both are ready", func() bool { return len(s.NotReady())+len(other.NotReady()) == 0 && running(s)+running(other) == 3 })
	stopOther()
	stop()
}

// What a lane costs that has nothing to do: messages at the server by kind,
// memory, goroutines.
func TestIdleLanes(t *testing.T) {
	if os.Getenv("OSSUARY_LONG") == "" {
		t.Skip("measures for a while; set OSSUARY_LONG=1")
	}
	const lanes, seconds = 100, 20
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for _, standby := range []bool{false, true} {
		f := newFleet(t, lanes, func(c *config.Config) { c.Intake.Audit = 5 * time.Second })
		first := f.instance(t)
		run(t, first)
		eventually(t, "all lanes run", func() bool { return running(first) == lanes })
		f.publish(t, lanes*5, 1)
		eventually(t, "all is archived", func() bool { return archived(first) == lanes*5 })
		before, routines := heap(), runtime.NumGoroutine()
		if standby {
			s := f.instance(t)
			run(t, s)
			eventually(t, "it stands by", func() bool {
				n := 0
				for _, l := range s.lanes {
					if l.intake.Status().State == intake.Standby {
						n++
					}
				}
				return n == lanes
			})
			t.Logf("a lane that stands by takes %.0f KiB of heap and %.1f goroutines", (heap()-before)/lanes/1024, float64(runtime.NumGoroutine()-routines)/lanes)
		}
		var mu sync.Mutex
		kinds := map[string]int{}
		sub, err := f.nc.Subscribe(">", func(m *nats.Msg) {
			kind := m.Subject
			switch tokens := strings.Split(m.Subject, "."); {
			case strings.HasPrefix(m.Subject, "$JS.API."):
				kind = strings.Join(slices.DeleteFunc(tokens, func(s string) bool {
					return s != strings.ToUpper(s) || strings.ContainsAny(s, "0123456789") || s == "DEVICES"
				}), ".")
			case strings.HasPrefix(m.Subject, "$KV."):
				kind = "$KV"
			case strings.HasPrefix(m.Subject, "$JS.ACK"):
				kind = "ack"
			case strings.HasPrefix(m.Subject, "_INBOX"):
				kind = "answers, heartbeats"
			}
			mu.Lock()
			kinds[kind]++
			mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(seconds * time.Second)
		_ = sub.Unsubscribe()
		mu.Lock()
		for _, k := range slices.Sorted(maps.Keys(kinds)) {
			t.Logf("standby %v: %-40s %6.3f a second and lane", standby, k, float64(kinds[k])/seconds/lanes)
		}
		mu.Unlock()
		if !standby {
			t.Logf("a lane that runs: %.0f KiB of heap, %.1f goroutines, client and server", before/lanes/1024, float64(routines)/lanes)
		}
		first.Close()
	}
}
