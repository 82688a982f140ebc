package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"ossuary/internal/capacity"
)

func (a *app) planCommand() *cobra.Command {
	var (
		asJSON                  bool
		rate, size, ram, upload string
		bandwidth               string
		load                    = capacity.DefaultLoad()
	)
	c := &cobra.Command{
		Use:   "plan",
		Short: "Say what a load will make of this configuration, and which limit is nearest",
		Long: `plan plays a day of events through a model of the writers under this configuration:
requests, bytes and objects a day with their cost, how long events wait, and the
load on each limit at the day's peak. It asks no server.

Events have subjects like --subject, in which {n} is one of --series values; the
routes of the configuration name the series. With several lanes, values go to
partitions as the stream's {{partition(n,..)}} would have it over the tokens with
{n}, and with several sources to these in turns.

A day with more than --sample events is sampled by lanes. Limits can be set to what
your account and your servers bear. docs/SCALE.md says what stands behind the
numbers.

It exits 1 if the load goes over a limit.`,
		Example: `  consumer plan --config ossuary.yaml --rate 12000/s --series 1000000
  consumer plan --config ossuary.yaml --rate 1e9/day --peak 3 --skew 1 --series 50000 --subject 'orders.{n}.created' --instances 4`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, _, err := a.load(c)
			if err != nil {
				return err
			}
			if load.Events, err = parseRate(rate); err != nil {
				return fmt.Errorf("--rate %q: %w", rate, err)
			}
			var n int64
			for _, f := range []struct {
				name, text string
				set        func(int64)
			}{
				{"event-size", size, func(n int64) { load.EventSize = int(n) }},
				{"ram", ram, func(n int64) { load.RAM = n }},
				{"bandwidth", bandwidth, func(n int64) { load.Bandwidth = float64(n) }},
				{"limit-upload", upload, func(n int64) { load.Limits.OSSUpload = float64(n) }},
			} {
				if n, err = parseBytes(f.text); err != nil {
					return fmt.Errorf("--%s %q: %w", f.name, f.text, err)
				}
				f.set(n)
			}
			r, err := capacity.Plan(c.Context(), cfg, load)
			if err != nil {
				return err
			}
			if asJSON {
				if err := a.printJSON(r); err != nil {
					return err
				}
			} else {
				a.printPlan(r)
			}
			if !r.Fits() {
				return errFound
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&rate, "rate", "1000/s", "events, on average over the day, as `N/s`, N/min, N/h or N/day")
	f.Float64Var(&load.Peak, "peak", load.Peak, "rate at the busiest moment of the day, against the average; 1: the same all day")
	f.IntVar(&load.Series, "series", load.Series, "values that {n} in the subject takes")
	f.Float64Var(&load.Skew, "skew", load.Skew, "Zipf's exponent of how events spread over the values; 0: evenly, 1: as words do")
	f.StringVar(&load.Subject, "subject", "", "`SUBJECT` of an event with {n} in it, without a partition (default: made of the first route's)")
	f.StringVar(&size, "event-size", "1KiB", "size of a payload")
	f.IntVar(&load.Instances, "instances", load.Instances, "processes that share the lanes")
	f.IntVar(&load.Cores, "cores", load.Cores, "cores of an instance")
	f.StringVar(&ram, "ram", "8GiB", "memory of an instance")
	f.DurationVar(&load.AppendTime, "append-time", load.AppendTime, "what a small request to OSS takes")
	f.StringVar(&bandwidth, "bandwidth", "50MB", "bytes a second of one append's body")
	f.DurationVar(&load.CPUEvent, "cpu-event", load.CPUEvent, "CPU time for an event; gzip takes most of it")
	f.DurationVar(&load.CPUAppend, "cpu-append", load.CPUAppend, "CPU time for an append besides")
	f.IntVar(&load.Sample, "sample", load.Sample, "events that are simulated at most")
	f.Uint64Var(&load.Seed, "seed", load.Seed, "of the arrivals")
	f.Float64Var(&load.Prices.Put, "price-put", load.Prices.Put, "price of 10,000 requests that write or list")
	f.Float64Var(&load.Prices.Storage, "price-storage", load.Prices.Storage, "price of a GB for a month")
	l := &load.Limits
	f.Float64Var(&l.OSSRequests, "limit-requests", l.OSSRequests, "OSS: requests a second of the account")
	f.Float64Var(&l.OSSRange, "limit-range", l.OSSRange, "OSS: requests a second where names follow one another")
	f.StringVar(&upload, "limit-upload", "1.25GB", "OSS: bytes a second of the account")
	f.Float64Var(&l.Stream, "limit-stream", l.Stream, "NATS: messages a second of a stream")
	f.Float64Var(&l.LedgerWrites, "limit-ledger", l.LedgerWrites, "NATS: writes a second of a KV bucket")
	f.Float64Var(&l.API, "limit-api", l.API, "NATS: JetStream requests a second of a server")
	f.Float64Var(&l.Lane, "limit-lane", l.Lane, "events a second of a lane")
	return c
}

// parseRate reads how many events a day.
func parseRate(s string) (float64, error) {
	number, unit, ok := strings.Cut(strings.ReplaceAll(s, ",", ""), "/")
	perDay, known := map[string]float64{"s": 86400, "min": 1440, "h": 24, "day": 1}[unit]
	n, err := strconv.ParseFloat(number, 64)
	if !ok || !known || err != nil || n <= 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, errors.New("use a number and what it is for, as in 12000/s or 1e9/day")
	}
	return n * perDay, nil
}

