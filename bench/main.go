//go:build unix

// Bench measures how near Ossuary comes to what JetStream can deliver.
//
//	go run -C bench .            everything, about twelve minutes
//	go run -C bench . --quick    one small round: does it work?
//	go run -C bench . --docs ../docs --json bench.json
//
// It starts nats-server (file storage, one replica) and a store in processes of
// their own, fills streams, and lets bare consumers, consumers written by hand
// and Ossuary take them one after the other, in rounds, so that noise hits all of
// them. A ratio compares two contenders of the same round. It prints what was
// measured beside what is wanted; an interrupt ends the measuring and prints what
// there is so far.
//
// It is a module of its own, so that what it compares with and what it draws
// pictures with stay out of the product's dependencies. It is no subcommand of
// the product for the same reason, and because the product is measured as users
// run it: the real binary, from outside.
//
// The exit code is 0 when everything was measured, whether targets are met or not,
// 1 when something failed, and 2 when it could not start.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	scenarios string
	only      *regexp.Regexp // contenders; nil: all
	rounds    int
	events    int
	budget    time.Duration
	json      string
	quick     bool
	binary    string
	profile   string
	svg       string
	docs      string
	out, log  io.Writer
}

func main() {
	beWhatWeAreTold()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// beWhatWeAreTold turns a process that the bench has started into what it was
// started as, and does not return then.
func beWhatWeAreTold() {
	for env, be := range map[string]func(string) error{sinkEnv: serveSink, clientEnv: serveClient} {
		if text := os.Getenv(env); text != "" {
			if err := be(text); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{out: stdout, log: stderr}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.scenarios, "scenario", "", "comma-separated `NAMES` of scenarios to measure; default all: "+strings.Join(scenarioNames(), ", "))
	flags.Func("contender", "measure only contenders whose names match this `REGEXP`, as in '^(bare, AckExplicit|Ossuary)$'", func(text string) (err error) {
		o.only, err = regexp.Compile(text)
		return err
	})
	flags.IntVar(&o.rounds, "rounds", 3, "how often each scenario is measured")
	flags.IntVar(&o.events, "events", 400_000, "events in the stream of 16 series; other streams have a multiple of it")
	flags.DurationVar(&o.budget, "budget", 13*time.Minute, "no scenario is begun after this `TIME`")
	flags.StringVar(&o.json, "json", "", "write the results as JSON to this `FILE`; - is the standard output, instead of the tables")
	flags.BoolVar(&o.quick, "quick", false, "one round of 20000 events, about a minute: shows that it works, its figures mean little")
	flags.StringVar(&o.binary, "consumer", "", "measure this `FILE` instead of building ../cmd/consumer")
	flags.StringVar(&o.svg, "svg", "", "draw the paces into this `FILE`")
	flags.StringVar(&o.docs, "docs", "", "put tables and picture into PERFORMANCE.md and performance.svg in this `DIR` (../docs)")
	flags.StringVar(&o.profile, "profile", "", "let Ossuary run once more for each figure of its pace, and write CPU and heap profiles of that into this `DIR`")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if o.quick {
		o.rounds, o.events = 1, 20_000
	}
	chosen, err := choose(o.scenarios)
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is no flag; --help lists them", flags.Arg(0))
	case o.rounds < 1 || o.events < 1000:
		err = errors.New("--rounds must be at least 1, --events at least 1000")
	case o.profile != "":
		err = os.MkdirAll(o.profile, 0o755)
	}
	if err == nil && o.binary != "" {
		_, err = exec.LookPath(o.binary)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	r, err := measure(ctx, o, chosen)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	if err := r.publish(o); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if len(r.Failures) > 0 || r.Partial != "" {
		return 1
	}
	return 0
}

func scenarioNames() []string {
	var out []string
	for _, s := range scenarios {
		out = append(out, s.name)
	}
	return out
}

// choose are the scenarios of these names.
func choose(text string) ([]scenario, error) {
	if text == "" {
		return scenarios, nil
	}
	var out []scenario
	for name := range strings.SplitSeq(text, ",") {
		i := slices.Index(scenarioNames(), strings.TrimSpace(name))
		if i < 0 {
			return nil, fmt.Errorf("--scenario %q: there is none of this name, but %s", name, strings.Join(scenarioNames(), ", "))
		}
		out = append(out, scenarios[i])
	}
	return out, nil
}

// measure runs the rounds. What a scenario fails with does not keep the others
// from being measured.
func measure(ctx context.Context, o options, chosen []scenario) (*results, error) {
	tmp, err := os.MkdirTemp("", "ossuary-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	began, load := time.Now(), loadAverage()
	b := &bench{options: o, tmp: tmp, consumer: o.binary, filled: map[string]bool{}, kept: map[string]archive{}, results: &results{
		Commit: commit(), When: began.UTC().Format(time.RFC3339), Events: o.events, Rounds: map[string][]*round{},
		Machine: fmt.Sprintf("%d cores, %s, %s/%s, %s", runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
	}}
	if o.binary != "" {
		b.results.Commit = "unknown, of " + o.binary
	}
	if load > 0.5 {
		b.results.Busy = fmt.Sprintf("other programs were at work (load average %.1f before the first round), so that paces are too low and ratios uncertain", load)
		b.say("%s", b.results.Busy)
	}
	ready := false
	err = try(ctx, tmp, func(world *trial) {
		b.prepare(world)
		ready = true
		b.rounds(ctx, chosen, began)
	})
	if !ready {
		return nil, errors.Join(err, ctx.Err())
	}
	if err != nil {
		b.results.Failures = append(b.results.Failures, err.Error())
	}
	b.results.judge()
	return b.results, nil
}

func (b *bench) rounds(ctx context.Context, chosen []scenario, began time.Time) {
	failed := map[string]bool{}
	for n := range b.options.rounds {
		for _, s := range chosen {
			switch {
			case time.Since(began) > b.budget:
				b.results.Partial = fmt.Sprintf("the time of --budget was over in round %d", n+1)
				return
			case failed[s.name]:
				continue
			}
			b.say("round %d of %d: %s", n+1, b.options.rounds, s.title)
			out := &round{Figures: map[string]figures{}, Values: map[string]float64{}}
			err := try(ctx, b.tmp, func(t *trial) { s.run(b, t, out) })
			b.results.Rounds[s.name] = append(b.results.Rounds[s.name], out)
			if ctx.Err() != nil {
				b.results.Partial = "it was interrupted"
				return
			}
			if err != nil {
				failed[s.name] = true
				b.results.Failures = append(b.results.Failures, fmt.Sprintf("%s: %v", s.name, err))
				b.say("  failed: %v", err)
			}
		}
	}
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// publish prints what was measured, and writes the files that were asked for.
func (r *results) publish(o options) error {
	var errs []error
	if o.svg != "" {
		errs = append(errs, r.draw(o.svg))
	}
	if o.docs != "" {
		errs = append(errs, r.document(o.docs))
	}
	if o.json != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err == nil && o.json == "-" {
			_, err = o.out.Write(append(text, '\n'))
		} else if err == nil {
			err = os.WriteFile(o.json, append(text, '\n'), 0o644)
		}
		errs = append(errs, err)
	}
	if o.json == "-" {
		return errors.Join(errs...)
	}
	fmt.Fprintf(o.out, "commit %s, %s, %s\n\n%s\n\n%s\n\n%s\n", r.Commit, r.When, r.Machine,
		r.figureTable().Render(), r.valueTable().Render(), r.targetTable().Render())
	for _, f := range r.Failures {
		fmt.Fprintf(o.out, "\nFAILED: %s\n", f)
	}
	if r.Busy != "" {
		fmt.Fprintf(o.out, "\nBeware: %s.\n", r.Busy)
	}
	if r.Partial != "" {
		fmt.Fprintf(o.out, "\nNot everything was measured: %s.\n", r.Partial)
	}
	return errors.Join(errs...)
}
