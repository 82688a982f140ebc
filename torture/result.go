//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Roughly what a world takes besides the time in which things are done to it.
const overhead = 20 * time.Second

// In less time than this nothing much can be done to a world.
const shortest = 10 * time.Second

const betweenProgress = 15 * time.Second

// result is what a run has found.
type result struct {
	Seed     uint64           `json:"seed"`
	Commit   string           `json:"commit"`
	Began    time.Time        `json:"began"`
	Seconds  float64          `json:"seconds"`
	Chaos    float64          `json:"chaos_seconds"` // in which things were done
	Mix      string           `json:"mix"`
	Worlds   []worldResult    `json:"worlds"`
	Counts   map[string]int64 `json:"counts"`
	Verdict  string           `json:"verdict"` // proven, wrong, interrupted
	Wrong    []string         `json:"wrong,omitempty"`
	KeptIn   []string         `json:"kept_in,omitempty"`
	tally    *tally
	verified int // worlds that were proven
}

type worldResult struct {
	Seed           uint64           `json:"seed"`
	Plan           string           `json:"plan"`
	ChaosSeconds   float64          `json:"chaos_seconds"`
	CatchUpSeconds float64          `json:"catch_up_seconds"`
	ProofSeconds   float64          `json:"proof_seconds"`
	Counts         map[string]int64 `json:"counts"`
	Wrong          []string         `json:"wrong,omitempty"`
}

func newResult(o *options) *result {
	return &result{Seed: o.seed, Commit: commit(), Began: time.Now().UTC(), Mix: o.mixText, tally: newTally()}
}

// commit names what is tried, as git knows it.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--abbrev=12", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// wants says whether the run needs a further world, the n-th.
func (r *result) wants(o *options, n int) bool {
	if n == 0 {
		return true
	}
	if o.worldSeed != 0 {
		return false
	}
	for name, least := range o.until {
		if r.tally.get(name) < least {
			return true
		}
	}
	return time.Since(r.Began)+overhead+shortest < o.duration
}

// chaos is how long things are done to the next world.
func (r *result) chaos(o *options) time.Duration {
	left := o.duration - time.Since(r.Began) - overhead
	if o.worldSeed != 0 || left < shortest {
		return o.world // alone, or beyond -duration for -until
	}
	return min(o.world, left)
}

// world lets one world live.
func (r *result) world(ctx context.Context, o *options, n int, seed uint64, root, program string) *world {
	dir := filepath.Join(root, fmt.Sprintf("world-%03d", n))
	p := newPlan(o, seed, r.chaos(o))
	log := func(s string) { fmt.Fprintf(os.Stderr, "torture: %s world %d: %s\n", clock(r.Began), n, s) }
	var file *os.File
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		file, err = os.Create(filepath.Join(dir, "world.log"))
	}
	w := &world{plan: p, dir: dir, program: program, tally: newTally(), trial: newTrial(ctx, file, log)}
	if err != nil {
		w.trial.log = os.Stderr
		w.Errorf("its files: %v", err)
		return w
	}
	defer func() { _ = file.Close() }()
	log(fmt.Sprintf("seed %d: %s", seed, p))
	stop := make(chan struct{})
	go func() {
		tick := time.NewTicker(betweenProgress)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				log(w.progress())
			case <-stop:
				return
			}
		}
	}()
	w.run(w.live)
	close(stop)
	r.take(ctx, o, w)
	return w
}

// progress says how far a world is.
func (w *world) progress() string {
	t := w.tally
	return fmt.Sprintf("%s events acknowledged, %d kills, %d zombies, %d leaders killed", humanize.Comma(w.acked()),
		t.get(killsOfInstances), t.get(zombies), t.get(leaderKills))
}

