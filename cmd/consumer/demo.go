package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"ossuary/internal/config"
	"ossuary/internal/demo"
)

// demoData is where the demo keeps its data unless told otherwise.
const demoData = "./ossuary-data/demo"

// Without a terminal the demo says how far it is this often.
const demoLogEvery = 2 * time.Second

func (a *app) demoCommand() *cobra.Command {
	o := demo.Options{}
	var asJSON bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "A tour: archive sample orders and the server's own advisories, and prove it",
		Long: `demo starts a NATS server and an OSS-compatible store in this process, on free
ports, and archives two streams at once: ORDERS, sample orders that it publishes,
and ADVISORIES, which are events that the NATS server publishes itself about the
streams, buckets and consumers that the service makes. At the end it drains,
verifies everything and lists the objects.

It needs no configuration and no network. A second run on the same directory goes
on where the first one ended. It exits 0 only if everything published is archived
and verify finds nothing wrong.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Events < 0 {
				return errors.New("--events must not be negative")
			}
			if a.configFile != "" {
				return errors.New("demo takes no --config: it brings its own; use `consumer run --config`")
			}
			level := a.logLevel
			if level == "" {
				level = "warn" // the demo tells what happens itself
			}
			log, err := a.logger(config.Log{Level: level, Format: a.logFormat})
			if err != nil {
				return err
			}
			o.Log = log
			show := a.demoProgress(&o, log)
			result, err := demo.Run(c.Context(), o)
			show.end()
			if err != nil {
				return err
			}
			return a.printDemo(result, asJSON)
		},
	}
	flags := c.Flags()
	flags.IntVarP(&o.Events, "events", "n", 20_000, "`NUMBER` of sample orders")
	flags.BoolVar(&o.Exit, "exit", false, "end when they are archived, instead of going on slowly until Ctrl-C")
	flags.IntVar(&o.Rate, "rate", 5, "without --exit: orders per second after the first ones")
	flags.StringVar(&o.Dir, "data", demoData, "`DIR` for both servers' data")
	flags.BoolVar(&asJSON, "json", false, "print the result as one line of JSON")
	_ = c.MarkFlagDirname("data")
	return c
}

// demoView shows how far the demo is: a bar to a person, a line now and then to
// a log.
type demoView struct {
	bar    *progressbar.ProgressBar
	logged time.Time
}

func (v *demoView) end() { _ = v.bar.Finish() }

func (a *app) demoProgress(o *demo.Options, log zerolog.Logger) *demoView {
	v := &demoView{bar: a.progress(int64(o.Events), "archiving orders", false), logged: time.Now()}
	log = log.Level(zerolog.InfoLevel)
	o.Started = func(r demo.Running) {
		if isTerminal(a.stderr) {
			fmt.Fprintf(a.stderr, "NATS      %s\nOSS       %s\nstatus    %s/status\ndata      %s\n", r.NATS, r.OSS, r.HTTP, o.Dir)
			if !o.Exit {
				fmt.Fprintf(a.stderr, "Ctrl-C drains, verifies and shows the objects.\n")
			}
			fmt.Fprintln(a.stderr)
			return
		}
		log.Info().Str("nats", r.NATS).Str("oss", r.OSS).Str("http", r.HTTP).Str("dir", o.Dir).Msg("demo runs")
	}
	o.Progress = func(p demo.Progress) {
		if isTerminal(a.stderr) {
			v.bar.Describe(fmt.Sprintf("published %s, advisories %s, archived", count(p.Published), count(p.Advisories)))
			v.bar.ChangeMax64(max(int64(o.Events), int64(p.Archived)+1))
			_ = v.bar.Set64(int64(p.Archived))
			return
		}
		if time.Since(v.logged) >= demoLogEvery {
			v.logged = time.Now()
			log.Info().Uint64("published", p.Published).Uint64("archived", p.Archived).Uint64("advisories", p.Advisories).Msg("demo")
		}
	}
	return v
}

func (a *app) printDemo(r *demo.Result, asJSON bool) error {
	if asJSON {
		b, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("writing JSON: %w", err)
		}
		if _, err := fmt.Fprintf(a.stdout, "%s\n", b); err != nil {
			return err
		}
	} else {
		t := a.table("object", "stored", "events", "appends", "ratio")
		t.SetColumnConfigs(right(2, 3, 4, 5))
		var stored, plain int64
		var events, frames int
		for _, o := range r.Table {
			t.AppendRow([]any{o.Key, humanize.IBytes(uint64(o.Stored)), humanize.Comma(int64(o.Events)), o.Frames, ratio(o.Plain, o.Stored)})
			stored, plain, events, frames = stored+o.Stored, plain+o.Plain, events+o.Events, frames+o.Frames
		}
		t.AppendFooter([]any{fmt.Sprintf("%d objects", len(r.Table)), humanize.IBytes(uint64(stored)), humanize.Comma(int64(events)), frames, ratio(plain, stored)})
		t.Render()
		fmt.Fprintf(a.stdout, "\npublished %s orders, archived %s of them and %s advisories of the NATS server in %.1f s\n",
			count(r.Published), count(r.Archived), count(r.Advisories), r.Seconds)
		fmt.Fprintf(a.stdout, "verify: %s, %d duplicates, %d missing\n", r.Report.Result, r.Duplicates, r.Missing)
		if r.Path != "" {
			fmt.Fprintf(a.stdout, "\nlook at one:    zcat %s | head -3\nprove it again: consumer verify --dir %s\n", r.Path, r.Dir)
		}
	}
	if r.Good() {
		return nil
	}
	for _, f := range r.Report.Problems {
		fmt.Fprintf(a.stderr, "problem: %s\n", f)
	}
	return errFound
}

func ratio(plain, stored int64) string {
	if stored == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", float64(plain)/float64(stored))
}
