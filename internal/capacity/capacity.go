// Package capacity says what a configuration makes of a load: requests, bytes and
// objects a day, the load on each limit that is known, and which of them comes
// first.
//
// It replays a day of events through a model of the writers on simulated time.
// What decides is the product's own where that can be called: the router names
// the series, the encoder and the frame writer say what an event takes. What
// cannot be called without servers is modelled after it: when a batch is sent, the
// one append in flight per series, the bound on appends at once, the memory
// budget, the rolling of segments, the eviction of open series, and the ledger's
// checkpoints. The tests hold the model against the real writers.
//
// A load that is too large to be replayed event by event is sampled by lanes: some
// lanes are simulated as they are, with their share of an instance, and the
// numbers of the others are taken to be like theirs.
//
// Not modelled: failures, throttling, time that the machine itself needs (its
// CPU is a limit among the others), and the way to NATS.
package capacity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ossuary/internal/config"
)

// Load is what comes, and what the machines are like.
type Load struct {
	Events    float64 // a day, over all sources
	Peak      float64 // rate at the day's busiest moment, against the mean; at least 1
	Series    int     // values of {n} in subjects
	Skew      float64 // Zipf's exponent: the k-th busiest value has 1/k^Skew of the busiest one's events; 0: all alike
	Subject   string  // of an event, without a partition; {n} is the value. "": made of the first route's subject
	EventSize int     // bytes of a payload

	Instances  int           // that share the lanes evenly
	Cores      int           // of an instance
	RAM        int64         // of an instance
	AppendTime time.Duration // of a small request to OSS
	Bandwidth  float64       // bytes a second of one request's body
	CPUEvent   time.Duration // from delivery to the frame, for one event
	CPUAppend  time.Duration // for one append besides

	Sample int    // events that are simulated at most
	Seed   uint64 // of the arrivals
	Prices Prices
	Limits Limits
}

// Prices are those of the region, in any currency.
type Prices struct {
	Put     float64 `json:"put"`     // of 10,000 requests that write or list
	Storage float64 `json:"storage"` // of a GB for a month
}

// DefaultLoad is what flags start from.
func DefaultLoad() Load {
	return Load{
		Events: 1e9, Peak: 2, Series: 1000, EventSize: 1 << 10,
		Instances: 1, Cores: 4, RAM: 8 << 30,
		AppendTime: 30 * time.Millisecond, Bandwidth: 50e6,
		CPUEvent: 18 * time.Microsecond, CPUAppend: 150 * time.Microsecond,
		Sample: 5_000_000, Seed: 1,
		Prices: Prices{Put: 0.01, Storage: 0.12},
		Limits: DefaultLimits(),
	}
}

func (l *Load) check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(l.Events > 0 && l.Events <= 1e13, "%g events a day; use more than 0", l.Events)
	need(l.Peak >= 1 && l.Peak <= 24, "a peak of %g times the mean; use 1 (the same all day) to 24", l.Peak)
	need(l.Series >= 1 && l.Series <= 100_000_000, "%d series; use 1 to 100,000,000", l.Series)
	need(l.Skew >= 0 && l.Skew <= 5, "a skew of %g; use 0 (all series alike) to 5", l.Skew)
	need(l.EventSize >= 0 && l.EventSize <= 64<<20, "events of %d bytes; use up to 64 MiB", l.EventSize)
	need(l.Instances >= 1, "%d instances; use at least 1", l.Instances)
	need(l.Cores >= 1, "%d cores; use at least 1", l.Cores)
	need(l.RAM > 0, "%d bytes of memory; say what an instance has", l.RAM)
	need(l.AppendTime > 0, "an append time of %s; use what a small request to OSS takes, as in 30ms", l.AppendTime)
	need(l.Bandwidth > 0, "a bandwidth of %g bytes a second; use more than 0", l.Bandwidth)
	need(l.CPUEvent >= 0 && l.CPUAppend >= 0, "negative CPU time")
	need(l.Sample >= 1000, "a sample of %d events; use at least 1000", l.Sample)
	return errors.Join(errs...)
}

