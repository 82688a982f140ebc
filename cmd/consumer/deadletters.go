package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"ossuary/internal/archive"
	"ossuary/internal/service"
)

func (a *app) deadLettersCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "dead-letters",
		Aliases: []string{"dead"},
		Short:   "List dead letters, and send them through the routes again",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.deadLettersList(), a.deadLettersRedrive())
	return c
}

// deadFlags say which dead letters are meant.
type deadFlags struct {
	service.Deads
	seq, since, until string
}

func (f *deadFlags) flags(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.Stream, "stream", "", "only those of this `STREAM`")
	flags.StringArrayVar(&f.Routes, "route", nil, "only those of the route of this `NAME`, may be repeated; '' where no route matched")
	flags.StringVar(&f.Reason, "reason", "", "only those whose reason holds this `TEXT`")
	flags.StringArrayVar(&f.Selection.Subjects, "subject", nil, "only those whose subject matches this `FILTER` (with * and >), may be repeated")
	flags.StringVar(&f.seq, "seq", "", "only stream sequences `A..B`; either may be left out")
	flags.StringVar(&f.since, "since", "", "only those of this `TIME` or later; 2026-11-22T10:00:00Z, or 15m for fifteen minutes ago")
	flags.StringVar(&f.until, "until", "", "only those before this `TIME`")
}

