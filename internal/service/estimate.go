package service

import (
	"errors"
	"fmt"
	"math"
	"time"

	"ossuary/internal/appendsink"
	"ossuary/internal/config"
	"ossuary/internal/event"
	"ossuary/internal/router"
)

// Traffic is events like one event, all of them with its subject.
type Traffic struct {
	Rate   float64       // events per second
	Append time.Duration // how long an append takes
	Ratio  float64       // uncompressed bytes for each that is stored
}

// Estimate says what traffic to one series becomes, per day.
type Estimate struct {
	Rate        float64 `json:"rate"`         // events per second
	LineBytes   int     `json:"line_bytes"`   // of an event, encoded, uncompressed
	BatchEvents float64 `json:"batch_events"` // in each append
	BatchEvery  float64 `json:"batch_every"`  // seconds
	FlushedBy   string  `json:"flushed_by"`   // linger, size, events, the append before
	TooMuch     bool    `json:"too_much"`     // one series cannot take so much

	Appends float64 `json:"appends_per_day"`
	Series  float64 `json:"series_per_day"` // new ones; below 1 it is one for good
	Objects float64 `json:"objects_per_day"`
	Rolled  string  `json:"rolled_by"` // size, age, idle, frames; "" if nothing ends a segment
	Stored  float64 `json:"stored_bytes_per_day"`
	// Writes are billed as PUT at OSS: appends, a seal for each object, a listing for
	// each series that is begun. Reads are billed as GET; ordinary work makes none. The
	// control log comes once per source.
	Writes  float64 `json:"put_requests_per_day"`
	Reads   float64 `json:"get_requests_per_day"`
	Control float64 `json:"control_log_requests_per_day"`
}

const (
	day = 24 * 60 * 60.0
	// frameBytes is about what a frame's header and its compressed form take beside the lines.
	frameBytes = 800
	sealBytes  = 700
	// framesPerSegment is where appendsink ends a segment of very small frames.
	framesPerSegment = 1 << 18
	// controlEvery is about how often a source with traffic writes its control log.
	controlEvery = 10.0
)

// EstimateOf says what traffic of events like m becomes under the configuration.
// It is nil where m would not be archived in a series.
func EstimateOf(cfg *config.Config, d *Destination, m *router.Message, t Traffic) (*Estimate, error) {
	if d.Series == "" {
		return nil, nil
	}
	if t.Rate <= 0 || t.Append <= 0 || t.Ratio <= 0 {
		return nil, errors.New("the rate, the time of an append and the ratio must be above 0")
	}
	for i, layout := range cfg.Layouts() {
		if layout.Source != d.Stream {
			continue
		}
		r, err := router.NewLane(layout, d.Lane)
		if err != nil {
			return nil, fmt.Errorf("sources[%d]: %w", i, err)
		}
		sp, err := newSpecs(cfg, &cfg.Sources[i], r.DeadSeries())
		if err != nil {
			return nil, err
		}
		spec, err := sp.build(0, r.Resolve(m))
		if err != nil {
			return nil, err
		}
		line, err := spec.Encoder.Append(nil, &event.Event{Sequence: max(m.Sequence, 1_000_000), Time: m.Time, Subject: m.Subject, Header: m.Header, Data: m.Data})
		if err != nil {
			return nil, err
		}
		return estimate(sp.timing(d.Route), len(line), seriesPerDay(r, *m), t), nil
	}
	return nil, fmt.Errorf("sources[].stream has no stream %s", d.Stream)
}

func estimate(t timing, line int, series float64, tr Traffic) *Estimate {
	e := &Estimate{Rate: tr.Rate, LineBytes: line, Series: series}
	// A batch goes when it is full, or its linger is over since its first event, and
	// not before the append before it is answered.
	most := math.Ceil(float64(t.flush.Size) / float64(line))
	e.FlushedBy = "size"
	if t.flush.Events > 0 && float64(t.flush.Events) < most {
		most, e.FlushedBy = float64(t.flush.Events), "events"
	}
	most = max(most, 1)
	e.BatchEvents = most
	if n := math.Floor(t.flush.Linger.Seconds()*tr.Rate) + 1; n < most {
		e.BatchEvents, e.FlushedBy = n, "linger"
	}
	if n := tr.Append.Seconds() * tr.Rate; n > e.BatchEvents {
		// What comes meanwhile goes with the next one.
		grown := max(math.Ceil(float64(appendsink.Grown(t.flush.Size))/float64(line)), 1)
		if t.flush.Events > 0 {
			grown = min(grown, float64(t.flush.Events))
		}
		e.TooMuch = n > grown
		e.BatchEvents, e.FlushedBy = min(n, grown), "the append before"
	}
	e.BatchEvery = max(e.BatchEvents/tr.Rate, tr.Append.Seconds())
	if e.TooMuch {
		e.BatchEvery = tr.Append.Seconds()
	}
	e.Appends = day / e.BatchEvery
	e.Stored = e.Appends * (e.BatchEvents*float64(line)/tr.Ratio + frameBytes)

	// What ends a segment: the first of size, frames, age and idleness, or the series
	// that is named after a time.
	e.Objects, e.Rolled = 0, ""
	ends := func(perDay float64, by string) {
		if perDay > e.Objects {
			e.Objects, e.Rolled = perDay, by
		}
	}
	if t.roll.Size > 0 {
		ends(e.Stored/float64(t.roll.Size), "size")
	}
	ends(e.Appends/framesPerSegment, "frames")
	if t.roll.Age > 0 {
		// Seen when a batch comes, or by the sweep.
		ends(day/max(t.roll.Age.Seconds(), e.BatchEvery), "age")
	}
	if t.roll.Idle > 0 && e.BatchEvery >= t.roll.Idle.Seconds() {
		ends(e.Appends, "idle")
	}
	if series >= 1 {
		series = min(series, e.Appends) // there is none without an event
		e.Series = series
		if e.Objects < series {
			// Each series has one segment at least, which ends when nothing comes any more.
			e.Objects, e.Rolled = series, ""
			switch {
			case t.roll.Idle > 0:
				e.Rolled = "idle"
			case t.roll.Age > 0:
				e.Rolled = "age"
			}
		}
	}
	seals, lists := e.Objects, e.Series
	if e.Rolled == "" {
		seals = 0
	}
	if e.Rolled == "idle" {
		lists = e.Objects // whoever goes on after a pause looks whether others did
	}
	e.Stored += seals * sealBytes
	e.Writes = e.Appends + seals + lists
	e.Control = day / max(controlEvery, 1/tr.Rate)
	return e
}

// seriesPerDay counts the names that a template makes of one message over a day; 0
// if it is one name whatever the time.
func seriesPerDay(r *router.Router, m router.Message) float64 {
	begin := m.Time.Truncate(24 * time.Hour)
	count := func(n int, step time.Duration) int {
		names := 0
		last := ""
		for i := range n {
			m.Time = begin.Add(time.Duration(i) * step)
			if s := r.Resolve(&m).Series; s != last {
				names, last = names+1, s
			}
		}
		return names
	}
	minutes := count(24*60, time.Minute)
	switch {
	case minutes == 24*60: // finer than that, perhaps
		return float64(minutes) * float64(count(60, time.Second))
	case minutes > 1:
		return float64(minutes)
	}
	// One name a day; or one for good, or for so long that it hardly matters.
	if begin = begin.Add(12 * time.Hour); count(3, 24*time.Hour) == 3 {
		return 1
	}
	return 0
}