// Report is what a plan found.
type Report struct {
	Load       Shape      `json:"load"`
	Day        Day        `json:"day"`
	Delay      Delay      `json:"delay"`
	Cost       Cost       `json:"cost"`
	Checks     []Check    `json:"limits"` // the least headroom first
	Bottleneck Bottleneck `json:"bottleneck"`
	Notes      []string   `json:"notes,omitempty"`
	Simulated  Simulated  `json:"simulated"`
}

// Shape is the load as it was understood.
type Shape struct {
	EventsADay  float64 `json:"events_a_day"`
	MeanRate    float64 `json:"events_per_second"`
	PeakRate    float64 `json:"events_per_second_at_peak"`
	Sources     int     `json:"sources"`
	Lanes       int     `json:"lanes"`
	Instances   int     `json:"instances"`
	Values      int     `json:"values"` // of {n}
	Skew        float64 `json:"skew"`
	Series      float64 `json:"series"` // names that were written to in a day
	Subject     string  `json:"subject"`
	Template    string  `json:"series_template"`
	PayloadSize int     `json:"payload_bytes"`
	Linger      string  `json:"linger"`
}

// Day is what a day makes.
type Day struct {
	Events        float64 `json:"events"` // archived
	DeadLetters   float64 `json:"dead_letters"`
	Skipped       float64 `json:"skipped"`
	Appends       float64 `json:"appends"` // with events
	Seals         float64 `json:"seals"`
	Lists         float64 `json:"lists"`
	Looks         float64 `json:"heads_and_reads"`
	Control       float64 `json:"control_log_appends"`
	Objects       float64 `json:"objects"` // that were begun
	EventsAppend  float64 `json:"events_per_append"`
	LineBytes     float64 `json:"line_bytes"`
	StoredBytes   float64 `json:"stored_bytes"`
	ControlBytes  float64 `json:"control_log_bytes"`
	LedgerPuts    float64 `json:"ledger_puts"`
	LedgerDeletes float64 `json:"ledger_deletes"`
	LedgerKeys    float64 `json:"ledger_keys"` // at the day's end
	LaneWrites    float64 `json:"lane_writes"`
	Evictions     float64 `json:"evictions"`
}

// Delay is from an event's arrival to its confirmed append, by the oldest event of
// each append.
type Delay struct {
	Mean    float64 `json:"mean_seconds"`
	Longest float64 `json:"longest_seconds"`
}

// Cost is what a day costs at OSS, and what is stored in it, for a month.
type Cost struct {
	Requests     float64 `json:"requests_a_day"` // of the PUT class, which lists are of too
	RequestCost  float64 `json:"request_cost_a_day"`
	StorageMonth float64 `json:"storage_cost_a_month_per_day_kept"`
	Formula      string  `json:"formula"`
	Prices       Prices  `json:"prices"`
}

// Simulated says how much of it was played, and how much was taken to be alike.
type Simulated struct {
	Lanes  int     `json:"lanes"`
	Events int     `json:"events"`
	Factor float64 `json:"factor"` // by which the numbers of the sample were raised
	In     int     `json:"in"`     // events that came, those before the day and after it included
	Out    int     `json:"out"`    // events that were archived, skipped or dead letters
}

// Bottleneck is the limit that comes first.
type Bottleneck struct {
	Limit    string  `json:"limit"`
	Headroom float64 `json:"headroom"` // below 1 it does not fit
	Mend     string  `json:"mend"`
}

// Fits reports whether every limit holds.
func (r *Report) Fits() bool { return len(r.Checks) == 0 || r.Checks[0].Headroom >= 1 }

// Plan replays a day of load under cfg, unless ctx ends first.
func Plan(ctx context.Context, cfg *config.Config, load Load) (*Report, error) {
	if err := load.check(); err != nil {
		return nil, err
	}
	w, err := newWorld(cfg, &load)
	if err != nil {
		return nil, err
	}
	m, err := w.machine()
	if err != nil {
		return nil, err
	}
	if err := w.play(ctx, m); err != nil {
		return nil, err
	}
	return w.report(m), nil
}
