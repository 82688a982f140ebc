package telemetry

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"ossuary/internal/appendsink"
	"ossuary/internal/intake"
)

// Options say whose metrics they are.
type Options struct {
	Archive         string
	Version, Commit string
	Budget          *appendsink.Budget
}

// Metrics are the metrics of one process. The values of their labels are bounded
// by the configuration: archive, source, lane and route, and else fixed words;
// never series, subjects or keys. What may go wrong stands there at 0 from the
// beginning, so that its first time is seen as a rise.
type Metrics struct {
	reg *prometheus.Registry
	own prometheus.Registerer // adds the archive's label

	mu         sync.Mutex
	lanes      []*measured
	routes     map[string][]string // see Configure
	openSeries int

	seconds, size, events *prometheus.HistogramVec
	intake                intakeMetrics
	store                 storeMetrics
}

// measured is a lane, whose counters are read at each scrape. They live as long as
// the process, over all epochs.
type measured struct {
	source, lane string
	sink         *appendsink.Metrics
	routes       *routes
	leased       prometheus.Gauge
}

// New returns the metrics of a process, its own included.
func New(o Options) *Metrics {
	m := &Metrics{reg: prometheus.NewRegistry()}
	// Several archives may be watched by one Prometheus.
	m.own = prometheus.WrapRegistererWith(prometheus.Labels{"archive": o.Archive}, m.reg)
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ossuary_append_duration_seconds", Help: "Time of confirmed appends.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 15), // 1 ms to 16 s
	}, laneLabels)
	m.size = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ossuary_append_size_bytes", Help: "Stored bytes of confirmed appends.",
		Buckets: prometheus.ExponentialBuckets(1<<10, 4, 9), // 1 KiB to 64 MiB
	}, laneLabels)
	m.events = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ossuary_append_events", Help: "Events per confirmed append; 0 in a seal or break.",
		Buckets: prometheus.ExponentialBuckets(1, 4, 9), // 1 to 65536
	}, laneLabels)
	m.own.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ossuary_build_info", Help: "Always 1; the labels say which program this is.",
			ConstLabels: prometheus.Labels{"version": o.Version, "commit": o.Commit},
		}, func() float64 { return 1 }),
		gauge("ossuary_memory_limit_bytes", "Bytes that waiting events may take: five eighths of limits.memory.", func() float64 { return float64(o.Budget.Limit()) }),
		gauge("ossuary_memory_used_bytes", "Bytes that waiting events take.", func() float64 { used, _ := o.Budget.Used(); return float64(used) }),
		gauge("ossuary_memory_held_bytes", "Bytes that waiting events of held series take.", func() float64 { _, held := o.Budget.Used(); return float64(held) }),
		gauge("ossuary_series_limit", "Series that a lane may have in memory (limits.open_series).", func() float64 { return float64(m.seriesLimit()) }),
		m.seconds, m.size, m.events, sinkCollector{m}, routeCollector{m},
	)
	m.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.intake.register(m.own)
	m.store.register(m.own)
	return m
}

// Configure says what the configuration in force has: the names of the routes that
// archive, by source, and limits.open_series. A route that stays counts on.
func (m *Metrics) Configure(routes map[string][]string, openSeries int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.routes, m.openSeries = routes, openSeries
	for _, l := range m.lanes {
		l.routes.configure(routes[l.source])
	}
}

func (m *Metrics) seriesLimit() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.openSeries
}

// Watch adds what is asked of the running archive at each scrape. It is called once.
func (m *Metrics) Watch(s Watched) { m.own.MustRegister(watchCollector{m, s}) }

// Registry is what is served.
func (m *Metrics) Registry() *prometheus.Registry { return m.reg }

// Lane returns what a lane's sinks and its intake count with.
func (m *Metrics) Lane(source, lane string) (*appendsink.Metrics, *intake.Metrics) {
	seconds, size, events := m.seconds.WithLabelValues(source, lane), m.size.WithLabelValues(source, lane), m.events.WithLabelValues(source, lane)
	m.mu.Lock()
	defer m.mu.Unlock()
	by := new(routes)
	by.configure(m.routes[source])
	sink := &appendsink.Metrics{ObserveAppend: func(d time.Duration, bytes, n int) {
		seconds.Observe(d.Seconds())
		size.Observe(float64(bytes))
		events.Observe(float64(n))
	}, ObserveArchived: by.archived}
	m.lanes = append(m.lanes, &measured{source, lane, sink, by, m.intake.lease.WithLabelValues(source, lane)})
	return sink, m.intake.lane(source, lane)
}

