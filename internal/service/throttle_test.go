package service

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/archive"
	"ossuary/internal/ossemu"
)

// Where the store wants to be left alone it is, by appends and by reads alike:
// no request about the same object comes sooner than it said.
func TestThrottlingIsObeyed(t *testing.T) {
	t.Parallel()
	const delay = 1500 * time.Millisecond // longer than any backoff that comes first
	for _, rule := range []ossemu.Rule{
		{Status: 503, Code: "TotalQpsLimitExceeded", Headers: map[string]string{"X-Oss-Qos-Delay-Time": "1500"}},
		{Status: 503, Code: "ServiceUnavailable", Headers: map[string]string{"X-Oss-Qos-Delay-Time": "1500"}},
		{Status: 429, Code: "SlowDown", Headers: map[string]string{"Retry-After": "2"}},
	} {
		t.Run(rule.Code, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var early []time.Duration
			refused := map[string]time.Time{} // when a request about that key was throttled last
			count := 0
			cfg, emu := remote(t, ossemu.Options{}, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					if at, ok := refused[r.URL.Path]; ok && time.Since(at) < delay {
						early = append(early, time.Since(at))
					}
					mu.Unlock()
					st := &status{ResponseWriter: w}
					h.ServeHTTP(st, r)
					mu.Lock()
					defer mu.Unlock()
					if delete(refused, r.URL.Path); st.code == rule.Status {
						count++
						refused[r.URL.Path] = time.Now().Add(-50 * time.Millisecond) // the answer was on its way by then
					}
				})
			})
			s, stop := start(t, cfg)
			publish(t, s.js, 1)
			eventually(t, "the first event is archived", func() bool { return s.Report().Lanes[0].Floor == 1 })
			rule.Action, rule.Key, rule.Count = "error", "events/*", 2
			for _, op := range []string{"append", "head"} {
				rule.Op = op
				if op == "head" {
					rule.Count = 1
				}
				if _, err := emu.AddFault(rule); err != nil {
					t.Fatal(err)
				}
			}
			publish(t, s.js, 50)
			eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == 51 })
			stop()
			wantWhole(t, cfg, 51)
			mu.Lock()
			defer mu.Unlock()
			if len(early) > 0 {
				t.Errorf("requests came %v after the store had asked for %s", early, delay)
			}
			if count < 3 {
				t.Errorf("throttled %d times", count)
			}
		})
	}
}

// The reading commands obey as well.
func TestReadersObeyThrottling(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var early int
	var at time.Time
	cfg, emu := remote(t, ossemu.Options{}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if (strings.Contains(r.URL.Path, "/events/") || r.URL.Query().Has("list-type")) && time.Since(at) < 1400*time.Millisecond {
				early++
			}
			mu.Unlock()
			st := &status{ResponseWriter: w}
			h.ServeHTTP(st, r)
			if st.code == http.StatusServiceUnavailable {
				mu.Lock()
				at = time.Now()
				mu.Unlock()
			}
		})
	})
	s, stop := start(t, cfg)
	publish(t, s.js, 5)
	eventually(t, "archived", func() bool { return s.Report().Lanes[0].Floor == 5 })
	stop()
	a, err := OpenArchive(t.Context(), cfg, zerolog.Nop()) // asks once by itself
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, rule := range []ossemu.Rule{
		{Op: "get", Key: "events/*", Count: 1}, {Op: "head", Key: "events/*", Count: 1},
		{Op: "list", Nth: 1}, {Op: "list", Nth: 3}, // the control logs, and all objects
	} {
		rule.Action, rule.Status, rule.Code = "error", 503, "TotalQpsLimitExceeded"
		rule.Headers = map[string]string{"X-Oss-Qos-Delay-Time": "1500"}
		if _, err := emu.AddFault(rule); err != nil {
			t.Fatal(err)
		}
	}
	r, err := a.Verify(t.Context(), time.Time{}, nil)
	if err != nil || r.Result != archive.OK || r.Events != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	if early > 0 || at.IsZero() {
		t.Errorf("%d requests came too early, the last refusal at %v", early, at)
	}
}

// What begins while the store is asked too much begins later, rather than ending
// and being started again at once: the service, the reading commands and the check.
func TestThrottlingAtTheStart(t *testing.T) {
	t.Parallel()
	const delay = 1500 * time.Millisecond
	var mu sync.Mutex
	var refused time.Time
	var early []time.Duration
	cfg, emu := remote(t, ossemu.Options{}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if d := time.Since(refused); d < delay {
				early = append(early, d)
			}
			mu.Unlock()
			st := &status{ResponseWriter: w}
			h.ServeHTTP(st, r)
			if st.code == http.StatusServiceUnavailable {
				mu.Lock()
				refused = time.Now().Add(-50 * time.Millisecond) // the answer was on its way by then
				mu.Unlock()
			}
		})
	})
	throttle := func(op string) {
		t.Helper()
		if _, err := emu.AddFault(ossemu.Rule{Op: op, Count: 1, Action: "error", Status: 503, Code: "TotalQpsLimitExceeded", Headers: map[string]string{"X-Oss-Qos-Delay-Time": "1500"}}); err != nil {
			t.Fatal(err)
		}
	}
	throttle("list")
	throttle("append")
	got := Check(t.Context(), cfg, zerolog.Nop())
	wantFound(t, got, found{"oss", CheckOK, "may be listed", ""}, found{ownObjects, CheckOK, "", ""})
	throttle("list")
	s, stop := start(t, cfg)
	publish(t, s.js, 1)
	eventually(t, "archived", func() bool { return s.Report().Lanes[0].Floor == 1 })
	stop()
	throttle("list")
	wantWhole(t, cfg, 1)
	mu.Lock()
	defer mu.Unlock()
	if len(early) > 0 {
		t.Errorf("requests came %v after the store had asked for %s", early, delay)
	}
}

// status notes what was answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap lets the emulator hijack connections.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }
