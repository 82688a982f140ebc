// Command mutants takes the safety rules out of the code, one at a time, and shows
// that some test fails for each.
//
//	go run ./mutants                   all of them; exit 1 if one survives
//	go run ./mutants -list             the rules
//	go run ./mutants -check            does each still apply, and compile?
//	go run ./mutants -run '^confirm'   those whose name matches
//	go run ./mutants -wide -run NAME   would any test of the package notice?
//
// A mutant is a rule in words, a snippet of the code that keeps it, what to put in
// its place, and the tests that must notice (the *.yaml files here, one per
// package). It counts as caught only if the tests compile with it, one of them
// fails, and the very same command passes without it. One that makes a test hang
// is caught too, and shown apart.
//
// The tree is never touched. What is not shown: that the list is complete, or that
// a rule is right; a test that fails now and then by itself can catch a mutant that
// it should not.
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
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := command(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	os.Exit(code)
}

type options struct {
	only     *regexp.Regexp
	list     bool
	check    bool
	wide     bool
	parallel int
	json     string
	timeout  time.Duration
}

// command returns the exit code: 1 if a mutant survived or could not be tried, 2
// if nothing was tried at all.
func command(ctx context.Context, args []string, out io.Writer) (int, error) {
	var o options
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	only := flags.String("run", "", "only the mutants whose name matches this `regexp`")
	flags.BoolVar(&o.list, "list", false, "print the rules and the tests, and run nothing")
	flags.BoolVar(&o.check, "check", false, "only see whether each mutant applies and compiles")
	flags.BoolVar(&o.wide, "wide", false, "with all tests of the packages, not only those that the list names: does any catch it?")
	flags.IntVar(&o.parallel, "p", max(runtime.NumCPU()/2, 1), "mutants tried at once")
	flags.StringVar(&o.json, "json", "", "write the results to this `file` too")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "of a test command with a mutant; never less than five times what it takes without")
	if err := flags.Parse(args); err != nil {
		return 2, nil // flags has said what is wrong
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return 2, fmt.Errorf("-run: %w", err)
	}
	all, err := load(lists)
	if err != nil {
		return 2, err
	}
	var chosen []*mutant
	for _, m := range all {
		if o.only.MatchString(m.Name) {
			chosen = append(chosen, m)
		}
	}
	if o.wide {
		for _, m := range chosen {
			m.widen()
		}
	}
	if len(chosen) == 0 {
		return 2, errors.New("no mutant has such a name; `go run ./mutants -list` prints all")
	}
	if o.list {
		describe(out, chosen)
		return 0, nil
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return 2, err
	}
	tmp, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return 2, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	return o.tryAll(ctx, newRunner(root, tmp, o.timeout), chosen, out)
}

// moduleRoot is where the go.mod is: the mutants are of the module that one
// stands in.
func moduleRoot(ctx context.Context) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	if root == "." || strings.TrimSpace(string(mod)) == os.DevNull {
		return "", errors.New("run it within the module")
	}
	return root, nil
}

func describe(out io.Writer, all []*mutant) {
	for _, m := range all {
		fmt.Fprintf(out, "%s (%s)\n    %s\n", m.Name, filepath.ToSlash(m.path()), m.Rule)
		for _, t := range m.Tests {
			fmt.Fprintf(out, "    $ %s\n", t)
		}
		if m.Equivalent != "" {
			fmt.Fprintf(out, "    equivalent: %s\n", m.Equivalent)
		}
	}
}

// tally counts ends.
type tally map[string]int

func (o *options) tryAll(ctx context.Context, r *runner, all []*mutant, out io.Writer) (int, error) {
	began := time.Now()
	results := make([]result, len(all))
	done := make(chan result)
	var group errgroup.Group
	group.SetLimit(o.parallel)
	go func() {
		for i, m := range all {
			group.Go(func() error {
				switch {
				case ctx.Err() != nil:
					results[i] = m.result(broken).broken(ctx.Err())
				case o.check:
					results[i] = r.check(ctx, m)
				case m.Equivalent != "":
					results[i] = m.result(same)
				default:
					results[i] = r.try(ctx, m)
				}
				done <- results[i]
				return nil
			})
		}
		_ = group.Wait() // none of them returns one
		close(done)
	}()
	n := tally{}
	for res := range done {
		n[res.End]++
		fmt.Fprintf(out, "%-10s %-34s %6.1fs  %s\n", res.End, res.Name, res.Seconds, res.Test)
	}
	for _, res := range results {
		switch res.End {
		case survived:
			fmt.Fprintf(out, "\n%s (%s/%s) survived: no test of these fails without the rule\n    %s\n", res.Name, res.Package, res.File, res.Rule)
		case broken:
			fmt.Fprintf(out, "\n%s (%s/%s) could not be tried: %s\n", res.Name, res.Package, res.File, res.Why)
		}
	}
	took := time.Since(began)
	if o.json != "" {
		if err := write(o.json, results, n, took); err != nil {
			return 2, err
		}
	}
	fmt.Fprintln(out)
	if n[same] > 0 {
		fmt.Fprintf(out, "%d equivalent mutants were not tried: something else keeps these rules\n", n[same])
	}
	code := 0
	if n[survived]+n[broken] > 0 {
		code = 1
	}
	tried := len(all) - n[same]
	if o.check {
		fmt.Fprintf(out, "%d of %d mutants apply and compile, in %s\n", n[set], tried, took.Round(time.Second))
		return code, nil
	}
	if n[broken] > 0 {
		fmt.Fprintf(out, "%d mutants could not be tried\n", n[broken])
	}
	fmt.Fprintf(out, "%d of %d mutants caught, %d by timeout, %d survived, in %s\n", n[caught]+n[timedOut], tried, n[timedOut], n[survived], took.Round(time.Second))
	return code, nil
}

// write keeps the results for other programs.
func write(path string, results []result, n tally, took time.Duration) error {
	p, err := json.MarshalIndent(struct {
		Caught, TimedOut, Survived, Broken, Equivalent int
		Seconds                                        float64
		Mutants                                        []result
	}{n[caught] + n[timedOut], n[timedOut], n[survived], n[broken], n[same], took.Seconds(), results}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(p, '\n'), 0o600)
}
