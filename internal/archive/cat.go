package archive

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/router"
)

// clockSkew is how far a stream's timestamps may fall back from one message to a
// later one (its leader moved to a server whose clock is behind) without cat by
// time missing anything.
const clockSkew = time.Hour

// Selection says which events are wanted. The zero Selection wants all but dead
// letters.
type Selection struct {
	Subjects []string  // NATS filters, any of which takes the event's subject; nil: all
	Series   string    // prefix of the series' name, with or without its shard, or a glob in the sense of path.Match if it has one of *?[\
	From, To uint64    // stream sequences, inclusive; To 0: no end
	Since    time.Time // inclusive; zero: no bound
	Until    time.Time // exclusive; zero: no bound
	Source   string    // stream that they are of; "": any
	Dead     bool      // dead letters instead of events
	WithDead bool      // dead letters and events
	Tail     int       // of these only the newest so many, in the order of their time; 0: all
}

// globMarks make a series name a glob.
const globMarks = `*?[\`

// takesSeries reports whether events of the series may be wanted.
func (s *Selection) takesSeries(name string) bool {
	switch {
	case isDead(name):
		if !s.Dead && !s.WithDead && !(s.Series != "" && isDead(s.Series)) {
			return false
		}
	case s.Dead:
		return false
	}
	if s.names(name) {
		return true
	}
	bare, ok := router.Unsharded(name)
	return ok && s.names(bare)
}

func (s *Selection) names(name string) bool {
	if !strings.ContainsAny(s.Series, globMarks) {
		return strings.HasPrefix(name, s.Series)
	}
	ok, _ := path.Match(s.Series, name)
	return ok
}

// literal is what all wanted series' names begin with, behind their shards.
func (s *Selection) literal() string {
	if i := strings.IndexAny(s.Series, globMarks); i >= 0 {
		return s.Series[:i]
	}
	return s.Series
}

// Check refuses what could not select anything.
func (s *Selection) Check() error {
	for _, f := range s.Subjects {
		if err := router.CheckFilter(f); err != nil {
			return fmt.Errorf("subject %q: %w", f, err)
		}
	}
	if _, err := path.Match(s.Series, ""); err != nil {
		return fmt.Errorf("series %q: %w", s.Series, err)
	}
	return nil
}

// takesFrame judges by the header: false if no event of the frame is wanted.
func (s *Selection) takesFrame(c *event.Content) bool {
	return c.Last >= s.From && (s.To == 0 || c.First <= s.To) &&
		(s.Since.IsZero() || !c.MaxTime.Before(s.Since)) && (s.Until.IsZero() || c.MinTime.Before(s.Until))
}

// Record is one archived event. It is valid until the next is asked for.
type Record struct {
	Series      string
	Key         string // of its segment
	Position    int64  // of its frame
	Archive     string
	Source      string
	Incarnation int
	Sequence    uint64
	Time        time.Time // stream timestamp; of a raw event, which has none, its frame's least
	Format      event.Format
	Line        []byte // as archived, without the newline

	decoded bool
	event   event.Line
}

// Event takes the line apart. Raw events have no subject, headers or timestamp.
func (r *Record) Event() (*event.Line, error) {
	if r.decoded {
		return &r.event, nil
	}
	if r.Format == event.Raw {
		r.event = event.Line{Event: event.Event{Sequence: r.Sequence, Data: r.Line}}
	} else if err := event.DecodeLine(r.Line, &r.event); err != nil {
		return nil, fmt.Errorf("decoding sequence %d in %s: %w", r.Sequence, r.Key, err)
	}
	r.decoded = true
	return &r.event, nil
}

// Form is how a record is printed.
type Form uint8

// The forms of AppendRecord.
const (
	AsEnvelope Form = iota // one JSON object per event; of a raw event what is known
	AsPayload              // payload and a newline
	AsLine                 // the line as it is archived
)

// AppendRecord prints r, with a newline at its end.
func AppendRecord(dst []byte, form Form, r *Record) ([]byte, error) {
	switch {
	case form == AsPayload:
		l, err := r.Event()
		if err != nil {
			return dst, err
		}
		dst = append(dst, l.Data...)
	case form == AsEnvelope && r.Format == event.Raw:
		// Whoever reads this must not take invented values for archived ones:
		// there is no subject and no timestamp.
		whole, err := event.Encoder{Payload: rawPayload(r.Line)}.Append(nil, &event.Event{Sequence: r.Sequence, Data: r.Line})
		if err != nil {
			return dst, fmt.Errorf("printing sequence %d in %s: %w", r.Sequence, r.Key, err)
		}
		member := []byte(`,"text":`)
		if !utf8.Valid(r.Line) {
			member = []byte(`,"base64":`)
		}
		i := bytes.Index(whole, member)
		if i < 0 {
			return dst, fmt.Errorf("printing sequence %d in %s: no payload", r.Sequence, r.Key)
		}
		dst = fmt.Appendf(dst, `{"seq":%d`, r.Sequence)
		return append(dst, whole[i:]...), nil
	default:
		dst = append(dst, r.Line...)
	}
	return append(dst, '\n'), nil
}

func rawPayload(line []byte) event.Payload {
	if utf8.Valid(line) {
		return event.Text
	}
	return event.Base64
}

// DamageError is what reading met instead of events. What follows it is still
// given to a caller that asks on.
type DamageError struct{ Finding }

func (e *DamageError) Error() string { return e.Finding.String() }

// reading is the visitor of Cat, Merge and Follow.
type reading struct {
	ctx   context.Context //nolint:containedctx // of the one call that the visitor lives in
	r     *Reader
	sel   *Selection
	yield func(*Record, error) bool

	// How its walkers read, see there.
	frozen bool
	window func() int64

	series  *Series
	single  bool // the series is of one incarnation: its sequences only rise
	stopped bool // the caller has had enough
	past    bool // what follows in this series is not wanted
	subject bool // it was said that raw events have no subject
	record  Record

	// Where the last valid data frame ended, for a walk that shall go on there.
	segment Segment
	endsAt  int64
	chain   event.Chain // behind it
	begun   bool        // a frame was read, or a segment begun

	// Stored bytes of the selection, and of those the ones that were passed.
	total, before, done int64
}

func (c *reading) begin(seg *Segment, _ object.Info) error {
	c.passed(seg, 0)
	return nil
}

func (c *reading) boundary(seg *Segment, position int64, _ uint64, _ bool, chain *event.Chain) {
	c.segment, c.endsAt = *seg, position
	c.chain, c.begun = *chain, true
	c.passed(seg, position)
}

// passed tells how far the reading is.
func (c *reading) passed(seg *Segment, position int64) {
	if c.r.Progress == nil || c.total == 0 {
		return
	}
	done := c.before + position
	for i := range c.series.Segments {
		if c.series.Segments[i].Number < seg.Number {
			done += c.series.Segments[i].Size
		}
	}
	c.done = max(c.done, min(done, c.total))
	c.r.Progress(c.done, c.total)
}

func (c *reading) note(Finding)                                                              {}
func (c *reading) read(int64)                                                                {}
func (c *reading) end(*Segment, *event.Frame, uint64, bool, []event.IndexEntry, *event.Tree) {}

func (c *reading) problem(f Finding) {
	if !c.stopped && !c.yield(nil, &DamageError{f}) {
		c.stopped = true
	}
}

func (c *reading) frame(seg *Segment, f *event.Frame, body []byte) error {
	n, sel := &f.Content, c.sel
	if c.stopped {
		return errStop
	}
	if c.single && (sel.To != 0 && n.First > sel.To || !sel.Until.IsZero() && n.MinTime.After(sel.Until.Add(clockSkew))) {
		c.past = true
		return errStop
	}
	if !sel.takesFrame(n) || sel.Source != "" && n.Source != sel.Source {
		return nil
	}
	if n.Format == event.Raw && len(sel.Subjects) > 0 {
		if !c.subject {
			c.subject = true
			c.problem(Finding{Source: n.Source, Series: n.Series, Key: seg.Key, Position: f.Place.Position,
				What: "raw events have no subject to select by", Mend: "select them by series"})
		}
		return nil
	}
	rest := body
	var failed error
	err := event.Sequences(f, body, func(seq uint64, t time.Time) bool {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, rest = rest[:i], rest[i+1:]
		}
		if t.IsZero() {
			t = n.MinTime
		} else if !sel.Since.IsZero() && t.Before(sel.Since) || !sel.Until.IsZero() && !t.Before(sel.Until) {
			return true
		}
		if seq < sel.From || sel.To != 0 && seq > sel.To {
			return true
		}
		c.record = Record{Series: n.Series, Key: seg.Key, Position: f.Place.Position, Archive: n.Archive, Source: n.Source, Incarnation: n.Stream.Incarnation,
			Sequence: seq, Time: t, Format: n.Format, Line: line}
		if len(sel.Subjects) > 0 {
			var l *event.Line
			if l, failed = c.record.Event(); failed != nil {
				return false
			}
			if !takesSubject(sel.Subjects, l.Subject) {
				return true
			}
		}
		c.stopped = !c.yield(&c.record, nil)
		return !c.stopped
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		c.problem(Finding{Source: n.Source, Series: n.Series, Key: seg.Key, Position: f.Place.Position, What: err.Error()})
	}
	if c.stopped {
		return errStop
	}
	return nil
}

func takesSubject(filters []string, subject string) bool {
	for _, f := range filters {
		if router.Contains(f, subject) {
			return true
		}
	}
	return false
}
