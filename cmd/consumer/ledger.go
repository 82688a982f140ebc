package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"ossuary/internal/ledger"
	"ossuary/internal/router"
	"ossuary/internal/service"
)

func (a *app) ledgerCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ledger",
		Short: "List, show or rebuild the ledger (the KV bucket of checkpoints)",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.ledgerList(), a.ledgerShow(), a.ledgerRebuild())
	return c
}

// readLedger returns every entry.
func (a *app) readLedger(c *cobra.Command) ([]ledger.Entry, error) {
	arch, err := a.openLedger(c, false)
	if err != nil {
		return nil, err
	}
	defer arch.Close()
	return arch.Ledger.All(c.Context())
}

// openLedger opens an archive whose ledger can be read.
func (a *app) openLedger(c *cobra.Command, empty bool) (*service.Archive, error) {
	cfg, log, err := a.loadReading(c)
	if err != nil {
		return nil, err
	}
	arch, err := service.OpenArchive(c.Context(), cfg, log)
	if err != nil {
		return nil, err
	}
	switch {
	case arch.JS == nil:
		err = errors.New("nats.url: the ledger lies in NATS, which cannot be reached; see the log above")
	case arch.Ledger == nil && !empty:
		err = fmt.Errorf("archive.name %s: there is no ledger bucket %s%s; start `consumer run`, or make it from the objects with `consumer ledger rebuild`", cfg.Archive.Name, ledger.BucketPrefix, cfg.Archive.Name)
	}
	if err != nil {
		arch.Close()
		return nil, err
	}
	return arch, nil
}

// entry is an entry as it is printed.
type entry struct {
	Key      string       `json:"key"`
	Revision uint64       `json:"revision"`
	Source   string       `json:"source"`
	Lane     string       `json:"lane"`
	Series   string       `json:"series,omitempty"`
	Floor    *ledger.Lane `json:"floor,omitempty"`
	Tail     *ledger.Tail `json:"tail,omitempty"`
	Error    string       `json:"error,omitempty"`
}

func entryOf(e *ledger.Entry) entry {
	out := entry{Key: e.Key, Revision: e.Revision, Source: e.Source, Lane: e.LaneName, Series: e.Series, Floor: e.Lane, Tail: e.Tail}
	if e.Err != nil {
		out.Error = e.Err.Error()
	}
	return out
}

func (a *app) ledgerList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List lanes with their floors, and the tails of open series",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := a.readLedger(c)
			if err != nil {
				return err
			}
			if asJSON {
				out := make([]entry, len(all))
				for i := range all {
					out[i] = entryOf(&all[i])
				}
				return a.printJSON(out)
			}
			a.printEntries(all)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) printEntries(all []ledger.Entry) {
	lanes := a.table("source", "lane", "owner", "epoch", "incarnation", "floor", "events", "skipped", "updated")
	lanes.SetColumnConfigs(right(4, 5, 6, 7, 8))
	tails := a.table("source", "lane", "series", "segment", "position", "frames", "last", "written")
	tails.SetColumnConfigs(right(4, 5, 6, 7))
	nLanes, nTails := 0, 0
	for i := range all {
		e := &all[i]
		switch {
		case e.Lane != nil:
			l := e.Lane
			owner := l.Owner
			if owner == "" {
				owner = "(released)"
			}
			lanes.AppendRow([]any{e.Source, e.LaneName, owner, l.Epoch, l.Incarnation, l.Floor, l.Tally.Events, l.Tally.Skipped, ago(l.Updated)})
			nLanes++
		case e.Tail != nil:
			t := e.Tail
			tails.AppendRow([]any{e.Source, e.LaneName, e.Series, t.Segment, humanize.Comma(t.Position), t.Frames, t.Last, ago(t.Written)})
			nTails++
		default:
			fmt.Fprintf(a.stdout, "unreadable: %s: %v\n", e.Key, e.Err)
		}
	}
	if nLanes > 0 {
		lanes.Render()
	}
	if nLanes > 0 && nTails > 0 {
		fmt.Fprintln(a.stdout)
	}
	if nTails > 0 {
		tails.Render()
	}
	if nLanes+nTails == 0 {
		fmt.Fprintln(a.stdout, "the ledger is empty")
	}
}

func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return humanize.Time(t)
}

// isSeries reports whether the series goes by that name, with or without its shard.
func isSeries(series, name string) bool {
	bare, _ := router.Unsharded(series)
	return name != "" && (series == name || bare == name)
}

func (a *app) ledgerShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show KEY",
		Short: "Print one entry as JSON: its key, or the name of a series",
		Args:  exactly(1, "a KEY or series"),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := a.readLedger(c)
			if err != nil {
				return err
			}
			found := false
			for i := range all {
				if e := &all[i]; e.Key == args[0] || isSeries(e.Series, args[0]) {
					found = true
					if err := a.printJSON(entryOf(e)); err != nil {
						return err
					}
				}
			}
			if !found {
				fmt.Fprintf(a.stderr, "no entry %s; see `consumer ledger list`\n", args[0])
				return errFound
			}
			return nil
		},
	}
}

func (a *app) ledgerRebuild() *cobra.Command {
	var force, asJSON bool
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Make the ledger again from the objects",
		Long: `rebuild reads the archive, empties the ledger and writes it anew. It is never
needed for safety: a service without a ledger finds its way by itself, only slower.
It exits 1 if a part of the archive could not be read.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, log, err := a.loadReading(c)
			if err != nil {
				return err
			}
			arch, err := a.openLedger(c, true)
			if err != nil {
				return err
			}
			defer arch.Close()
			bar := a.progress(-1, "reading the archive", true)
			r, err := service.RebuildLedger(c.Context(), cfg, arch, force, log, func(done, total int64) {
				bar.ChangeMax64(max(total, 1))
				_ = bar.Set64(done)
			})
			_ = bar.Finish()
			if err != nil {
				return err
			}
			for _, f := range r.Problems {
				fmt.Fprintf(a.stderr, "problem: %s\n", f)
			}
			if asJSON {
				err = a.printJSON(r)
			} else {
				_, err = fmt.Fprintf(a.stdout, "%s: %d lanes, %d tails\n", r.Bucket, r.Lanes, r.Tails)
			}
			if err == nil && len(r.Problems) > 0 {
				err = errFound
			}
			return err
		},
	}
	c.Flags().BoolVar(&force, "force", false, "even if a service seems to be running")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
