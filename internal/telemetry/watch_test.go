package telemetry

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"ossuary/internal/appendsink"
	"ossuary/internal/intake"
)

type still struct {
	lane    intake.Status
	reasons []Reason
}

func (s still) Lanes() []intake.Status     { return []intake.Status{s.lane} }
func (s still) Connection() (bool, uint64) { return true, 3 }
func (s still) NotReady() []Reason         { return s.reasons }
func (s still) Warnings() []Reason         { return nil }

func gathered(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]*dto.MetricFamily{}
	for _, f := range all {
		by[f.GetName()] = f
	}
	return by
}

// Whoever has no lease knows only where the lane was when he had it: a standby that
// went on saying so would alarm for nothing.
func TestOnlyTheReaderTellsWhereTheLaneIs(t *testing.T) {
	m := New(Options{Archive: "a", Budget: appendsink.NewBudget(1 << 20)})
	m.Configure(map[string][]string{"S": {"r"}}, 10)
	sink, lane := m.Lane("S", "0")
	m.Watch(still{lane: intake.Status{Source: "S", Lane: "0", State: intake.Standby, Layout: 1, Floor: 7, Pending: 5, FloorTime: time.Now().Add(-time.Hour)}})
	sink.ObserveArchived("r", 3, 100, time.Now().Add(-time.Minute))
	sink.ObserveArchived("of an older layout", 2, 50, time.Now())
	sink.ObserveArchived("", 1, 10, time.Now()) // a dead letter
	places := []string{"ossuary_floor_sequence", "ossuary_lag_events", "ossuary_lag_seconds", "ossuary_floor_timestamp_seconds",
		"ossuary_route_freshness_seconds", "ossuary_route_newest_timestamp_seconds"}
	for _, held := range []bool{false, true, false} {
		lane.Lease(held)
		by := gathered(t, m)
		for _, name := range places {
			if (by[name] != nil) != held {
				t.Errorf("with the lease %v, %s is there: %v", held, name, by[name] != nil)
			}
		}
		if n := len(by["ossuary_route_events_archived_total"].GetMetric()); n != 2 {
			t.Errorf("events of %d routes, want those of r and of older layouts", n)
		}
	}
	// A reason that nobody knows must not make a new value.
	lane.EpochEnded("no such reason")
	for _, metric := range gathered(t, m)["ossuary_epochs_ended_total"].GetMetric() {
		for _, l := range metric.GetLabel() {
			if l.GetName() == "reason" && (l.GetValue() == "error") != (metric.GetCounter().GetValue() == 1) {
				t.Errorf("%s is %v", l.GetValue(), metric.GetCounter().GetValue())
			}
		}
	}
}

func TestLag(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		st   intake.Status
		want time.Duration
	}{
		"nothing waits":             {intake.Status{FloorTime: now.Add(-time.Hour)}, 0},
		"one was delivered":         {intake.Status{FloorTime: now.Add(-time.Hour), Oldest: now.Add(-time.Minute), Pending: 9}, time.Minute},
		"all are in the stream yet": {intake.Status{FloorTime: now.Add(-time.Hour), Pending: 9}, time.Hour},
		"nothing is known":          {intake.Status{Pending: 9}, 0},
		"the stream's clock leads":  {intake.Status{Oldest: now.Add(time.Minute)}, 0},
	} {
		if got := lagOf(tt.st, now); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// What is observed for each append costs no memory.
func TestObservingCostsNoAllocations(t *testing.T) {
	m := New(Options{Archive: "a", Budget: appendsink.NewBudget(1 << 20)})
	m.Configure(map[string][]string{"S": {"r"}}, 10)
	sink, _ := m.Lane("S", "0")
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		sink.ObserveAppend(time.Millisecond, 1000, 10)
		sink.ObserveArchived("r", 10, 1000, now)
		m.Request(OpAppend, time.Millisecond, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
