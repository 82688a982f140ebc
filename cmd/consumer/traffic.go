package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"ossuary/internal/config"
	"ossuary/internal/router"
	"ossuary/internal/service"
)

// trafficFlags say how many events like one there are.
type trafficFlags struct {
	rate, size string
	service.Traffic
}

func (f *trafficFlags) flags(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.rate, "rate", "", "estimate for so many events like this one: `N`/s, /m, /h or /d")
	flags.StringVar(&f.size, "size", "", "with --rate: `BYTES` of the payload, 1KiB for example; default: --data as it is, or 1KiB")
	flags.DurationVar(&f.Append, "append-time", 30*time.Millisecond, "with --rate: how long an append takes")
	flags.Float64Var(&f.Ratio, "ratio", 1, "with --rate: how many times smaller the codec makes your events; 1: not at all")
}

// read completes the flags, and the event's payload by them.
func (f *trafficFlags) read(m *router.Message, data bool) (err error) {
	if f.rate == "" {
		if f.size != "" {
			return errors.New("--size goes with --rate")
		}
		return nil
	}
	if f.Rate, err = eventRate(f.rate); err != nil {
		return fmt.Errorf("--rate %q: %w", f.rate, err)
	}
	if f.Append <= 0 || f.Ratio <= 0 {
		return errors.New("--append-time and --ratio must be above 0")
	}
	if f.size != "" && data {
		return errors.New("--size and --data exclude each other; leave one out")
	}
	if data {
		return nil
	}
	n := uint64(1 << 10)
	if f.size != "" {
		if n, err = humanize.ParseBytes(f.size); err != nil || n > 1<<30 {
			return fmt.Errorf("--size %q: use bytes, like 800 or 1KiB, up to 1GiB", f.size)
		}
	}
	m.Data = bytes.Repeat([]byte("0"), int(n)) // of text, so that no payload mode makes it longer
	if n >= 2 {
		m.Data[0], m.Data[n-1] = '"', '"' // a JSON string
	}
	return nil
}

// eventRate is events per second of N/s, N/m, N/h or N/d.
func eventRate(s string) (float64, error) {
	number, unit, _ := strings.Cut(strings.ReplaceAll(s, ",", ""), "/")
	per := map[string]float64{"": 1, "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}[strings.TrimSpace(unit)]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || per == 0 || n <= 0 || math.IsInf(n, 0) {
		return 0, errors.New("use a number of events above 0 with /s, /m, /h or /d, like 1000/s")
	}
	return n / per, nil
}

// explained is a destination with what traffic to it comes to.
type explained struct {
	service.Destination
	Flush    string            `json:"flush,omitempty"`
	Roll     string            `json:"roll,omitempty"`
	Estimate *service.Estimate `json:"estimate,omitempty"`
}

func (f *trafficFlags) explain(cfg *config.Config, found []service.Destination, m *router.Message) ([]explained, error) {
	out := make([]explained, len(found))
	for i := range found {
		d := &found[i]
		out[i].Destination = *d
		if flush, roll, ok := service.Timing(cfg, d); ok {
			out[i].Flush, out[i].Roll = flushWords(flush), rollWords(roll)
		}
		if f.rate == "" || d.Series == "" {
			continue
		}
		var err error
		if out[i].Estimate, err = service.EstimateOf(cfg, d, m, f.Traffic); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func flushWords(f config.Flush) string {
	s := fmt.Sprintf("at %s of lines or %s events", humanize.IBytes(uint64(max(0, f.Size))), humanize.Comma(int64(f.Events)))
	if f.Linger > 0 {
		return s + fmt.Sprintf(", %s after the first event at the latest", short(f.Linger))
	}
	return s + ", and as soon as the append before is answered"
}

func rollWords(r config.Roll) string {
	s := "at " + humanize.IBytes(uint64(max(0, r.Size)))
	if r.Age > 0 {
		s += fmt.Sprintf(", %s after its first append", short(r.Age))
	}
	if r.Idle > 0 {
		s += fmt.Sprintf(", %s after its last", short(r.Idle))
	}
	return s
}

// short is a duration without its zeros.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// estimateRows shows an estimate to a person.
func (d *explained) estimateRows(row func(name, value string)) {
	e := d.Estimate
	if e == nil {
		return
	}
	row("traffic", fmt.Sprintf("%s events/s of %s each, encoded", number(e.Rate), humanize.IBytes(uint64(e.LineBytes))))
	row("batch", fmt.Sprintf("%s events every %s, sent for: %s", number(e.BatchEvents), roughly(e.BatchEvery), e.FlushedBy))
	if e.TooMuch {
		row("TOO MUCH", "one series has one append in flight, and cannot take so much: make flush.size and flush.events larger, or more series")
	}
	row("appends a day", number(e.Appends))
	row("objects a day", objectWords(e))
	row("stored a day", humanize.IBytes(uint64(e.Stored)))
	row("requests a day", fmt.Sprintf("%s PUT, %s GET; and %s PUT for the control log of the stream", number(e.Writes), number(e.Reads), number(e.Control)))
}

func objectWords(e *service.Estimate) string {
	by := ""
	if e.Rolled != "" {
		by = ", ended by " + e.Rolled
	}
	switch {
	case e.Objects == 0:
		return "one for good"
	case e.Objects < 1:
		return fmt.Sprintf("one in %s days%s", number(1/e.Objects), by)
	case e.Series >= 1:
		return fmt.Sprintf("%s of %s series%s", number(e.Objects), number(e.Series), by)
	}
	return number(e.Objects) + by
}

// number writes an estimate without digits that mean nothing.
func number(v float64) string {
	if v >= 100 || v == math.Trunc(v) {
		return humanize.Comma(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func roughly(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
