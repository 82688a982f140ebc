package telemetry

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// formerRoute stands for the routes of older layouts, under which events may still
// come, so that the values of the label are those of the configuration.
const formerRoute = "(former)"

// routes are what became of a lane's events by route. A map is never changed, but
// replaced when the configuration is.
type routes struct {
	by atomic.Pointer[map[string]*route]
}

type route struct {
	events, bytes atomic.Int64
	newest        atomic.Int64 // Unix nanoseconds, 0: unknown
}

// configure is called by one at a time.
func (r *routes) configure(names []string) {
	had := r.all()
	by := map[string]*route{}
	for _, name := range append([]string{formerRoute}, names...) {
		if by[name] = had[name]; by[name] == nil {
			by[name] = new(route)
		}
	}
	r.by.Store(&by)
}

func (r *routes) all() map[string]*route {
	if by := r.by.Load(); by != nil {
		return *by
	}
	return nil
}

// archived is appendsink's ObserveArchived. The dead letters, which have no route,
// are counted elsewhere.
func (r *routes) archived(name string, events, bytes int, newest time.Time) {
	if name == "" {
		return
	}
	by := r.all()
	one := by[name]
	if one == nil {
		one = by[formerRoute]
	}
	one.events.Add(int64(events))
	one.bytes.Add(int64(bytes))
	if newest.IsZero() {
		return
	}
	for at := newest.UnixNano(); ; {
		known := one.newest.Load()
		if at <= known || one.newest.CompareAndSwap(known, at) {
			return
		}
	}
}

var (
	routeLabels  = []string{"source", "lane", "route"}
	routeEvents  = prometheus.NewDesc("ossuary_route_events_archived_total", "Events of a route in confirmed appends of this process.", routeLabels, nil)
	routeBytes   = prometheus.NewDesc("ossuary_route_append_bytes_total", "Stored bytes of confirmed appends of a route's events.", routeLabels, nil)
	routeNewest  = prometheus.NewDesc("ossuary_route_newest_timestamp_seconds", "Stream timestamp of a route's newest archived event; absent while unknown, and in an instance that does not read the lane.", routeLabels, nil)
	routeFresh   = prometheus.NewDesc("ossuary_route_freshness_seconds", "Age of a route's newest archived event: now minus its stream timestamp. It also grows while nothing is published; absent like the timestamp.", routeLabels, nil)
	secondsOfNow = func() float64 { return float64(time.Now().UnixMilli()) / 1000 }
)

type routeCollector struct{ m *Metrics }

func (c routeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{routeEvents, routeBytes, routeNewest, routeFresh} {
		ch <- d
	}
}

func (c routeCollector) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.m.all() {
		by := l.routes.all()
		for _, name := range slices.Sorted(maps.Keys(by)) {
			r := by[name]
			newest := r.newest.Load()
			if name == formerRoute && newest == 0 {
				continue // most archives never have one
			}
			labels := []string{l.source, l.lane, name}
			ch <- prometheus.MustNewConstMetric(routeEvents, prometheus.CounterValue, float64(r.events.Load()), labels...)
			ch <- prometheus.MustNewConstMetric(routeBytes, prometheus.CounterValue, float64(r.bytes.Load()), labels...)
			if newest != 0 && l.reads() {
				at := float64(time.Unix(0, newest).UnixMilli()) / 1000
				ch <- prometheus.MustNewConstMetric(routeNewest, prometheus.GaugeValue, at, labels...)
				ch <- prometheus.MustNewConstMetric(routeFresh, prometheus.GaugeValue, max(0, secondsOfNow()-at), labels...)
			}
		}
	}
}

// reads says whether this process has the lane's lease. What another one has gone
// on with since is not told.
func (l *measured) reads() bool {
	var v dto.Metric
	return l.leased.Write(&v) == nil && v.GetGauge().GetValue() == 1
}
