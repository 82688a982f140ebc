package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"ossuary/internal/embedded"
	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/ossemu"
)

func ready(t *testing.T, url string) (code int, body string) {
	t.Helper()
	resp, err := http.Get(url + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// A series that the store refuses makes the archive not ready, by name, and does
// not hold the others up; when the refusal ends nothing is missing.
func TestHeldSeriesIsNamed(t *testing.T) {
	w := newWorld(t)
	w.createStream(t)
	base, stop := w.start(t)
	eventually(t, "ready", func() bool { code, _ := ready(t, base); return code == http.StatusOK })
	id, err := w.emu.AddFault(ossemu.Rule{Op: "append", Key: "*orders/us/*", Action: "error", Status: 403, Code: "AccessDenied"})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		publish(t, w.js, "orders.us.paid", "orders.eu.paid")
	}
	eventually(t, "the held series in /readyz", func() bool {
		code, body := ready(t, base)
		var doc struct {
			Reasons []struct{ What, Name, Reason string }
		}
		if code != http.StatusServiceUnavailable || json.Unmarshal([]byte(body), &doc) != nil {
			return false
		}
		for _, r := range doc.Reasons {
			if r.What == "series" && strings.Contains(r.Name, "orders/us/") && strings.Contains(r.Reason, "AccessDenied") {
				return true
			}
		}
		return false
	})
	if _, stderr := wantCode(t, exitFound, "health", "--config", w.config); stderr != "" {
		t.Errorf("health: %s", stderr)
	}
	eventually(t, "the other series archived", func() bool {
		st, ok := status(base)
		return ok && len(st.Lanes) == 1 && st.Lanes[0].Archived == 50
	})
	w.emu.ClearFaults(id)
	eventually(t, "all archived", func() bool {
		st, ok := status(base)
		return ok && st.Lanes[0].Floor == 100
	})
	eventually(t, "ready again", func() bool { code, _ := ready(t, base); return code == http.StatusOK })
	if code, stderr := stop(); code != exitGood {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	if r := verified(t, exitGood, "--config", w.config); r.Events != 100 {
		t.Errorf("verify: %+v", r)
	}
}

// While NATS is away the archive is not ready; when it is back the archive goes
// on without a person.
func TestNATSRestarts(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	srv, err := embedded.Start(embedded.Options{StoreDir: dir, Port: embedded.RandomPort})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Shutdown() })
	w.nats = srv.ClientURL()
	u, err := url.Parse(w.nats)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	_, w.js = embeddedtest.Connect(t, srv)
	w.createStream(t)
	base, stop := w.start(t)
	for range 50 {
		publish(t, w.js, "orders.us.paid", "orders.eu.paid")
	}
	eventually(t, "the first half archived", func() bool {
		st, ok := status(base)
		return ok && len(st.Lanes) == 1 && st.Lanes[0].Floor == 100
	})
	srv.Shutdown()
	eventually(t, "not ready without NATS", func() bool {
		code, body := ready(t, base)
		return code == http.StatusServiceUnavailable && strings.Contains(body, "nats")
	})
	if srv, err = embedded.Start(embedded.Options{StoreDir: dir, Port: port}); err != nil {
		t.Fatal(err)
	}
	_, w.js = embeddedtest.Connect(t, srv)
	for range 50 {
		publish(t, w.js, "orders.us.paid", "orders.eu.paid")
	}
	eventually(t, "all archived", func() bool {
		st, ok := status(base)
		return ok && st.Lanes[0].Floor == 200
	})
	eventually(t, "ready again", func() bool { code, _ := ready(t, base); return code == http.StatusOK })
	if code, stderr := stop(); code != exitGood {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	if r := verified(t, exitGood, "--config", w.config); r.Events != 200 {
		t.Errorf("verify: %+v", r)
	}
}
