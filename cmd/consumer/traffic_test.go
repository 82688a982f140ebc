package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// What an event comes to at a rate stands beside where it goes.
func TestRouteEstimates(t *testing.T) {
	w := newWorld(t)
	stdout, _ := wantCode(t, exitGood, "route", "orders.eu.paid", "--config", w.config, "--rate", "3600/h", "--size", "1KiB", "--json")
	var got []explained
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	// One event a second, and a linger of 20 ms: an append each.
	e := got[0].Estimate
	if len(got) != 1 || e == nil || e.Appends != 86_400 || e.BatchEvents != 1 || e.FlushedBy != "linger" || e.LineBytes < 1024 || e.LineBytes > 1200 || e.Writes < e.Appends {
		t.Errorf("%+v", e)
	}
	stdout, _ = wantCode(t, exitGood, "route", "orders.eu.paid", "--config", w.config, "--rate", "1000/s", "--data", `{"id":1}`)
	for _, want := range []string{"appends a day", "requests a day", "30 events every 30ms", "the append before", "20ms after the first event", "at 1.0 GiB"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if stdout, _ := wantCode(t, exitFound, "route", "noise.a", "--config", w.config, "--rate", "1/s"); strings.Contains(stdout, "appends") {
		t.Errorf("an event that is skipped costs something:\n%s", stdout)
	}
	for text, want := range map[string]float64{"1000/s": 1000, "60/m": 1, "86,400/day": 1, "2.5": 2.5} {
		if n, err := eventRate(text); err != nil || n != want {
			t.Errorf("%s: %v %v", text, n, err)
		}
	}
}
