package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ossuary/internal/intake"
)

// intakeMetrics are set by the lanes as they go.
type intakeMetrics struct {
	epochs, ended, delivered, skipped, acked, expired, incarnations *prometheus.CounterVec
	floor, floorTime, horizon, pending, open, lease                 *prometheus.GaugeVec
	renewal                                                         *prometheus.HistogramVec
}

func (m *intakeMetrics) register(reg *prometheus.Registry) {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"source", "lane"}, more...))
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, laneLabels)
		reg.MustRegister(g)
		return g
	}
	m.epochs = counter("ossuary_epochs_total", "Epochs begun.")
	m.ended = counter("ossuary_epochs_ended_total", "Epochs that ended, by reason.", "reason")
	m.delivered = counter("ossuary_events_delivered_total", "Events that JetStream delivered to this process.")
	m.skipped = counter("ossuary_events_skipped_total", "Events left out because a route or the layout says so.")
	m.acked = counter("ossuary_acknowledgements_total", "Acknowledgements sent.")
	m.expired = counter("ossuary_events_expired_total", "Messages that were gone from the stream before they were archived, at most.")
	m.incarnations = counter("ossuary_incarnations_total", "New incarnations of the stream: it was recreated, or its sequences were used again.")
	m.floor = gauge("ossuary_floor_sequence", "Sequence up to which everything of the lane is archived.")
	m.floorTime = gauge("ossuary_floor_timestamp_seconds", "Stream timestamp of the event at the floor.")
	m.horizon = gauge("ossuary_horizon_sequence", "Highest sequence that may be handed out.")
	m.pending = gauge("ossuary_lag_events", "Events in the stream that were not delivered yet.")
	m.open = gauge("ossuary_unarchived_events", "Events that were delivered and are not archived yet.")
	m.lease = gauge("ossuary_lease_held", "1 if this process reads the lane, 0 if it stands by.")
	m.renewal = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ossuary_lease_renewal_seconds", Help: "Time to renew the lease and write the floor.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s
	}, laneLabels)
	reg.MustRegister(m.renewal)
}

func (m *intakeMetrics) lane(source, lane string) *intake.Metrics {
	count := func(c *prometheus.CounterVec) prometheus.Counter { return c.WithLabelValues(source, lane) }
	gauge := func(g *prometheus.GaugeVec) prometheus.Gauge { return g.WithLabelValues(source, lane) }
	epochs, delivered, skipped, acked := count(m.epochs), count(m.delivered), count(m.skipped), count(m.acked)
	expired, incarnations := count(m.expired), count(m.incarnations)
	floor, floorTime, horizon := gauge(m.floor), gauge(m.floorTime), gauge(m.horizon)
	pending, open, lease := gauge(m.pending), gauge(m.open), gauge(m.lease)
	renewal := m.renewal.WithLabelValues(source, lane)
	return &intake.Metrics{
		EpochStarted: func(uint64) { epochs.Inc() },
		EpochEnded:   func(reason string) { m.ended.WithLabelValues(source, lane, reason).Inc() },
		Floor: func(sequence uint64, t time.Time) {
			floor.Set(float64(sequence))
			if !t.IsZero() {
				floorTime.Set(float64(t.UnixMilli()) / 1000)
			}
		},
		Lag: func(p uint64, o int) {
			pending.Set(float64(p))
			open.Set(float64(o))
		},
		Delivered: func(n uint64) { delivered.Add(float64(n)) },
		Skipped:   func(n uint64) { skipped.Add(float64(n)) },
		Acked:     func(n int) { acked.Add(float64(n)) },
		Lease: func(held bool) {
			if held {
				lease.Set(1)
			} else {
				lease.Set(0)
			}
		},
		Horizon:     func(sequence uint64) { horizon.Set(float64(sequence)) },
		Expired:     func(n uint64) { expired.Add(float64(n)) },
		Incarnation: func(int) { incarnations.Inc() },
		Renewal:     func(took time.Duration) { renewal.Observe(took.Seconds()) },
	}
}
