package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reloads are what became of changes to the configuration while the process runs.
type Reloads struct {
	Generation   int // of the configuration in force
	Good, Bad    int // reloads
	LastGood     bool
	Since        time.Time // of the generation
	NeedsRestart int       // settings that are not in force before a restart
}

// ObserveReloads adds the metrics of reloads; now is asked at each scrape.
func (m *Metrics) ObserveReloads(now func() Reloads) {
	gauge := func(name, help string, value func(Reloads) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(now()) })
	}
	reloads := func(result string, value func(Reloads) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ossuary_config_reloads_total", Help: "Reloads of the configuration and of the files that it names, by result: good or bad.",
			ConstLabels: prometheus.Labels{"result": result},
		}, func() float64 { return value(now()) })
	}
	m.reg.MustRegister(
		gauge("ossuary_config_generation", "Which configuration is in force; 1 is what the process began with.", func(r Reloads) float64 { return float64(r.Generation) }),
		gauge("ossuary_config_generation_timestamp_seconds", "Since when it is.", func(r Reloads) float64 { return float64(r.Since.UnixMilli()) / 1000 }),
		gauge("ossuary_config_last_reload_successful", "1 unless the last reload failed; the old configuration is in force then.", func(r Reloads) float64 {
			if r.LastGood {
				return 1
			}
			return 0
		}),
		gauge("ossuary_config_needs_restart", "Changed settings that are not in force before the process is started again.", func(r Reloads) float64 { return float64(r.NeedsRestart) }),
		reloads("good", func(r Reloads) float64 { return float64(r.Good) }),
		reloads("bad", func(r Reloads) float64 { return float64(r.Bad) }),
	)
}
