package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ossuary/internal/intake"
)

// intakeMetrics are set by the lanes as they go.
type intakeMetrics struct {
	epochs, ended, delivered, skipped, acked, expired, incarnations *prometheus.CounterVec
	lease                                                           *prometheus.GaugeVec
	renewal                                                         *prometheus.HistogramVec
}

func (m *intakeMetrics) register(reg prometheus.Registerer) {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"source", "lane"}, more...))
		reg.MustRegister(c)
		return c
	}
	m.epochs = counter("ossuary_epochs_total", "Epochs begun.")
	m.ended = counter("ossuary_epochs_ended_total", "Epochs that ended, by reason.", "reason")
	m.delivered = counter("ossuary_events_delivered_total", "Events that JetStream delivered to this process.")
	m.skipped = counter("ossuary_events_skipped_total", "Events left out because a route or the layout says so.")
	m.acked = counter("ossuary_acknowledgements_total", "Acknowledgements sent.")
	m.expired = counter("ossuary_events_expired_total", "Messages that were gone from the stream before they were archived, at most.")
	m.incarnations = counter("ossuary_incarnations_total", "New incarnations of the stream: it was recreated, or its sequences were used again.")
	m.lease = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ossuary_lease_held", Help: "1 if this process reads the lane, 0 if it stands by.",
	}, laneLabels)
	m.renewal = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ossuary_lease_renewal_seconds", Help: "Time to renew the lease and write the floor.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s
	}, laneLabels)
	reg.MustRegister(m.lease, m.renewal)
}

func (m *intakeMetrics) lane(source, lane string) *intake.Metrics {
	count := func(c *prometheus.CounterVec) prometheus.Counter { return c.WithLabelValues(source, lane) }
	epochs, delivered, skipped, acked := count(m.epochs), count(m.delivered), count(m.skipped), count(m.acked)
	expired, incarnations := count(m.expired), count(m.incarnations)
	lease, renewal := m.lease.WithLabelValues(source, lane), m.renewal.WithLabelValues(source, lane)
	ended := make(map[string]prometheus.Counter, len(intake.EndReasons))
	for _, reason := range intake.EndReasons {
		ended[reason] = m.ended.WithLabelValues(source, lane, reason)
	}
	return &intake.Metrics{
		EpochStarted: func(uint64) { epochs.Inc() },
		EpochEnded: func(reason string) {
			c := ended[reason]
			if c == nil {
				c = ended["error"]
			}
			c.Inc()
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
		Expired:     func(n uint64) { expired.Add(float64(n)) },
		Incarnation: func(int) { incarnations.Inc() },
		Renewal:     func(took time.Duration) { renewal.Observe(took.Seconds()) },
	}
}