// take notes what became of a world.
func (r *result) take(ctx context.Context, o *options, w *world) {
	what := fmt.Sprintf("%s, %s adopted; %.0fs, %.1fs to catch up, %.1fs to prove", w.progress(), humanize.Comma(w.tally.get(adoptions)),
		w.chaosTook.Seconds(), w.catchUpTook.Seconds(), w.proofTook.Seconds())
	switch {
	case w.Failed():
		r.Wrong = append(r.Wrong, w.wrong...)
		r.KeptIn = append(r.KeptIn, w.dir)
		what = fmt.Sprintf("WRONG: %s\n  files are kept in %s\n  again: go run ./torture -world-seed %d -world %s -mix %s -rate %d",
			what, w.dir, w.seed, o.world, o.mixText, o.rate)
	case ctx.Err() != nil:
		os.RemoveAll(w.dir)
		fmt.Fprintf(os.Stderr, "torture: interrupted\n")
		return
	default:
		what = "proven: " + what
		r.verified++
		if !o.keep {
			os.RemoveAll(w.dir)
		}
	}
	fmt.Fprintf(os.Stderr, "torture: %s %s\n", clock(r.Began), what)
	r.tally.merge(w.tally)
	r.Chaos += w.chaosTook.Seconds()
	r.Worlds = append(r.Worlds, worldResult{Seed: w.seed, Plan: w.plan.String(), ChaosSeconds: w.chaosTook.Seconds(),
		CatchUpSeconds: w.catchUpTook.Seconds(), ProofSeconds: w.proofTook.Seconds(), Counts: w.tally.all(), Wrong: w.wrong})
}

func clock(began time.Time) string {
	return time.Since(began).Round(time.Second).String()
}

// finish comes to a verdict.
func (r *result) finish(interrupted bool) {
	r.Seconds = time.Since(r.Began).Seconds()
	r.Counts = r.tally.all()
	if r.verified > 0 && r.Counts[adoptions] == 0 {
		r.Wrong = append(r.Wrong, "no frame was adopted in the whole run: what was done does not bite, and this proves nothing")
	}
	switch {
	case len(r.Wrong) > 0:
		r.Verdict = "wrong"
	case interrupted:
		r.Verdict = "interrupted"
	default:
		r.Verdict = "proven"
	}
}

func (r *result) code() int {
	switch r.Verdict {
	case "proven":
		return exitProven
	case "wrong":
		return exitWrong
	}
	return exitNotRun
}

func (r *result) save(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// table is the result for people, in Markdown.
func (r *result) table() string {
	var b strings.Builder
	total := time.Duration(r.Seconds * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(&b, "\n**%s**: %d worlds in %s, of which %s under faults; seed %d, commit %s, %s\n\n",
		r.Verdict, len(r.Worlds), total, time.Duration(r.Chaos*float64(time.Second)).Round(time.Second), r.Seed, r.Commit, r.Began.Format("2006-01-02 15:04 MST"))
	// These stand there even if they are 0: they are the point.
	counts := map[string]int64{lost: 0, doubled: 0, outOfOrder: 0, otherwise: 0, streamLost: 0, killsOfInstances: 0, zombies: 0, leaderKills: 0, adoptions: 0}
	for name, n := range r.Counts {
		counts[name] = n
	}
	groups := map[string][]string{}
	for name := range counts {
		group, item, _ := strings.Cut(name, "/")
		groups[group] = append(groups[group], item)
	}
	order := []string{"events", "wrong", "stream", "kill -9", "leader of", "pause", "connection to NATS", "connection to the store",
		"store fault", "ledger", "routes changed", "seen", "epoch ended", "ended by itself", "error logged", "archive"}
	names := make([]string, 0, len(groups))
	for g := range groups {
		names = append(names, g)
	}
	slices.SortFunc(names, func(x, y string) int {
		i, j := slices.Index(order, x), slices.Index(order, y)
		if i != j {
			return i - j
		}
		return strings.Compare(x, y)
	})
	fmt.Fprintf(&b, "| | | count |\n|---|---|---:|\n")
	for _, g := range names {
		slices.Sort(groups[g])
		title := g
		for _, item := range groups[g] {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", title, item, humanize.Comma(counts[g+"/"+item]))
			title = ""
		}
	}
	if r.Chaos > 0 {
		fmt.Fprintf(&b, "\nPer minute under faults: %.1f kills of instances, %.1f zombies, %.1f leader kills; %.0f events a second.\n",
			float64(counts[killsOfInstances])*60/r.Chaos, float64(counts[zombies])*60/r.Chaos, float64(counts[leaderKills])*60/r.Chaos,
			float64(counts[published])/r.Chaos)
	}
	for _, s := range r.Wrong {
		fmt.Fprintf(&b, "\nWRONG: %s\n", s)
	}
	return b.String()
}
