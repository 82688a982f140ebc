package service

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/ossemu"
)

// open opens a service with servers of its own, which archives EVENTS.
func open(t *testing.T, change func(*config.Config)) *Service {
	t.Helper()
	cfg := openConfig(t)
	if change != nil {
		change(cfg)
	}
	s, err := Open(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func openConfig(t *testing.T) *config.Config {
	cfg := config.Default()
	cfg.Embedded.DataDir = t.TempDir()
	cfg.NATS.URLs, cfg.OSS.Endpoint, cfg.HTTP.Listen = []string{"nats://127.0.0.1:0"}, "http://127.0.0.1:0", ""
	cfg.Sources[0].Routes[0].Flush.Linger = 10 * time.Millisecond
	cfg.Intake.Audit = time.Second
	return cfg
}

// run runs s until stop is called, which returns what Run did and how long the
// end of it took.
func run(t *testing.T, s *Service) (stop func() (time.Duration, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "ready", func() bool { return len(s.NotReady()) == 0 })
	return func() (time.Duration, error) {
		start := time.Now()
		cancel()
		select {
		case err := <-done:
			return time.Since(start), err
		case <-time.After(30 * time.Second):
			buf := make([]byte, 1<<20)
			t.Fatalf("Run does not end\n%s", buf[:runtime.Stack(buf, true)])
			return 0, nil
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func publish(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	for i := range n {
		if _, err := js.PublishAsync("events.x", fmt.Appendf(nil, `{"i":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(10 * time.Second):
		t.Fatal("publishing takes too long")
	}
}

// All is archived, and then the control log takes nothing: the next events wait
// unseen by any series, and the archive must not call itself ready.
func TestNotReadyWithoutControlLog(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	stop := run(t, s)
	id, err := s.local.oss.AddFault(ossemu.Rule{Op: "append", Key: "*/control/*", Action: "error", Status: 403, Code: "AccessDenied"})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s.js, 3000) // the first grant is for 1000
	eventually(t, "not ready for the control log", func() bool {
		for _, r := range s.NotReady() {
			if r.What == "lane" && strings.Contains(r.Reason, "AccessDenied") {
				return true
			}
		}
		return false
	})
	s.local.oss.ClearFaults(id)
	eventually(t, "ready again", func() bool { return len(s.NotReady()) == 0 })
	eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == 3000 })
	if _, err := stop(); err != nil {
		t.Error(err)
	}
}

// A stop ends within its time whatever is away, and leaves nothing running.
func TestStopWhileServersAreAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*testing.T, *Service){
		"nothing": func(*testing.T, *Service) {},
		"the store": func(t *testing.T, s *Service) {
			if _, err := s.local.oss.AddFault(ossemu.Rule{Action: "delay", Delay: ossemu.Duration(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			publish(t, s.js, 100)
		},
		"both": func(t *testing.T, s *Service) {
			if _, err := s.local.oss.AddFault(ossemu.Rule{Action: "delay", Delay: ossemu.Duration(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			publish(t, s.js, 50)
			time.Sleep(50 * time.Millisecond)
			s.local.nats.Shutdown()
		},
		"NATS": func(_ *testing.T, s *Service) { s.local.nats.Shutdown() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, func(c *config.Config) { c.Intake.DrainTimeout = time.Second })
			stop := run(t, s)
			publish(t, s.js, 100)
			away(t, s)
			took, err := stop()
			if err != nil || took > 5*time.Second {
				t.Errorf("the end took %s: %v", took, err)
			}
			start := time.Now()
			s.Close()
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("closing took %s", d)
			}
		})
	}
}
