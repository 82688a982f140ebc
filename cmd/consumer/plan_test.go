package main

import (
	"encoding/json"
	"strings"
	"testing"

	"ossuary/internal/capacity"
)

func TestPlan(t *testing.T) {
	small := []string{"plan", "--rate", "20000/day", "--series", "50", "--event-size", "200"}
	out, _ := wantCode(t, 0, small...)
	for _, want := range []string{"20,000", "appends a day", "OSS requests of the account", "nearest limit: ", "To lift it: "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, _ = wantCode(t, 0, append(small, "--json")...)
	var r capacity.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Load.EventsADay != 20000 || len(r.Checks) < 10 || r.Bottleneck.Limit == "" {
		t.Errorf("%v: %+v", err, r)
	}
	out, _ = wantCode(t, 1, append(small, "--limit-requests", "0.001")...)
	if !strings.Contains(out, "DOES NOT FIT: OSS requests of the account") {
		t.Error(out)
	}
	// The same question has the same answer.
	again, _ := wantCode(t, 1, append(small, "--limit-requests", "0.001")...)
	if out != again {
		t.Errorf("first\n%s\nthen\n%s", out, again)
	}
	for flag, value := range map[string]string{"--rate": "fast", "--ram": "much", "--peak": "0", "--subject": "a.b", "--event-size": "-1", "--limit-upload": "x"} {
		if _, errs := wantCode(t, 2, append(small, flag, value)...); !strings.Contains(errs, value) || !strings.Contains(errs, "use ") && !strings.Contains(errs, "{n}") {
			t.Errorf("%s %s: %s", flag, value, errs)
		}
	}
}

func TestParseRate(t *testing.T) {
	for s, want := range map[string]float64{"1/s": 86400, "12,000/s": 12000 * 86400, "1e9/day": 1e9, "60/min": 86400, "2.5/h": 60} {
		if got, err := parseRate(s); err != nil || got != want {
			t.Errorf("%s: %g, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "5", "/s", "5/", "5/year", "-1/s", "0/s", "NaN/s", "Inf/s", "1/s/s"} {
		if n, err := parseRate(s); err == nil {
			t.Errorf("%q is %g", s, n)
		}
	}
}