func (m *Metrics) all() []*measured {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.lanes)
}

var laneLabels = []string{"source", "lane"}

// reading is one metric taken from a sink's counters at the time of a scrape.
type reading struct {
	name, help string
	kind       prometheus.ValueType
	value      func(*appendsink.Metrics) int64
}

var readings = []reading{
	{"ossuary_appends_total", "Appends that the store confirmed.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Appends.Load() }},
	{"ossuary_append_bytes_total", "Stored bytes of confirmed appends.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Bytes.Load() }},
	{"ossuary_events_archived_total", "Events in confirmed appends of this process.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Events.Load() }},
	{"ossuary_append_refusals_total", "Appends refused for their position.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Refusals.Load() }},
	{"ossuary_append_doubts_total", "Appends whose outcome was unknown: timeouts, lost connections, 5xx.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Doubts.Load() }},
	{"ossuary_append_garbled_total", "Appends confirmed with a position or CRC-64 other than computed.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Garbled.Load() }},
	{"ossuary_adopted_frames_total", "Frames of other writers or lost responses that were adopted.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Adoptions.Load() }},
	{"ossuary_adopted_events_total", "Waiting events that were found in adopted frames.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.AdoptedEvents.Load() }},
	{"ossuary_redelivered_events_total", "Events that came again and were archived already.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.AlreadyHeld.Load() }},
	{"ossuary_segment_breaks_total", "Segments left because of bytes that are no frame.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Breaks.Load() }},
	{"ossuary_segment_seals_total", "Segments sealed.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Seals.Load() }},
	{"ossuary_overtaken_events_total", "Events sent to the dead letters because another writer passed them over.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Overtaken.Load() }},
	{"ossuary_dead_letters_total", "Events put into the dead letters.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.DeadLetters.Load() }},
	{"ossuary_forgotten_events_total", "Events of held series that were let go and will be replayed.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.Forgotten.Load() }},
	{"ossuary_series_open", "Series in memory.", prometheus.GaugeValue, func(m *appendsink.Metrics) int64 { return m.OpenSeries.Load() }},
	{"ossuary_ledger_writes_total", "Checkpoints of tails written.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.LedgerWrites.Load() }},
	{"ossuary_ledger_conflicts_total", "Checkpoints that somebody else had written meanwhile.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.LedgerConflicts.Load() }},
	{"ossuary_ledger_errors_total", "Checkpoints that failed.", prometheus.CounterValue, func(m *appendsink.Metrics) int64 { return m.LedgerErrors.Load() }},
}

var (
	descs = func() []*prometheus.Desc {
		out := make([]*prometheus.Desc, len(readings))
		for i, r := range readings {
			out[i] = prometheus.NewDesc(r.name, r.help, laneLabels, nil)
		}
		return out
	}()
	holdLabels = []string{"source", "lane", "reason"}
	holdsDesc  = prometheus.NewDesc("ossuary_series_holds_total", "Times that a series began to be held, by reason.", holdLabels, nil)
	heldDesc   = prometheus.NewDesc("ossuary_series_held", "Series that are held, by reason; anything but 0 wants a person.", holdLabels, nil)
)

type sinkCollector struct{ m *Metrics }

func (c sinkCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
	ch <- holdsDesc
	ch <- heldDesc
}

func (c sinkCollector) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.m.all() {
		for i, r := range readings {
			ch <- prometheus.MustNewConstMetric(descs[i], r.kind, float64(r.value(l.sink)), l.source, l.lane)
		}
		for _, cause := range appendsink.Causes {
			ch <- prometheus.MustNewConstMetric(holdsDesc, prometheus.CounterValue, float64(l.sink.Holds[cause].Load()), l.source, l.lane, cause.String())
			ch <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(l.sink.HeldSeries[cause].Load()), l.source, l.lane, cause.String())
		}
	}
}
