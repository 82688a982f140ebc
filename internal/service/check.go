package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/intake"
	"ossuary/internal/ledger"
	"ossuary/internal/router"
)

// checkDir, below the prefix, holds the objects that checks append a line to.
const checkDir = "_ossuary/check/"

// drySamples is how many messages of a stream a check routes.
const drySamples = 50

// The levels of a checked item.
const (
	CheckOK      = "ok"
	CheckUnknown = "unknown" // it could not be looked at; running does not need it
	CheckWarning = "warning"
	CheckProblem = "problem"
)

// Checked is one thing that was looked at.
type Checked struct {
	What   string `json:"what"`
	Level  string `json:"level"`
	Detail string `json:"detail"`
	Mend   string `json:"mend,omitempty"`
}

// Check tries out everything that running needs, and archives nothing. Beyond
// one line in objects below _ossuary/check/, which nothing else looks at, it
// leaves nothing behind.
func Check(ctx context.Context, cfg *config.Config, log zerolog.Logger) []Checked {
	c := &checker{cfg: cfg, log: log}
	c.ok("configuration", fmt.Sprintf("archive %s, sources: %d", cfg.Archive.Name, len(cfg.Sources)))
	for _, w := range cfg.Warnings {
		c.warn("configuration", w.Place()+w.Path+": "+w.What, w.Mend)
	}
	if cfg.Embedded.Enabled {
		local, err := borrowLocal(cfg, log)
		if err != nil {
			c.ok("embedded servers", "not there yet; `consumer run` starts them under "+cfg.Embedded.DataDir)
			return c.found
		}
		if local != nil {
			defer local.Close()
		}
	}
	c.store(ctx)
	var d denials
	nc, js, err := connectNATS(ctx, cfg, &d, log)
	if err != nil {
		c.problem("nats", err.Error(), "")
		return c.found
	}
	defer nc.Close()
	c.ok("nats", fmt.Sprintf("%s, version %s", nc.ConnectedUrlRedacted(), nc.ConnectedServerVersion()))
	for i, layout := range cfg.Layouts() {
		c.source(ctx, js, i, layout)
	}
	c.ledger(ctx, js)
	for _, x := range d.recent() {
		c.warn("nats", x.String(), "")
	}
	return c.found
}

type checker struct {
	cfg   *config.Config
	log   zerolog.Logger
	found []Checked
}

func (c *checker) ok(what, detail string) {
	c.found = append(c.found, Checked{what, CheckOK, detail, ""})
}
func (c *checker) warn(what, detail, mend string) {
	c.found = append(c.found, Checked{what, CheckWarning, detail, mend})
}

func (c *checker) problem(what, detail, mend string) {
	c.found = append(c.found, Checked{what, CheckProblem, detail, mend})
}

func (c *checker) unknown(what, detail, mend string) {
	c.found = append(c.found, Checked{what, CheckUnknown, detail, mend})
}

// source judges a stream's settings and routes some of its messages.
func (c *checker) source(ctx context.Context, js jetstream.JetStream, i int, layout router.Layout) {
	source := &c.cfg.Sources[i]
	what := "stream " + source.Stream
	bad := false
	for _, name := range layout.LaneNames() {
		r, err := router.NewLane(layout, name)
		if err != nil {
			c.problem(what, fmt.Sprintf("sources[%d]: %s", i, err), "")
			return
		}
		l := &lane{source: source, name: name, filters: r.Filters()}
		found, err := intake.Check(ctx, js, l.check(c.cfg))
		if err != nil {
			c.problem(what, fmt.Sprintf("sources[%d].stream: %s", i, err), "")
			return
		}
		for _, f := range found {
			switch {
			case f.Refuse && source.Create != nil && missingStream(ctx, js, source.Stream):
				c.ok(what, "not there yet; `consumer run` creates it")
				return
			case f.Refuse:
				c.problem(what, fmt.Sprintf("sources[%d].stream: %s", i, f.What), f.Mend)
				bad = true
			case name == firstLane:
				c.warn(what, f.What, f.Mend)
			}
		}
		if bad {
			return
		}
	}
	stream, err := js.Stream(ctx, source.Stream)
	if err != nil {
		c.problem(what, err.Error(), "")
		return
	}
	c.dryRun(ctx, stream, what, layout)
}

func missingStream(ctx context.Context, js jetstream.JetStream, name string) bool {
	_, err := js.Stream(ctx, name)
	return errors.Is(err, jetstream.ErrStreamNotFound)
}

// dryRun takes messages all over the stream and says where they would go.
func (c *checker) dryRun(ctx context.Context, stream jetstream.Stream, what string, layout router.Layout) {
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		c.ok(what, "empty")
		return
	}
	routers := map[string]*router.Router{}
	series := map[string]bool{}
	var routed, skipped, dead, tried int
	var example string
	step := max(1, (state.LastSeq-state.FirstSeq)/drySamples)
	for seq := state.FirstSeq; seq <= state.LastSeq && tried < drySamples; seq += step {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			c.warn(what, "cannot read a message: "+err.Error(), "grant $JS.API.STREAM.MSG.GET and DIRECT.GET for the dry run")
			return
		}
		tried++
		name, ok := layout.LaneOf(m.Subject)
		if !ok {
			skipped++
			continue
		}
		r := routers[name]
		if r == nil {
			if r, err = router.NewLane(layout, name); err != nil {
				c.problem(what, err.Error(), "")
				return
			}
			routers[name] = r
		}
		t := r.Resolve(&router.Message{Subject: m.Subject, Header: m.Header, Data: m.Data, Time: m.Time, Sequence: m.Sequence})
		switch {
		case t.Poison != "":
			dead++
			example = fmt.Sprintf("; sequence %d (%s) would be a dead letter: %s", m.Sequence, m.Subject, t.Poison)
		case t.Skip:
			skipped++
		default:
			routed++
			series[t.Series] = true
		}
	}
	detail := fmt.Sprintf("%d messages; of %d tried %d go to %d series, %d are skipped, %d are dead letters%s",
		state.Msgs, tried, routed, len(series), skipped, dead, example)
	if dead > 0 {
		c.warn(what, detail, "see `consumer route SUBJECT`, and correct the series template")
		return
	}
	c.ok(what, detail)
}

func (c *checker) ledger(ctx context.Context, js jetstream.JetStream) {
	bucket := ledger.BucketPrefix + c.cfg.Archive.Name
	l, err := ledger.Open(ctx, js, ledger.Config{Archive: c.cfg.Archive.Name, Log: c.log})
	if errors.Is(err, ledger.ErrNoBucket) {
		c.ok("ledger", bucket+" is not there yet; `consumer run` creates it")
		return
	}
	if err == nil {
		var lanes []ledger.Entry
		if lanes, err = l.Lanes(ctx); err == nil {
			c.ok("ledger", fmt.Sprintf("%s, lanes: %d", bucket, len(lanes)))
			return
		}
	}
	c.problem("ledger", fmt.Sprintf("%s: %s", bucket, err), "grant the user $KV."+bucket+".> and the JetStream API of stream KV_"+bucket)
}

var levels = []string{CheckOK, CheckUnknown, CheckWarning, CheckProblem}

// Worst is the highest level among what was found.
func Worst(found []Checked) string {
	worst := CheckOK
	for _, f := range found {
		if slices.Index(levels, f.Level) > slices.Index(levels, worst) {
			worst = f.Level
		}
	}
	return worst
}

func (f Checked) String() string {
	s := f.Detail
	if f.Mend != "" {
		s += "; " + f.Mend
	}
	return strings.TrimSpace(s)
}
