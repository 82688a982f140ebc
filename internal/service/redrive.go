package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/redrive"
	"ossuary/internal/router"
)

const (
	// A batch of letters costs one append to the redrive log, and is held in memory.
	redriveBatch = 256
	redriveBytes = 8 << 20
	// redriveClose bounds the last line of a redrive that was interrupted.
	redriveClose = 10 * time.Second
)

// RedriveOptions says what to send again, and how.
type RedriveOptions struct {
	Deads
	DryRun   bool
	Wait     time.Duration       // how long the floor is waited for, where only the archive knows
	Done     func(RedriveLetter) // told of each letter; may be nil
	Progress func(letters int)   // looked at so far; may be nil
}

// RedriveLetter is what became of one letter.
type RedriveLetter struct {
	Source      string `json:"source"`
	Incarnation int    `json:"incarnation"`
	Sequence    uint64 `json:"sequence"`
	Subject     string `json:"subject"`
	Outcome     string `json:"outcome"`          // sent, would be sent, sent before, dead still, left out, failed
	As          uint64 `json:"as,omitempty"`     // its new sequence
	Series      string `json:"series,omitempty"` // where it goes
	Why         string `json:"why,omitempty"`
}

// The outcomes of a letter.
const (
	RedriveSent    = "sent"
	RedriveWould   = "would be sent"
	RedriveEarlier = "sent before"
	RedriveDead    = "dead still"
	RedriveLeft    = "left out"
	RedriveFailed  = "failed"
)

// RedriveResult counts outcomes.
type RedriveResult struct {
	Letters  int            `json:"letters"` // looked at
	Outcomes map[string]int `json:"outcomes"`
	Damage   []string       `json:"damage,omitempty"` // met on the way
}

// Good reports whether no letter that was asked for is dead still.
func (r *RedriveResult) Good() bool {
	return r.Outcomes[RedriveDead]+r.Outcomes[RedriveLeft]+r.Outcomes[RedriveFailed] == 0 && len(r.Damage) == 0
}

// Redrive sends dead letters back to their streams, each once. A letter that the
// configuration would not archive is left as it is.
func (a *Archive) Redrive(ctx context.Context, cfg *config.Config, o RedriveOptions, log zerolog.Logger) (*RedriveResult, error) {
	if a.JS == nil || a.client == nil {
		return nil, errors.New("nats.url: the streams cannot be reached, so nothing can be sent to them")
	}
	d := &redriving{a: a, cfg: cfg, o: o, log: log, result: &RedriveResult{Outcomes: map[string]int{}}, sources: map[string]*redrivingSource{}}
	err := d.run(ctx)
	// What was sent is written down also if the rest was not: the next one has less
	// to look for.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), redriveClose)
	defer cancel()
	for _, s := range d.sources {
		if s.sender == nil {
			continue
		}
		if cerr := s.sender.Close(bounded); err == nil {
			err = cerr
		}
	}
	return d.result, err
}

type redriving struct {
	a       *Archive
	cfg     *config.Config
	o       RedriveOptions
	log     zerolog.Logger
	result  *RedriveResult
	sources map[string]*redrivingSource

	source string // of the batch
	batch  []*redrive.Letter
	goes   []string // the series of each
	bytes  int
}

func (d *redriving) run(ctx context.Context) error {
	for l, err := range d.a.DeadLetters(ctx, d.o.Deads) {
		var damage *archive.DamageError
		if errors.As(err, &damage) {
			d.result.Damage = append(d.result.Damage, damage.Error())
			continue
		}
		if err != nil {
			return err
		}
		d.result.Letters++
		if d.o.Progress != nil {
			d.o.Progress(d.result.Letters)
		}
		if l.Sent {
			d.done(l.Source, l.Letter, RedriveLetter{Outcome: RedriveEarlier, As: l.As})
			continue
		}
		s, err := d.sourceOf(l.Source)
		if err != nil {
			return err
		}
		verdict := s.try(l.Letter)
		switch {
		case verdict.Outcome != RedriveWould || d.o.DryRun:
			d.done(l.Source, l.Letter, verdict)
			continue
		case l.Source != d.source:
			if err := d.flush(ctx); err != nil {
				return err
			}
			d.source = l.Source
		}
		d.batch, d.goes, d.bytes = append(d.batch, l.Letter), append(d.goes, verdict.Series), d.bytes+len(l.Data)
		if len(d.batch) >= redriveBatch || d.bytes >= redriveBytes {
			if err := d.flush(ctx); err != nil {
				return err
			}
		}
	}
	return d.flush(ctx)
}

