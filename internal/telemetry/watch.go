package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ossuary/internal/intake"
)

// Watched is a running archive. Its methods are called from any goroutine and must
// not block on the network.
type Watched interface {
	Lanes() []intake.Status
	// Connection tells whether NATS is connected, and how often it was again.
	Connection() (connected bool, reconnects uint64)
	NotReady() []Reason
	Warnings() []Reason
}

var (
	readyDesc      = prometheus.NewDesc("ossuary_ready", "1 if /readyz answers 200, 0 if it does not.", nil, nil)
	notReadyDesc   = prometheus.NewDesc("ossuary_not_ready_reasons", "Reasons in /readyz against readiness, by what they are about.", []string{"what"}, nil)
	warningsDesc   = prometheus.NewDesc("ossuary_warnings", "Warnings in /readyz: what wants a person and keeps nothing from going on.", nil, nil)
	connectedDesc  = prometheus.NewDesc("ossuary_nats_connected", "1 while NATS is connected.", nil, nil)
	reconnectsDesc = prometheus.NewDesc("ossuary_nats_reconnects_total", "Times that the connection to NATS was made again.", nil, nil)

	stateDesc       = prometheus.NewDesc("ossuary_lane_state", "1 for the state that the lane is in, 0 for the others.", []string{"source", "lane", "state"}, nil)
	floorDesc       = laneDesc("ossuary_floor_sequence", "Sequence up to which everything of the lane is archived.")
	floorTimeDesc   = laneDesc("ossuary_floor_timestamp_seconds", "Stream timestamp of the event at the floor.")
	horizonDesc     = laneDesc("ossuary_horizon_sequence", "Highest sequence that may be handed out.")
	incarnationDesc = laneDesc("ossuary_incarnation", "Incarnation of the stream, as the archive counts them.")
	layoutDesc      = laneDesc("ossuary_layout", "Number of the layout that new events are archived under.")
	pendingDesc     = laneDesc("ossuary_lag_events", "Events in the stream that were not delivered yet.")
	openDesc        = laneDesc("ossuary_unarchived_events", "Events that were delivered and are not archived yet.")
	lagDesc         = laneDesc("ossuary_lag_seconds", "Age of the oldest event that waits to be archived, or of the event at the floor while others wait behind it in the stream; 0 while none waits.")
)

func laneDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, laneLabels, nil)
}

// reasonsFor are what a Reason may be about.
var reasonsFor = []string{"service", "nats", "lane", "store", "series"}

// watchCollector asks s at each scrape. What is told of a lane's place in its
// stream is told by the process that reads it only: what others know is old.
type watchCollector struct {
	m *Metrics
	s Watched
}

func (c watchCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		readyDesc, notReadyDesc, warningsDesc, connectedDesc, reconnectsDesc, stateDesc, floorDesc, floorTimeDesc,
		horizonDesc, incarnationDesc, layoutDesc, pendingDesc, openDesc, lagDesc,
	} {
		ch <- d
	}
}

func (c watchCollector) Collect(ch chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	reasons := c.s.NotReady()
	tell(readyDesc, truth(len(reasons) == 0))
	by := map[string]float64{}
	for _, r := range reasons {
		by[r.What]++
	}
	for _, what := range reasonsFor {
		tell(notReadyDesc, by[what], what)
	}
	tell(warningsDesc, float64(len(c.s.Warnings())))
	connected, reconnects := c.s.Connection()
	tell(connectedDesc, truth(connected))
	ch <- prometheus.MustNewConstMetric(reconnectsDesc, prometheus.CounterValue, float64(reconnects))

	reads := map[[2]string]bool{}
	for _, l := range c.m.all() {
		reads[[2]string{l.source, l.lane}] = l.reads()
	}
	for _, st := range c.s.Lanes() {
		for _, state := range intake.States {
			tell(stateDesc, truth(st.State == state), st.Source, st.Lane, string(state))
		}
		if reads[[2]string{st.Source, st.Lane}] && st.Layout > 0 {
			place(tell, st, time.Now())
		}
	}
}

// place tells how far the lane is.
func place(tell func(*prometheus.Desc, float64, ...string), st intake.Status, now time.Time) {
	for d, v := range map[*prometheus.Desc]float64{
		floorDesc: float64(st.Floor), horizonDesc: float64(st.Horizon), incarnationDesc: float64(st.Incarnation),
		layoutDesc: float64(st.Layout), pendingDesc: float64(st.Pending), openDesc: float64(st.Open),
		lagDesc: lagOf(st, now).Seconds(),
	} {
		tell(d, v, st.Source, st.Lane)
	}
	if !st.FloorTime.IsZero() {
		tell(floorTimeDesc, float64(st.FloorTime.UnixMilli())/1000, st.Source, st.Lane)
	}
}

// lagOf is how long the oldest event that waits has been in the stream, as far as
// that is known. The stream's clock and ours may differ.
func lagOf(st intake.Status, now time.Time) time.Duration {
	switch {
	case !st.Oldest.IsZero():
		return max(0, now.Sub(st.Oldest))
	case st.Pending > 0 && !st.FloorTime.IsZero():
		return max(0, now.Sub(st.FloorTime))
	}
	return 0
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