func (f *deadFlags) read() (err error) {
	s := &f.Selection
	if s.From, s.To, err = parseRange(f.seq); err != nil {
		return err
	}
	if f.since != "" {
		if s.Since, err = parseTime(f.since); err != nil {
			return fmt.Errorf("--since: %w", err)
		}
	}
	if f.until != "" {
		if s.Until, err = parseTime(f.until); err != nil {
			return fmt.Errorf("--until: %w", err)
		}
	}
	if err := s.Check(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	return nil
}

// letter is a dead letter as it is printed.
type letter struct {
	Source      string    `json:"source"`
	Incarnation int       `json:"incarnation"`
	Sequence    uint64    `json:"sequence"`
	Time        time.Time `json:"ts"`
	Subject     string    `json:"subject"`
	Route       string    `json:"route"`
	Reason      string    `json:"reason"`
	Size        int       `json:"size"` // bytes of the payload
	Series      string    `json:"series"`
	State       string    `json:"state"` // dead, sent, under way
	As          uint64    `json:"as,omitempty"`
	Sent        time.Time `json:"sent,omitzero"`
}

func letterOf(l *service.DeadLetter) letter {
	out := letter{Source: l.Source, Incarnation: l.Incarnation, Sequence: l.Sequence(), Time: l.Time, Subject: l.Subject, Route: l.Route,
		Reason: l.Reason, Size: len(l.Data), Series: l.Series, State: "dead"}
	switch {
	case l.Sent:
		out.State, out.As, out.Sent = "sent", l.As, l.When
	case l.Tried():
		out.State = "under way"
	}
	return out
}

func (l *letter) state() string {
	if l.As > 0 {
		return fmt.Sprintf("sent as %d", l.As)
	}
	return l.State
}

func (a *app) deadLettersList() *cobra.Command {
	var (
		from                 where
		sel                  deadFlags
		all, asJSON, summary bool
	)
	c := &cobra.Command{
		Use:   "list",
		Short: "List dead letters with route and reason",
		Long: `list prints the events that could not be archived under their route, with the
reason. Those that were sent again are left out unless --all says otherwise. Their
payloads are printed by 'consumer cat --dead'. It exits 1 if it met damage.`,
		Example: `  consumer dead-letters list --since 24h
  consumer dead-letters list --summary
  consumer dead-letters list --route orders --reason UTF-8 --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := sel.read(); err != nil {
				return err
			}
			arch, err := a.open(c, &from)
			if err != nil {
				return err
			}
			defer arch.Close()
			view := newLetters(asJSON, summary)
			damaged := false
			for l, err := range arch.DeadLetters(c.Context(), sel.Deads) {
				var damage *archive.DamageError
				switch {
				case errors.As(err, &damage):
					damaged = true
					fmt.Fprintf(a.stderr, "damage: %s\n", damage)
				case err != nil:
					return err
				case l.State.Sent && !all:
					view.sent++
				default:
					view.add(letterOf(l))
				}
			}
			if err := a.printLetters(view); err != nil {
				return err
			}
			if damaged {
				return errFound
			}
			return nil
		},
	}
	from.flags(c)
	sel.flags(c)
	c.Flags().BoolVar(&all, "all", false, "also those that were sent again")
	c.Flags().BoolVar(&summary, "summary", false, "count them by stream, route and reason")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// letters gathers what is printed.
type letters struct {
	asJSON, summary bool
	all             []letter
	groups          []*letterGroup
	index           map[[3]string]*letterGroup
	sent            int // left out
}

// letterGroup is the letters of a stream and route with one reason.
type letterGroup struct {
	Source  string    `json:"source"`
	Route   string    `json:"route"`
	Reason  string    `json:"reason"`
	Letters int       `json:"letters"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

func newLetters(asJSON, summary bool) *letters {
	return &letters{asJSON: asJSON, summary: summary, all: []letter{}, groups: []*letterGroup{}, index: map[[3]string]*letterGroup{}}
}

func (v *letters) add(l letter) {
	if !v.summary {
		v.all = append(v.all, l)
		return
	}
	key := [3]string{l.Source, l.Route, l.Reason}
	g := v.index[key]
	if g == nil {
		g = &letterGroup{Source: l.Source, Route: l.Route, Reason: l.Reason, First: l.Time, Last: l.Time}
		v.index[key] = g
		v.groups = append(v.groups, g)
	}
	g.Letters++
	if l.Time.Before(g.First) {
		g.First = l.Time
	}
	if l.Time.After(g.Last) {
		g.Last = l.Time
	}
}

// noRoute is how the route of a subject that none took is printed.
func noRoute(name string) string {
	if name == "" {
		return "(none)"
	}
	return name
}

func (a *app) printLetters(v *letters) error {
	switch {
	case v.asJSON && v.summary:
		return a.printJSON(v.groups)
	case v.asJSON:
		return a.printJSON(v.all)
	case v.summary && len(v.groups) > 0:
		t := a.table("stream", "route", "letters", "first", "last", "reason")
		t.SetColumnConfigs(right(3))
		for _, g := range v.groups {
			t.AppendRow([]any{g.Source, noRoute(g.Route), g.Letters, stamp(g.First), stamp(g.Last), g.Reason})
		}
		t.Render()
	case len(v.all) > 0:
		t := a.table("stream", "sequence", "time", "subject", "size", "route", "state", "reason")
		t.SetColumnConfigs(right(2, 5))
		for i := range v.all {
			l := &v.all[i]
			t.AppendRow([]any{l.Source, l.Sequence, stamp(l.Time), l.Subject, humanize.IBytes(uint64(l.Size)), noRoute(l.Route), l.state(), l.Reason})
		}
		t.Render()
	default:
		fmt.Fprintln(a.stdout, "no dead letters")
	}
	if v.sent > 0 {
		fmt.Fprintf(a.stdout, "%s sent again are not shown; --all shows them\n", plural(v.sent, "letter"))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return humanize.Comma(int64(n)) + " " + what + "s"
}

func (a *app) deadLettersRedrive() *cobra.Command {
	var (
		sel            deadFlags
		o              service.RedriveOptions
		asJSON, silent bool
	)
	c := &cobra.Command{
		Use:   "redrive",
		Short: "Send dead letters through the routes again, each once",
		Long: `redrive publishes dead letters back to their stream, where the running service
archives them as new events, under the routes of the configuration. Each is sent
once, however often this is called and whatever crashes: what was sent stands in
_ossuary/redrive/ of the archive. What the configuration would not archive is left
as it is, and so is everything until the service runs with this configuration.

Other consumers of the stream see the events too. These carry the original headers,
and Ossuary-Stream, Ossuary-Sequence and Ossuary-Time of their origin,
Ossuary-Reason and Ossuary-Redrive.

It exits 1 if a letter that was asked for is dead still.`,
		Example: `  consumer dead-letters redrive --dry-run
  consumer dead-letters redrive --route orders --since 24h`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := sel.read(); err != nil {
				return err
			}
			cfg, log, err := a.loadReading(c)
			if err != nil {
				return err
			}
			arch, err := service.OpenArchive(c.Context(), cfg, log)
			if err != nil {
				return err
			}
			defer arch.Close()
			bar := a.progress(-1, "dead letters", false)
			o.Deads = sel.Deads
			o.Progress = func(n int) { _ = bar.Set(n) }
			all := []service.RedriveLetter{}
			o.Done = func(l service.RedriveLetter) {
				if l.Outcome != service.RedriveEarlier || asJSON {
					all = append(all, l)
				}
			}
			r, err := arch.Redrive(c.Context(), cfg, o, log)
			_ = bar.Finish()
			if asJSON {
				if perr := a.printJSON(struct {
					*service.RedriveResult
					All []service.RedriveLetter `json:"all"`
				}{r, all}); err == nil {
					err = perr
				}
			} else {
				a.printRedrive(r, all, silent)
			}
			if err != nil {
				return err
			}
			if !r.Good() {
				return errFound
			}
			return nil
		},
	}
	sel.flags(c)
	flags := c.Flags()
	flags.BoolVar(&o.DryRun, "dry-run", false, "only say what would become of each")
	flags.DurationVar(&o.Wait, "wait", time.Minute, "how `LONG` to wait for the service to have archived what could be a letter of an interrupted redrive")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.BoolVarP(&silent, "quiet", "q", false, "print numbers only")
	return c
}

func (a *app) printRedrive(r *service.RedriveResult, all []service.RedriveLetter, silent bool) {
	if len(all) > 0 && !silent {
		t := a.table("stream", "sequence", "subject", "outcome", "series", "why")
		t.SetColumnConfigs(right(2))
		for _, l := range all {
			outcome := l.Outcome
			if l.As > 0 {
				outcome = fmt.Sprintf("%s as %d", outcome, l.As)
			}
			t.AppendRow([]any{l.Source, l.Sequence, l.Subject, outcome, l.Series, l.Why})
		}
		t.Render()
	}
	for _, d := range r.Damage {
		fmt.Fprintf(a.stderr, "damage: %s\n", d)
	}
	var parts []string
	for _, o := range []string{service.RedriveSent, service.RedriveWould, service.RedriveEarlier, service.RedriveDead, service.RedriveLeft, service.RedriveFailed} {
		if n := r.Outcomes[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", humanize.Comma(int64(n)), o))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing to do"}
	}
	fmt.Fprintf(a.stdout, "%s: %s\n", plural(r.Letters, "dead letter"), strings.Join(parts, ", "))
}
