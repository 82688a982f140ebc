package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/router"
)

// The defaults, and why they are what they are.
const (
	// OSS bills and rate-limits requests: a batch of 1 MiB or a second's worth
	// keeps a busy series at some appends a second and an idle one within a
	// second of the stream. What waits for an append that is slow makes the next
	// one larger.
	flushSize   = 1 << 20
	flushEvents = 10_000
	flushLinger = time.Second
	// 1 GiB is few objects that any tool still opens; the end of appends is 5 GB.
	rollSize    = 1 << 30
	maxRollSize = 9 << 29 // 4.5 GiB: room below the 5 GB for the last frame and the seal
	// A series named by the hour gets its last event when the hour ends, apart
	// from what was delayed. An hour later it is sealed, which costs one append,
	// and one more segment if an event comes later still.
	rollIdle = time.Hour
	// Roll by age is off: it makes small objects, and time in the name does it better.
	rollAge = 0

	// The consumer may run this far ahead of the acknowledged floor. From half of it
	// on batches go early, so that it should not be what ends before limits.memory does:
	// one event for so many bytes of that. NATS keeps some 100 bytes for each, and
	// writes a few bytes of each with the consumer's state up to ten times a second,
	// which is why there is a most.
	eventMemory       = 1 << 10
	leastAckPending   = 100_000
	defaultAckPending = 1_000_000 // at most, where nothing is said
)

// Default is the configuration that holds without a file: NATS and an
// OSS-compatible store in this process.
func Default() *Config {
	c := base()
	c.Embedded.Enabled = true
	c.complete()
	return c
}

// completeEmbedded fills in what a user who runs everything in one process need
// not know. An archive of one's own must be named; this one goes by "main".
func (c *Config) completeEmbedded() {
	c.Archive.Name = orElse(c.Archive.Name, "main")
	if c.OSS.Endpoint == "" {
		c.OSS.Bucket = orElse(c.OSS.Bucket, "ossuary")
		c.OSS.CreateBucket = true
	}
	if len(c.Sources) == 0 {
		r := newRoute(c.Defaults)
		r.Subjects, r.Series = []string{"events.>"}, "events/{{time(%Y/%m/%d/%H)}}"
		c.Sources = []Source{{
			Stream: "EVENTS", Lanes: 1,
			Create: &Create{Subjects: []string{"events.>"}},
			Routes: []Route{r},
		}}
	}
}

// base is what holds where a file is silent.
func base() *Config {
	return &Config{
		NATS: NATS{Name: "ossuary"},
		OSS: OSS{
			PathStyle: "auto", AuthVersion: "v4", Timeout: time.Minute, ConnectTimeout: 5 * time.Second,
			Credentials: Credentials{From: "auto", RoleSessionName: "ossuary", RoleSessionDuration: time.Hour},
		},
		Defaults: Defaults{
			Format: "envelope", Codec: "gzip", Payload: "auto",
			Flush: Flush{Size: flushSize, Events: flushEvents, Linger: flushLinger},
			Roll:  Roll{Size: rollSize, Age: rollAge, Idle: rollIdle},
		},
		Limits:   Limits{Memory: 256 << 20, OpenSeries: 10_000, ParallelAppends: 32},
		Ledger:   Ledger{Interval: time.Second},
		Lease:    Lease{TTL: 10 * time.Second},
		Intake:   Intake{Audit: 5 * time.Second, DrainTimeout: 30 * time.Second},
		HTTP:     HTTP{Listen: "127.0.0.1:8080"},
		Tracing:  Tracing{Sample: 1},
		Log:      Log{Level: "info", Format: "auto"},
		Embedded: Embedded{DataDir: "./ossuary-data"},
	}
}

func newRoute(d Defaults) Route {
	return Route{Format: d.Format, Codec: d.Codec, Payload: d.Payload, Newline: "refuse", Flush: d.Flush, Roll: d.Roll}
}

