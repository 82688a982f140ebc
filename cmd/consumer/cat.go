package main

import (
	"bufio"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ossuary/internal/archive"
)

func (a *app) catCommand() *cobra.Command {
	var (
		from                  where
		which                 selection
		tail                  int
		follow                bool
		every                 time.Duration
		payload, line, asJSON bool
	)
	c := &cobra.Command{
		Use:   "cat",
		Short: "Print archived events",
		Long: `cat prints archived events, one JSON object per line, series by series in the
order in which they were archived. It reads no more of the objects than it must.
It exits 1 if it met damage on its way; what can be read is printed all the same,
and the damage named on standard error.`,
		Example: `  consumer cat --series orders/eu/ --since 1h
  consumer cat --subject 'orders.*.paid' --seq 1000..1999 --payload
  consumer cat --tail 10 --follow
  consumer cat --dir ./copy-of-the-bucket`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			sel, err := which.selection()
			if err != nil {
				return err
			}
			if sel.Tail = tail; tail < 0 {
				return errors.New("--tail must not be negative")
			}
			if every < time.Second/10 {
				return errors.New("--every must be 100ms or more: each look lists the archive's objects")
			}
			form := archive.AsEnvelope
			switch {
			case payload && (line || asJSON) || line && asJSON:
				return errors.New("--payload, --line and --json exclude each other; give one")
			case payload:
				form = archive.AsPayload
			case line:
				form = archive.AsLine
			}
			arch, err := a.open(c, &from)
			if err != nil {
				return err
			}
			defer arch.Close()
			out := bufio.NewWriterSize(a.stdout, 256<<10)
			reader := arch.Reader()
			if follow {
				return a.print(out, form, reader.Follow(c.Context(), sel, every, out.Flush))
			}
			// Events that scroll by are progress enough.
			if !isTerminal(a.stdout) {
				bar := a.progress(-1, "reading", true)
				defer bar.Finish() //nolint:errcheck // only drawing
				reader.Progress = func(done, total int64) {
					bar.ChangeMax64(max(total, 1))
					_ = bar.Set64(done)
				}
			}
			return a.print(out, form, reader.Cat(c.Context(), sel))
		},
	}
	from.flags(c)
	which.flags(c)
	flags := c.Flags()
	flags.IntVar(&tail, "tail", 0, "only the newest `N`, in the order of their time")
	flags.BoolVarP(&follow, "follow", "f", false, "go on with what is archived from now on, until interrupted")
	flags.DurationVar(&every, "every", 2*time.Second, "with --follow: how often to look")
	flags.BoolVar(&payload, "payload", false, "print payloads only")
	flags.BoolVar(&line, "line", false, "print lines exactly as they are archived")
	flags.BoolVar(&asJSON, "json", false, "print JSON objects (the default)")
	return c
}

// print writes events as they come and names the damage between them.
func (a *app) print(out *bufio.Writer, form archive.Form, events iter.Seq2[*archive.Record, error]) error {
	damaged := false
	var buf []byte
	for r, err := range events {
		var damage *archive.DamageError
		if errors.As(err, &damage) {
			damaged = true
			fmt.Fprintf(a.stderr, "damage: %s\n", damage)
			continue
		}
		if err == nil {
			buf, err = archive.AppendRecord(buf[:0], form, r)
		}
		if err == nil {
			_, err = out.Write(buf)
		}
		if err != nil {
			_ = out.Flush() // what could be read is worth having
			return readerGone(err)
		}
	}
	if err := out.Flush(); err != nil {
		return readerGone(err)
	}
	if damaged {
		return errFound
	}
	return nil
}

// selection is the flags that choose events, the same for every command.
type selection struct {
	sel               archive.Selection
	seq, since, until string
}

func (s *selection) flags(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&s.sel.Source, "stream", "", "only events of this `STREAM`")
	flags.StringVar(&s.sel.Series, "series", "", "only series with this `PREFIX`, or matching this glob")
	flags.StringArrayVar(&s.sel.Subjects, "subject", nil, "only events whose subject matches this `FILTER` (with * and >), may be repeated")
	flags.StringVar(&s.seq, "seq", "", "only stream sequences `A..B`; either may be left out")
	flags.StringVar(&s.since, "since", "", "only events of this `TIME` or later; 2026-11-22T10:00:00Z, or 15m for fifteen minutes ago")
	flags.StringVar(&s.until, "until", "", "only events before this `TIME`")
	flags.BoolVar(&s.sel.Dead, "dead", false, "dead letters instead of events")
}

func (s *selection) selection() (sel archive.Selection, err error) {
	sel = s.sel
	if sel.From, sel.To, err = parseRange(s.seq); err != nil {
		return sel, err
	}
	if s.since != "" {
		if sel.Since, err = parseTime(s.since); err != nil {
			return sel, fmt.Errorf("--since: %w", err)
		}
	}
	if s.until != "" {
		if sel.Until, err = parseTime(s.until); err != nil {
			return sel, fmt.Errorf("--until: %w", err)
		}
	}
	if err := sel.Check(); err != nil {
		return sel, fmt.Errorf("--%w", err)
	}
	return sel, nil
}

// readerGone makes `consumer cat | head` end quietly.
func readerGone(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// parseRange reads A..B, A.., ..B or A.
func parseRange(s string) (from, to uint64, err error) {
	if s == "" {
		return 0, 0, nil
	}
	lo, hi, isRange := strings.Cut(s, "..")
	if lo != "" {
		from, err = strconv.ParseUint(lo, 10, 64)
	}
	switch {
	case err != nil:
	case !isRange:
		to = from
	case hi != "":
		to, err = strconv.ParseUint(hi, 10, 64)
	}
	if err != nil || isRange && to != 0 && to < from || s == ".." {
		return 0, 0, fmt.Errorf("--seq %q: use A..B, A.., ..B or A with stream sequences", s)
	}
	return from, to, nil
}
