package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ossuary/internal/intake"
	"ossuary/internal/service"
)

// What a running service does is shown from it, and what one did that has stopped
// from the ledger: the same lanes, floors and series.
func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.createStream(t)
	if _, stderr := wantCode(t, exitUnable, "status", "--config", w.config); !strings.Contains(stderr, "http.listen") || !strings.Contains(stderr, "the ledger cannot be read") {
		t.Errorf("with nothing there: %s", stderr)
	}
	url, stop := w.start(t)
	publish(t, w.js, "orders.eu.a", "orders.eu.b", "orders.us.a", "noise.x", "orders.eu.c")
	eventually(t, "the floor at the stream's end", func() bool {
		st, ok := status(url)
		return ok && len(st.Lanes) == 1 && st.Lanes[0].Floor == 5
	})
	read := func(args ...string) service.Status {
		t.Helper()
		stdout, _ := wantCode(t, exitGood, append([]string{"status", "--config", w.config}, args...)...)
		var st service.Status
		if err := json.Unmarshal([]byte(stdout), &st); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		if len(st.Lanes) != 1 || st.Lanes[0].Floor != 5 || st.Lanes[0].Pending != 0 || st.Lanes[0].FloorTime.IsZero() || len(st.Lanes[0].Series) != 2 {
			t.Fatalf("%v: %+v", args, st)
		}
		return st
	}
	st := read()
	p := st.Lanes[0].Series[0]
	if !strings.HasPrefix(p.Series, "orders/eu/") { // both are appended to at once; the last one stands first
		p = st.Lanes[0].Series[1]
	}
	if st.From != service.FromInstance || !strings.HasPrefix(p.Series, "orders/eu/") || p.Position == 0 || p.Last != 5 || p.Rate <= 0 || p.Route != "orders.*.>" || p.Written.IsZero() {
		t.Errorf("%+v", st)
	}
	stdout, _ := wantCode(t, exitGood, "status", "--json=false", "--config", w.config)
	for _, want := range []string{"archive test", st.Owner, "running for", "orders/us/", "freshness"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if st := read("--ledger"); st.From != service.FromLedger || st.Lanes[0].State != intake.Running || !strings.HasPrefix(st.Lanes[0].Owner, st.Owner) {
		t.Errorf("the ledger while it runs: %+v", st)
	}

	// --watch goes on until it is interrupted.
	ctx, cancel := context.WithCancel(t.Context())
	seen := &counting{want: 3, done: cancel}
	var stderr bytes.Buffer
	if code := run(ctx, []string{"status", "--watch", "--interval", "1ms", "--config", w.config}, seen, &stderr); code != exitGood || seen.n < 3 {
		t.Errorf("--watch: exit %d after %d: %s", code, seen.n, stderr.String())
	}

	if code, stderr := stop(); code != exitGood {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	publish(t, w.js, "orders.eu.d")
	stdout, _ = wantCode(t, exitGood, "status", "--json=false", "--config", w.config)
	for _, want := range []string{"from the ledger", "released", "orders/eu/", "(none)"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	stdout, _ = wantCode(t, exitGood, "status", "--config", w.config)
	if err := json.Unmarshal([]byte(stdout), &st); err != nil || st.Lanes[0].Pending != 1 || st.Lanes[0].State != intake.Stopped {
		t.Errorf("after the stop: %v %s", err, stdout)
	}
}

// counting calls done at the want-th document.
type counting struct {
	n, want int
	done    func()
}

func (c *counting) Write(p []byte) (int, error) {
	if c.n += strings.Count(string(p), `"archive": "test"`); c.n >= c.want {
		c.done()
	}
	return len(p), nil
}

// Somebody else's server is not taken for the service.
func TestStatusOfAnother(t *testing.T) {
	w := newWorld(t)
	for body, want := range map[string]string{"hello": "no Ossuary", `{"archive":"other","lanes":[]}`: `archives "other"`} {
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(body)) }))
		w.write(t, map[string]string{"127.0.0.1:0": strings.TrimPrefix(srv.URL, "http://")})
		if _, stderr := wantCode(t, exitUnable, "status", "--config", w.config); !strings.Contains(stderr, want) {
			t.Errorf("%s: %s", body, stderr)
		}
		srv.Close()
	}
}