func (d *redriving) done(source string, l *redrive.Letter, r RedriveLetter) {
	r.Source, r.Incarnation, r.Sequence, r.Subject = source, l.Incarnation, l.Sequence(), l.Subject
	d.result.Outcomes[r.Outcome]++
	if d.o.Done != nil {
		d.o.Done(r)
	}
}

// flush sends the batch.
func (d *redriving) flush(ctx context.Context) error {
	if len(d.batch) == 0 {
		return nil
	}
	s := d.sources[d.source]
	if s.sender == nil {
		var err error
		if s.sender, err = s.newSender(ctx, d); err != nil {
			return err
		}
	}
	out, err := s.sender.Send(ctx, d.batch)
	for i, o := range out {
		r := RedriveLetter{Outcome: RedriveSent, As: o.As, Series: d.goes[i], Why: o.Problem}
		switch {
		case o.Problem != "":
			r.Outcome = RedriveFailed
		case o.Earlier:
			r.Outcome = RedriveEarlier
		}
		d.done(d.source, d.batch[i], r)
	}
	d.batch, d.goes, d.bytes = nil, nil, 0
	return err
}

// redrivingSource is one source in it.
type redrivingSource struct {
	name    string
	layout  *router.Layout // nil: not in the configuration
	specs   *specs
	routers map[string]*router.Router // by lane
	sender  *redrive.Sender
}

func (d *redriving) sourceOf(name string) (*redrivingSource, error) {
	if s := d.sources[name]; s != nil {
		return s, nil
	}
	s := &redrivingSource{name: name, routers: map[string]*router.Router{}}
	for i, layout := range d.cfg.Layouts() {
		if d.cfg.Sources[i].Stream != name {
			continue
		}
		var err error
		if s.specs, err = newSpecs(d.cfg, &d.cfg.Sources[i], ""); err != nil {
			return nil, err
		}
		s.layout = &layout
		for _, lane := range layout.LaneNames() {
			if s.routers[lane], err = router.NewLane(layout, lane); err != nil {
				return nil, fmt.Errorf("sources[%d]: %w", i, err)
			}
		}
	}
	d.sources[name] = s
	return s, nil
}

// try says what the configuration would make of the letter if it came now.
func (s *redrivingSource) try(l *redrive.Letter) RedriveLetter {
	if s.layout == nil {
		return RedriveLetter{Outcome: RedriveFailed, Why: "sources[].stream has no stream " + s.name}
	}
	lane, ok := s.layout.LaneOf(l.Subject)
	if !ok {
		return RedriveLetter{Outcome: RedriveLeft, Why: "its subject belongs to no lane"}
	}
	m := l.Message(s.layout.Archive, s.name, l.Subject)
	e := event.Event{Sequence: l.Sequence(), Time: time.Now().UTC(), Subject: l.Subject, Header: m.Header, Data: l.Data}
	t := s.routers[lane].Resolve(&router.Message{Subject: e.Subject, Header: e.Header, Data: e.Data, Time: e.Time, Sequence: e.Sequence})
	switch {
	case t.Skip && t.Route == nil:
		return RedriveLetter{Outcome: RedriveLeft, Why: "no route takes its subject"}
	case t.Skip:
		return RedriveLetter{Outcome: RedriveLeft, Why: fmt.Sprintf("route %s skips it", t.Route.Name)}
	case t.Poison != "":
		return RedriveLetter{Outcome: RedriveDead, Why: t.Poison}
	}
	spec, err := s.specs.build(0, t)
	if err == nil {
		_, err = spec.Encoder.Append(nil, &e)
	}
	if err != nil {
		return RedriveLetter{Outcome: RedriveDead, Why: err.Error()}
	}
	l.Raw = spec.Encoder.Format == event.Raw
	return RedriveLetter{Outcome: RedriveWould, Series: t.Series}
}

