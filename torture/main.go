//go:build unix

// Torture breaks a whole archive again and again and proves afterwards that
// nothing was lost, nothing doubled and nothing put out of order.
//
//	go run ./torture -seed 1 -duration 3m
//
// A run is a row of worlds. Each has NATS, alone or as a cluster of three, the
// emulator, and one to three instances, all of them processes with proxies
// between them, publishers that keep a journal, and a mix of what is done to it,
// drawn from its seed. When its time is over the faults stop, the archive catches
// up and is stopped; `consumer verify` must be content and an independent reader
// must find, byte by byte, what the journal and the stream say.
//
// A world that is not proven keeps its files and names its seed, which can be run
// alone: -world-seed. Real processes are not deterministic: the same seed does
// the same things at about the same times.
//
// The exit code is 0 when everything was proven, 1 when something is wrong, and 2
// when it could not run to its end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ossuary/e2e/rig"
)

const (
	exitProven = iota
	exitWrong
	exitNotRun
)

// How many worlds may go wrong before a run gives up: their files take space.
const mostFailed = 5

type options struct {
	seed      uint64
	worldSeed uint64
	duration  time.Duration
	world     time.Duration
	mix       map[string]bool
	mixText   string
	rate      int
	until     map[string]int64
	untilText string
	json      string
	dir       string
	keep      bool
	race      bool
}

func main() {
	rig.BeNATS()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	code := exitNotRun
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		code, err = 0, nil
	case err == nil:
		code, err = torture(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
	}
	os.Exit(code)
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("torture", flag.ContinueOnError)
	f.Uint64Var(&o.seed, "seed", 0, "seed of the run (default: a random one, which is printed)")
	f.Uint64Var(&o.worldSeed, "world-seed", 0, "run this one world alone")
	f.DurationVar(&o.duration, "duration", 3*time.Minute, "how long to go on")
	f.DurationVar(&o.world, "world", time.Minute, "how long things are done to one world")
	f.StringVar(&o.mixText, "mix", "all", "what is done: names with commas between, or, to leave out, with a minus: "+strings.Join(allMixes, ", "))
	f.IntVar(&o.rate, "rate", 2500, "events published a second")
	f.StringVar(&o.untilText, "until", "", "go on beyond -duration until so much was done: kills=1000,zombies=300,leaders=100")
	f.StringVar(&o.json, "json", "", "write the result to this file")
	f.StringVar(&o.dir, "dir", "", "put the worlds' files here (default: the system's temporary directory)")
	f.BoolVar(&o.keep, "keep", false, "keep the files of worlds that were proven, too")
	f.BoolVar(&o.race, "race", false, "build the binary with the race detector")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	var err error
	if o.mix, err = parseMix(o.mixText); err != nil {
		return nil, err
	}
	if o.until, err = parseUntil(o.untilText, o.mix); err != nil {
		return nil, err
	}
	if o.rate < publishers || o.world <= 0 || o.duration <= 0 {
		return nil, errors.New("-rate, -world and -duration must be positive")
	}
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	return o, nil
}

func parseUntil(text string, mix map[string]bool) (map[string]int64, error) {
	out := map[string]int64{}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, number, _ := strings.Cut(part, "=")
		n, err := strconv.ParseInt(number, 10, 64)
		counted := untilNames[name]
		if counted == "" || err != nil || n < 0 {
			return nil, fmt.Errorf("-until %s: say kills=N, zombies=N or leaders=N", part)
		}
		for _, m := range untilMix[name] {
			if !mix[m] {
				return nil, fmt.Errorf("-until %s is never reached with a -mix that leaves out %s", part, m)
			}
		}
		out[counted] = n
	}
	return out, nil
}

// torture is a run. An error means that it could not begin.
func torture(ctx context.Context, o *options) (int, error) {
	root, err := os.MkdirTemp(o.dir, "ossuary-torture-")
	if err != nil {
		return exitNotRun, err
	}
	program := filepath.Join(root, "consumer")
	if err := rig.Build("ossuary/cmd/consumer", program, o.race); err != nil {
		os.RemoveAll(root)
		return exitNotRun, err
	}
	r := newResult(o)
	fmt.Fprintf(os.Stderr, "torture: seed %d, commit %s, files in %s\n", o.seed, r.Commit, root)
	failed := 0
	for n := 0; failed < mostFailed && ctx.Err() == nil && r.wants(o, n); n++ {
		seed := worldSeed(o.seed, n)
		if o.worldSeed != 0 {
			seed = o.worldSeed
		}
		w := r.world(ctx, o, n, seed, root, program)
		if w.Failed() {
			failed++
		}
	}
	r.finish(ctx.Err() != nil)
	if failed == 0 && !o.keep {
		os.RemoveAll(root)
	}
	fmt.Print(r.table())
	if o.json != "" {
		if err := r.save(o.json); err != nil {
			return exitNotRun, err
		}
	}
	return r.code(), nil
}
