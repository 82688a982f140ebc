package main

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ossuary/internal/archive"
)

func (a *app) catCommand() *cobra.Command {
	var (
		from                  where
		sel                   archive.Selection
		seq, since, until     string
		payload, line, asJSON bool
	)
	c := &cobra.Command{
		Use:   "cat",
		Short: "Print archived events",
		Long: `cat prints archived events, one JSON object per line, series by series in the
order in which they were archived. It exits 1 if it met damage on its way; what
can be read is printed all the same, and the damage named on standard error.`,
		Example: `  consumer cat --series orders/eu/ --since 1h
  consumer cat --subject 'orders.*.paid' --seq 1000..1999 --payload
  consumer cat --tail 10
  consumer cat --dir ./copy-of-the-bucket`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if sel.From, sel.To, err = parseRange(seq); err != nil {
				return err
			}
			if since != "" {
				if sel.Since, err = parseTime(since); err != nil {
					return fmt.Errorf("--since: %w", err)
				}
			}
			if until != "" {
				if sel.Until, err = parseTime(until); err != nil {
					return fmt.Errorf("--until: %w", err)
				}
			}
			if sel.Tail < 0 {
				return errors.New("--tail must not be negative")
			}
			if err := sel.Check(); err != nil {
				return fmt.Errorf("--%w", err)
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
			damaged := false
			var buf []byte
			for r, err := range archive.Cat(c.Context(), arch.Store, arch.Prefix, arch.Name, sel) {
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
		},
	}
	from.flags(c)
	flags := c.Flags()
	flags.StringVar(&sel.Series, "series", "", "only series with this `PREFIX`, or matching this glob")
	flags.StringArrayVar(&sel.Subjects, "subject", nil, "only events whose subject matches this `FILTER` (with * and >), may be repeated")
	flags.StringVar(&seq, "seq", "", "only stream sequences `A..B`; either may be left out")
	flags.StringVar(&since, "since", "", "only events of this `TIME` or later; 2026-11-22T10:00:00Z, or 15m for fifteen minutes ago")
	flags.StringVar(&until, "until", "", "only events before this `TIME`")
	flags.IntVar(&sel.Tail, "tail", 0, "only the newest `N`, in the order of their time")
	flags.BoolVar(&sel.Dead, "dead", false, "dead letters instead of events")
	flags.BoolVar(&payload, "payload", false, "print payloads only")
	flags.BoolVar(&line, "line", false, "print lines exactly as they are archived")
	flags.BoolVar(&asJSON, "json", false, "print JSON objects (the default)")
	return c
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
