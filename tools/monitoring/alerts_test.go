package monitoring

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
)

// Series over three hours, a sample a minute, in the notation of promtool. An alert
// must fire at their end on the one and keep quiet on the other.
var stories = map[string]struct{ fires, quiet string }{
	"OssuaryAbsent": {
		fires: `up{job="ossuary"} 0x180`,
		quiet: `ossuary_build_info{archive="a"} 1x180`,
	},
	"OssuaryLaneUnattended": {
		fires: `ossuary_lease_held{archive="a",source="S",lane="0",instance="x"} 1x100 _x80
			ossuary_lease_held{archive="a",source="S",lane="0",instance="y"} 0x180
			ossuary_lease_held{archive="b",source="S",lane="0",instance="z"} 1x180`,
		quiet: `ossuary_lease_held{archive="a",source="S",lane="0",instance="x"} 1x100 0x80
			ossuary_lease_held{archive="a",source="S",lane="0",instance="y"} 0x100 1x80`,
	},
	"OssuaryNotReady": {
		fires: `ossuary_ready{archive="a"} 0x180`,
		quiet: `ossuary_ready{archive="a"} 1x180`,
	},
	"OssuaryLagging": {
		fires: `ossuary_lag_seconds{archive="a",source="S",lane="0"} 0+10x180`,
		quiet: `ossuary_lag_seconds{archive="a",source="S",lane="0"} 60x180`,
	},
	"OssuaryFallingBehind": {
		fires: `ossuary_lag_events{archive="a",source="S",lane="0"} 0+1000x180`,
		quiet: `ossuary_lag_events{archive="a",source="S",lane="0"} 1000000-1000x180`, // it catches up
	},
	"OssuaryEventsExpired": {
		fires: `ossuary_events_expired_total{archive="a",source="S",lane="0"} 0x150 7x30`,
		quiet: `ossuary_events_expired_total{archive="a",source="S",lane="0"} 7x180`,
	},
	"OssuarySegmentBroken": {
		fires: `ossuary_segment_breaks_total{archive="a",source="S",lane="0"} 0x150 1x30`,
		quiet: `ossuary_segment_breaks_total{archive="a",source="S",lane="0"} 1x180`,
	},
	"OssuaryAppendGarbled": {
		fires: `ossuary_append_garbled_total{archive="a",source="S",lane="0"} 0x150 1x30`,
		quiet: `ossuary_append_garbled_total{archive="a",source="S",lane="0"} 0x180`,
	},
	"OssuaryNewIncarnation": {
		fires: `ossuary_incarnations_total{archive="a",source="S",lane="0"} 0x150 1x30`,
		quiet: `ossuary_incarnations_total{archive="a",source="S",lane="0"} 0x180`,
	},
	"OssuarySeriesHeld": {
		fires: `ossuary_series_held{archive="a",source="S",lane="0",reason="denied"} 2x180
			ossuary_series_held{archive="a",source="S",lane="0",reason="bucket"} 0x180`,
		quiet: `ossuary_series_held{archive="a",source="S",lane="0",reason="denied"} 2x100 0x80`,
	},
	"OssuaryDeadLetters": {
		fires: `ossuary_dead_letters_total{archive="a",source="S",lane="0"} 0x150 3x30`,
		quiet: `ossuary_dead_letters_total{archive="a",source="S",lane="0"} 3x180`,
	},
	"OssuaryMemoryFull": {
		fires: `ossuary_memory_used_bytes{archive="a"} 95x180
			ossuary_memory_limit_bytes{archive="a"} 100x180`,
		quiet: `ossuary_memory_used_bytes{archive="a"} 50x180
			ossuary_memory_limit_bytes{archive="a"} 100x180`,
	},
	"OssuaryStoreThrottles": {
		fires: `ossuary_store_requests_total{archive="a",op="append",outcome="ok"} 0+90x180
			ossuary_store_requests_total{archive="a",op="append",outcome="throttled"} 0+10x180`,
		quiet: `ossuary_store_requests_total{archive="a",op="append",outcome="ok"} 0+90x180
			ossuary_store_requests_total{archive="a",op="append",outcome="throttled"} 0x180`,
	},
	"OssuaryAppendsInDoubt": {
		fires: `ossuary_store_requests_total{archive="a",op="append",outcome="ok"} 0+90x180
			ossuary_store_requests_total{archive="a",op="append",outcome="in_doubt"} 0+10x180`,
		quiet: `ossuary_store_requests_total{archive="a",op="append",outcome="ok"} 0+90x180
			ossuary_store_requests_total{archive="a",op="append",outcome="in_doubt"} 0+1x180`,
	},
	"OssuaryAppendsSlow": {
		fires: `ossuary_append_duration_seconds_bucket{archive="a",source="S",lane="0",le="4.096"} 0+90x180
			ossuary_append_duration_seconds_bucket{archive="a",source="S",lane="0",le="8.192"} 0+100x180
			ossuary_append_duration_seconds_bucket{archive="a",source="S",lane="0",le="+Inf"} 0+100x180`,
		quiet: `ossuary_append_duration_seconds_bucket{archive="a",source="S",lane="0",le="0.064"} 0+100x180
			ossuary_append_duration_seconds_bucket{archive="a",source="S",lane="0",le="8.192"} 0+100x180
			ossuary_append_duration_seconds_bucket{archive="a",source="S",lane="0",le="+Inf"} 0+100x180`,
	},
	"OssuaryEpochsFlap": {
		fires: `ossuary_epochs_ended_total{archive="a",source="S",lane="0",reason="interrupted"} 0+1x180`,
		quiet: `ossuary_epochs_ended_total{archive="a",source="S",lane="0",reason="interrupted"} 0x160 1x20`,
	},
	"OssuaryTwoOwners": {
		fires: `ossuary_lease_held{archive="a",source="S",lane="0",instance="x"} 1x180
			ossuary_lease_held{archive="a",source="S",lane="0",instance="y"} 1x180`,
		quiet: `ossuary_lease_held{archive="a",source="S",lane="0",instance="x"} 1x180
			ossuary_lease_held{archive="b",source="S",lane="0",instance="y"} 1x180`,
	},
	"OssuaryLedgerFailing": {
		fires: `ossuary_ledger_errors_total{archive="a",source="S",lane="0"} 0+1x180`,
		quiet: `ossuary_ledger_errors_total{archive="a",source="S",lane="0"} 5x180`,
	},
	"OssuarySeriesLimit": {
		fires: `ossuary_series_open{archive="a",source="S",lane="0"} 950x180
			ossuary_series_limit{archive="a"} 1000x180`,
		quiet: `ossuary_series_open{archive="a",source="S",lane="0"} 20x180
			ossuary_series_limit{archive="a"} 1000x180`,
	},
}

func TestAlertsFire(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	firing := func(t *testing.T, story, expr string) int {
		storage := promqltest.LoadedStorage(t, "load 1m\n\t"+strings.ReplaceAll(story, "\n\t\t\t", "\n\t"))
		query, err := engine.NewInstantQuery(t.Context(), storage, nil, expr, time.Unix(0, 0).Add(3*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		defer query.Close()
		result := query.Exec(t.Context())
		v, err := result.Vector()
		if err != nil {
			t.Fatal(err)
		}
		return len(v)
	}
	for _, r := range rules(t) {
		t.Run(r.Alert, func(t *testing.T) {
			story, ok := stories[r.Alert]
			if !ok {
				t.Fatal("there is no story in which it fires, and none in which it does not")
			}
			if n := firing(t, story.fires, r.Expr); n != 1 {
				t.Errorf("%d alerts instead of 1 for\n%s", n, story.fires)
			}
			if n := firing(t, story.quiet, r.Expr); n != 0 {
				t.Errorf("%d alerts instead of none for\n%s", n, story.quiet)
			}
		})
	}
}