func parseBytes(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 {
		return 0, errors.New("use a size, as in 512 or 8MiB")
	}
	return int64(n), nil
}

func (a *app) printPlan(r *capacity.Report) {
	l, d := r.Load, r.Day
	facts := func(rows ...table.Row) {
		t := table.NewWriter()
		t.SetOutputMirror(a.stdout)
		t.SetStyle(table.StyleLight)
		t.Style().Options = table.OptionsNoBordersAndSeparators
		t.SetColumnConfigs(right(2))
		t.AppendRows(rows)
		t.Render()
		fmt.Fprintln(a.stdout)
	}
	facts(
		table.Row{"events a day", amount(l.EventsADay), fmt.Sprintf("%s/s on average, %s/s at peak, %s each", amount(l.MeanRate), amount(l.PeakRate), humanize.IBytes(uint64(l.PayloadSize)))},
		table.Row{"subjects", amount(float64(l.Values)), fmt.Sprintf("%s, Zipf exponent %g", l.Subject, l.Skew)},
		table.Row{"series in a day", amount(l.Series), l.Template},
		table.Row{"lanes", amount(float64(l.Lanes)), fmt.Sprintf("of %d sources, in %d instances", l.Sources, l.Instances)},
	)
	facts(
		table.Row{"appends a day", amount(d.Appends), fmt.Sprintf("%s events each, with a linger of %s", amount(d.EventsAppend), l.Linger)},
		table.Row{"seals", amount(d.Seals), ""},
		table.Row{"lists", amount(d.Lists), "where a series or a segment is begun; and " + amount(d.Looks) + " heads and reads"},
		table.Row{"control log", amount(d.Control), "appends, " + bytesOf(d.ControlBytes)},
		table.Row{"objects begun", amount(d.Objects), ""},
		table.Row{"bytes stored", bytesOf(d.StoredBytes), "of " + bytesOf(d.LineBytes) + " of lines"},
		table.Row{"ledger", amount(d.LedgerPuts), fmt.Sprintf("tails written, %s deleted, %s floors; %s keys", amount(d.LedgerDeletes), amount(d.LaneWrites), amount(d.LedgerKeys))},
		table.Row{"delay", seconds(r.Delay.Mean), "until an event is archived, by each append's oldest; " + seconds(r.Delay.Longest) + " at most"},
		table.Row{"requests cost", fmt.Sprintf("%.2f", r.Cost.RequestCost), fmt.Sprintf("a day: %s × %g / 10,000", amount(r.Cost.Requests), r.Cost.Prices.Put)},
		table.Row{"storage costs", fmt.Sprintf("%.2f", r.Cost.StorageMonth), fmt.Sprintf("a month, for each day that is kept: bytes / 10^9 × %g", r.Cost.Prices.Storage)},
	)
	t := a.table("limit", "load at peak", "limit", "headroom", "unit")
	t.SetColumnConfigs(right(2, 3, 4))
	for _, c := range r.Checks {
		show := amount
		if strings.HasPrefix(c.Unit, "bytes") {
			show = bytesOf
		}
		head := "much"
		if c.Headroom < 1000 {
			head = fmt.Sprintf("%.2f", c.Headroom)
		}
		t.AppendRow(table.Row{c.Name, show(c.Load), show(c.Limit), head, c.Unit})
	}
	t.Render()
	fmt.Fprintln(a.stdout)
	verdict := "nearest limit"
	if !r.Fits() {
		verdict = "DOES NOT FIT"
	}
	for _, c := range r.Checks {
		if c.Headroom < 1 || c.Name == r.Bottleneck.Limit {
			fmt.Fprintf(a.stdout, "%s: %s, %.2f of what the peak needs. To lift it: %s.\n", verdict, c.Name, c.Headroom, c.Mend)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(a.stdout, "note: %s.\n", n)
	}
}

// amount is a number as people compare it: three digits that count.
func amount(v float64) string {
	if v >= 1000 {
		digits := math.Pow(10, math.Floor(math.Log10(v))-2)
		return humanize.Commaf(math.Round(v/digits) * digits)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func bytesOf(v float64) string { return humanize.IBytes(uint64(max(v, 0))) }

func seconds(v float64) string {
	return time.Duration(v * float64(time.Second)).Round(time.Millisecond).String()
}