// complete fills in what follows from other settings.
func (c *Config) complete() {
	if c.Embedded.Enabled {
		c.completeEmbedded()
	}
	if len(c.NATS.URLs) == 0 && c.NATS.Context == "" {
		c.NATS.URLs = []string{"nats://127.0.0.1:4222"}
	}
	var urls []string
	for _, u := range c.NATS.URLs {
		for s := range strings.SplitSeq(u, ",") {
			urls = append(urls, strings.TrimSpace(s))
		}
	}
	c.NATS.URLs = urls
	if l := &c.Limits; l.MaxAckPending == 0 {
		l.MaxAckPending = int(min(max(l.Memory/eventMemory, leastAckPending), defaultAckPending))
	}
	if c.OSS.Region == "" {
		c.OSS.Region = object.Region(c.OSS.Endpoint)
	}
	for i := range c.Sources {
		s := &c.Sources[i]
		if cr := s.Create; cr != nil {
			cr.Storage = orElse(cr.Storage, "file")
			cr.Retention = orElse(cr.Retention, "limits")
			cr.Replicas = max(cr.Replicas, 1)
		}
		for j := range s.Routes {
			if r := &s.Routes[j]; r.Name == "" && len(r.Subjects) > 0 {
				r.Name = r.Subjects[0]
			}
		}
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Layouts are the layouts of the sources, in their order. Settings that decide
// nothing for a route (the series of one that skips, the newline mode of an
// envelope) do not show, so that a change of them is no change of layout.
func (c *Config) Layouts() []router.Layout {
	out := make([]router.Layout, len(c.Sources))
	for i := range c.Sources {
		out[i] = c.layout(i)
		for j := range out[i].Routes {
			r := &out[i].Routes[j]
			switch {
			case r.Skip:
				*r = router.Route{Name: r.Name, Subjects: r.Subjects, Skip: true,
					Format: "envelope", Codec: "gzip", Payload: "auto", Newline: "refuse"}
			case r.Format == "raw":
				r.Payload = "auto"
			default:
				r.Newline = "refuse"
			}
		}
	}
	return out
}

// layout is the layout of a source as the file says it.
func (c *Config) layout(i int) router.Layout {
	s := c.Sources[i]
	l := router.Layout{
		Version: router.LayoutVersion, EscapeVersion: router.EscapeVersion, EncoderVersion: router.EncoderVersion,
		Archive: c.Archive.Name, Source: s.Stream, Prefix: c.OSS.Prefix, Lanes: max(s.Lanes, 1), MaxEvent: c.Limits.MaxEvent,
		Shard: c.OSS.ShardPrefix,
	}
	for _, r := range s.Routes {
		l.Routes = append(l.Routes, router.Route{
			Name: r.Name, Subjects: r.Subjects, Series: r.Series, Skip: r.Skip,
			Format: r.Format, Codec: r.Codec, Payload: r.Payload, Newline: r.Newline, Audit: r.Audit,
		})
	}
	return l
}

// UnmarshalText reads all, new, a sequence or a time.
func (s *Start) UnmarshalText(p []byte) error {
	text := strings.TrimSpace(string(p))
	*s = Start{}
	switch text {
	case "all":
		return nil
	case "new":
		s.New = true
		return nil
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && n > 0 {
		s.Sequence = n
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("%q is no place to start; use all, new, a sequence from 1, or a time as in 2026-11-22T10:00:00Z", text)
	}
	s.Time = t.UTC()
	return nil
}

func (s Start) String() string {
	switch {
	case s.New:
		return "new"
	case s.Sequence > 0:
		return strconv.FormatUint(s.Sequence, 10)
	case !s.Time.IsZero():
		return s.Time.Format(time.RFC3339Nano)
	}
	return "all"
}

// MarshalText writes what UnmarshalText reads.
func (s Start) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Moment is a time, none if zero.
type Moment struct{ time.Time }

// UnmarshalText reads a time, or "" for none.
func (m *Moment) UnmarshalText(p []byte) error {
	text := strings.TrimSpace(string(p))
	*m = Moment{}
	if text == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%q is no time; write it as in 2030-01-01T00:00:00Z", text)
	}
	m.Time = t.UTC()
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (m Moment) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return []byte(m.Format(time.RFC3339)), nil
}