func (s *redrivingSource) newSender(ctx context.Context, d *redriving) (*redrive.Sender, error) {
	writer := ownerID(d.cfg)
	ctl, err := control.Open(ctx, d.a.client, control.Options{Archive: d.cfg.Archive.Name, Prefix: d.cfg.OSS.Prefix, Source: s.name, Writer: writer, Log: d.log})
	if err != nil {
		return nil, err
	}
	log, err := redrive.OpenLog(ctx, d.a.client, d.cfg.Archive.Name, d.cfg.OSS.Prefix, s.name, writer)
	if err != nil {
		return nil, err
	}
	var filters []string
	for _, r := range s.routers {
		filters = append(filters, r.Filters()...)
	}
	held := &settled{ctl: ctl, store: d.a.client, prefix: d.cfg.OSS.Prefix, source: s.name, canonical: s.layout.Canonical()}
	return redrive.NewSender(ctx, redrive.Options{
		Archive: d.cfg.Archive.Name, Source: s.name, Lanes: s.layout.Lanes, Filters: filters, JS: d.a.JS, Log: log,
		Settled: held.at,
		Floor:   func(ctx context.Context) (uint64, error) { return d.a.floor(ctx, s.layout, ctl) },
		Archived: func(ctx context.Context, after uint64) (map[redrive.Name]uint64, error) {
			return d.a.archivedAgain(ctx, s.name, after)
		},
		FloorWait: d.o.Wait, Logger: d.log,
	})
}

// floor is up to where all lanes of a source have archived everything.
func (a *Archive) floor(ctx context.Context, layout *router.Layout, ctl *control.Log) (uint64, error) {
	st, err := ctl.Refresh(ctx)
	if err != nil {
		return 0, err
	}
	var floor uint64
	for i, lane := range layout.LaneNames() {
		t, _ := st.Tally(lane)
		at := t.Floor
		if a.Ledger != nil {
			e, _, err := a.Ledger.Lane(ctx, layout.Source, lane)
			if err != nil {
				return 0, fmt.Errorf("reading the floor: %w", err)
			}
			if e.Incarnation == st.Stream.Incarnation {
				at = max(at, e.Floor)
			}
		}
		if i == 0 || at < floor {
			floor = at
		}
	}
	return floor, nil
}

// settled sees that what is sent will be archived by the configuration that it
// was tried under, and by no other.
type settled struct {
	ctl       *control.Log
	store     bucket
	prefix    string
	source    string
	canonical []byte

	read  time.Time
	ours  map[int]bool // layouts, by number
	state control.State
}

// stateFor is how long what the control log said is taken for what it says.
// Should another layout come meanwhile, a letter may become a dead letter again.
const stateFor = time.Second

func (s *settled) at(ctx context.Context, sequence uint64) error {
	if time.Since(s.read) >= stateFor {
		st, err := s.ctl.Refresh(ctx)
		if err != nil {
			return err
		}
		s.state, s.read = st, time.Now()
	}
	if !s.state.Exists() {
		return fmt.Errorf("stream %s has no control log: nothing of it was archived yet; start `consumer run` with this configuration first", s.source)
	}
	newest, err := s.isOurs(ctx, s.state.Layout())
	if err != nil {
		return err
	}
	if !newest {
		return fmt.Errorf("the archive of stream %s goes by layout %d, whose routes are not those of this configuration; start `consumer run` with it first, or name the configuration that the service runs with",
			s.source, s.state.Layout())
	}
	if n := s.state.LayoutAt(sequence); n != s.state.Layout() {
		ours, err := s.isOurs(ctx, n)
		if err != nil {
			return err
		}
		if !ours {
			return fmt.Errorf("this configuration holds from sequence %d of stream %s on, and what is sent now would be sequence %d, under the routes of before; try again when the stream is beyond",
				s.state.Layouts[len(s.state.Layouts)-1].Since, s.source, sequence)
		}
	}
	return nil
}

func (s *settled) isOurs(ctx context.Context, n int) (bool, error) {
	if ours, known := s.ours[n]; known {
		return ours, nil
	}
	body, err := control.LoadLayout(ctx, s.store, s.prefix, n)
	if err != nil {
		return false, err
	}
	layout, err := router.ParseLayout(body)
	if err != nil {
		return false, fmt.Errorf("layout %d: %w", n, err)
	}
	if s.ours == nil {
		s.ours = map[int]bool{}
	}
	s.ours[n] = string(layout.Canonical()) == string(s.canonical)
	return s.ours[n], nil
}
