package main

import (
	"fmt"
	"io"
	"net/textproto"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"ossuary/internal/router"
	"ossuary/internal/service"
)

func (a *app) routeCommand() *cobra.Command {
	var (
		asJSON  bool
		source  string
		headers []string
		data    string
		at      string
		seq     uint64
		traffic trafficFlags
	)
	c := &cobra.Command{
		Use:   "route SUBJECT",
		Short: "Explain where an event would go: route, series, object key",
		Long: `route explains where an event with this subject would go under the
configuration, and when it would be written there. It asks no server. It exits 1
if the event would not be archived under a series: no route takes it, a route skips
it, or it would be a dead letter.

With --rate it says what events like this one come to: appends, requests and
objects a day. All of them go to this one series (or its successors, where the name
holds a time); --append-time is what an append takes in your network.`,
		Example: `  consumer route events.order.created
  consumer route orders.eu.paid --rate 1000/s --size 1KiB
  consumer route orders.eu.paid --time 2026-11-22T10:00:00Z --header 'Tenant=acme' --data '{"id":1}'`,
		Args: exactly(1, "a SUBJECT"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, _, err := a.load(c)
			if err != nil {
				return err
			}
			m := router.Message{Subject: args[0], Sequence: seq, Time: time.Now().UTC()}
			if at != "" {
				if m.Time, err = parseTime(at); err != nil {
					return fmt.Errorf("--time: %w", err)
				}
			}
			if m.Header, err = parseHeaders(headers); err != nil {
				return err
			}
			if m.Data, err = dataOf(data); err != nil {
				return err
			}
			if err := traffic.read(&m, c.Flags().Changed("data")); err != nil {
				return err
			}
			found, err := service.Explain(cfg, source, &m)
			if err != nil {
				return err
			}
			explained, err := traffic.explain(cfg, found, &m)
			if err != nil {
				return err
			}
			if asJSON {
				err = a.printJSON(explained)
			} else {
				a.printRoutes(explained)
			}
			if err != nil {
				return err
			}
			for _, f := range found {
				if f.Series != "" {
					return nil
				}
			}
			return errFound
		},
	}
	flags := c.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.StringVar(&source, "stream", "", "only the source with this `STREAM`; default: all")
	flags.StringArrayVarP(&headers, "header", "H", nil, "header `KEY=VALUE`, may be repeated")
	flags.StringVarP(&data, "data", "d", "", "payload, or @`FILE`")
	flags.StringVar(&at, "time", "", "stream `TIMESTAMP` (RFC 3339); default: now")
	flags.Uint64Var(&seq, "seq", 1, "stream sequence")
	traffic.flags(c)
	return c
}

func (a *app) printRoutes(found []explained) {
	for i, d := range found {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		t := table.NewWriter()
		t.SetOutputMirror(a.stdout)
		t.SetStyle(table.StyleLight)
		t.Style().Options = table.OptionsNoBordersAndSeparators
		row := func(name, value string) {
			if value != "" {
				t.AppendRow(table.Row{name, value})
			}
		}
		row("stream", d.Stream)
		row("lane", d.Lane)
		row("route", d.Route)
		row("filter", d.Filter)
		row("template", d.Template)
		row("series", d.Series)
		row("key", d.Key)
		for _, p := range d.Parts {
			if p.Part == p.Value {
				continue // literal text
			}
			value := p.Value
			if p.Reason != "" {
				value = "no value: " + p.Reason
			}
			row("  "+p.Part, value)
		}
		switch {
		case d.Poison != "":
			row("result", "dead letter: "+d.Poison)
		case d.Skip && d.Route == "":
			row("result", "not archived: no route takes this subject")
		case d.Skip:
			row("result", "not archived: the route says skip")
		default:
			row("result", "archived")
		}
		row("flush", d.Flush)
		row("roll", d.Roll)
		d.estimateRows(row)
		t.Render()
		if d.Route == "" {
			for _, m := range d.Earlier {
				fmt.Fprintf(a.stdout, "  not %s %s: %s\n", m.Route, m.Filter, m.Why)
			}
		}
	}
}

// parseHeaders reads KEY=VALUE pairs. Names stand as given: NATS keeps their case.
func parseHeaders(pairs []string) (map[string][]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	h := textproto.MIMEHeader{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--header %q: use KEY=VALUE", p)
		}
		h[k] = append(h[k], v)
	}
	return h, nil
}

func dataOf(s string) ([]byte, error) {
	name, ok := strings.CutPrefix(s, "@")
	if !ok {
		return []byte(s), nil
	}
	if name == "-" {
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("--data: %w", err)
		}
		return b, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	return b, nil
}

// parseTime takes what people write: a timestamp, a date, or how long ago.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().UTC().Add(-d.Abs()), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time; use 2026-11-22T10:00:00Z, 2026-11-22, or 15m for fifteen minutes ago", s)
}

// exactly checks the number of arguments in words that name what is wanted.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return fmt.Errorf("%s wants %s, got %d arguments; see '%s --help'", c.CommandPath(), what, len(args), c.CommandPath())
	}
}
