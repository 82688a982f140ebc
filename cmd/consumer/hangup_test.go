//go:build unix

package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ossuary/internal/service"
)

// SIGHUP takes a changed file, and a bad one changes nothing.
func TestHangup(t *testing.T) {
	w := newWorld(t)
	w.createStream(t)
	base, stop := w.start(t)
	now := func() service.Status {
		s, _ := status(base)
		if s.Configuration == nil {
			s.Configuration = new(service.Reloads) // nothing answers yet
		}
		return s
	}
	eventually(t, "the service runs", func() bool { return len(now().Lanes) == 1 && now().Lanes[0].State == "running" })
	before := now()
	change := func(from, to string) {
		t.Helper()
		text, err := os.ReadFile(w.config)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), from) {
			t.Fatalf("%q is not in\n%s", from, text)
		}
		if err := os.WriteFile(w.config, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	change("linger: 20ms", "linger: soon")
	eventually(t, "the bad file is told of", func() bool { return now().Configuration.Bad == 1 })
	if c := now().Configuration; c.Generation != 1 || !strings.Contains(c.LastError, w.config+":16:25: sources[0].routes[0].flush.linger: \"soon\" is no duration") {
		t.Errorf("%+v", c)
	}
	change("linger: soon", "linger: 30ms")
	eventually(t, "the good file is taken", func() bool { return now().Configuration.Generation == 2 })
	change("log: {format: json}", "log: {format: json, level: warn}")
	eventually(t, "what needs a restart is told of", func() bool {
		return slices.Equal(now().Configuration.NeedsRestart, []string{"log.level"})
	})
	if after := now(); after.Owner != before.Owner || !after.Started.Equal(before.Started) || after.Configuration.LastError != "" {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if code, log := stop(); code != exitGood || !strings.Contains(log, "not in force before the process is started again") {
		t.Errorf("exit %d, log\n%s", code, log)
	}
}
