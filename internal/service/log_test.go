package service

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/ossemu"
)

// openLogged is open with a log to look at.
func openLogged(t *testing.T, change func(*config.Config)) (*Service, *logLines) {
	t.Helper()
	cfg, log := openConfig(t), new(logLines)
	cfg.HTTP.Listen = "127.0.0.1:0"
	if change != nil {
		change(cfg)
	}
	s, err := Open(context.Background(), cfg, zerolog.New(log).Level(zerolog.InfoLevel).With().Timestamp().Logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, log
}

// A run without incidents says that it began, what it reads, and that it stopped;
// however much it archives.
func TestLogIsQuietWhenAllIsWell(t *testing.T) {
	t.Parallel()
	s, log := openLogged(t, nil)
	stop := run(t, s)
	for n := range uint64(20) {
		publish(t, s.js, 50)
		eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == 50*(n+1) })
	}
	if _, err := stop(); err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) > 8 {
		t.Errorf("%d lines:\n%s", len(lines), log)
	}
	for _, l := range lines {
		var entry struct{ Level, Time, Message string }
		if err := json.Unmarshal([]byte(l), &entry); err != nil || entry.Time == "" || entry.Message == "" {
			t.Errorf("%s: %v", l, err)
		}
		// The test's stream has one replica and the server no sync_interval, and that is said.
		if entry.Level != "info" && entry.Message != "stream settings" {
			t.Errorf("nothing went wrong, and this is said: %s", l)
		}
	}
}

// As many dead letters as there are events do not make as many lines.
func TestDeadLettersDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	s, log := openLogged(t, func(c *config.Config) { c.Limits.MaxEvent = 5 })
	stop := run(t, s)
	publish(t, s.js, 200)
	eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == 200 })
	if got, _ := one(t, scrape(t, s), "ossuary_dead_letters_total"); got != 200 {
		t.Errorf("%v dead letters are counted, want 200", got)
	}
	if _, err := stop(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "dead letters"); n == 0 || n > 25 {
		t.Errorf("%d lines for 200 dead letters", n)
	}
}

// A refusal of the store shows in the metrics by what a person has to look at,
// while it lasts, and in one line of the log.
func TestHoldIsSeen(t *testing.T) {
	t.Parallel()
	s, log := openLogged(t, nil)
	stop := run(t, s)
	id, err := s.local.oss.AddFault(ossemu.Rule{Op: "append", Key: "events/*", Action: "error", Status: 403, Code: "AccessDenied"})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s.js, 100)
	is := func(name string, want float64, labels ...string) bool {
		got, ok := one(t, scrape(t, s), name, labels...)
		return ok && got == want
	}
	eventually(t, "held", func() bool { return is("ossuary_series_held", 1, "reason", "denied") })
	eventually(t, "not ready", func() bool { return is("ossuary_ready", 0) && is("ossuary_not_ready_reasons", 1, "what", "series") })
	eventually(t, "lag", func() bool {
		lag, ok := one(t, scrape(t, s), "ossuary_lag_seconds")
		return ok && lag > 0 && is("ossuary_unarchived_events", 100)
	})
	if got, _ := one(t, scrape(t, s), "ossuary_store_requests_total", "op", "append", "outcome", "refused"); got == 0 {
		t.Error("no append is said to be refused")
	}
	s.local.oss.ClearFaults(id)
	eventually(t, "well again", func() bool {
		return is("ossuary_series_held", 0, "reason", "denied") && is("ossuary_ready", 1) && is("ossuary_lag_seconds", 0) && is("ossuary_floor_sequence", 100)
	})
	if !is("ossuary_series_holds_total", 1, "reason", "denied") {
		t.Error("the hold is not counted")
	}
	if _, err := stop(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "series is held"); n != 1 {
		t.Errorf("the log says it %d times, want once:\n%s", n, log)
	}
}
