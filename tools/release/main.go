// Command release makes everything that a release consists of, from a checkout:
// static binaries in archives, deb and rpm packages with man pages, completions
// and a unit of systemd, a bill of materials, and checksums. `make release` runs
// it.
//
// The same commit and the same Go give the same bytes, wherever and whenever they
// are made: every time in them is the commit's.
//
// It is a module of its own, so that the libraries for it stay out of the
// product's.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(2)
	}
}

// all are the systems that a release has binaries for.
const all = "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64"

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	root := flags.String("root", "../..", "the checkout")
	out := flags.String("out", "", "write to this directory (default: dist in the checkout)")
	targets := flags.String("targets", all, "systems, as GOOS/GOARCH,...")
	modified := flags.Bool("modified", false, "take a checkout with changes that are not committed, to try things out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" {
		*out = filepath.Join(*root, "dist")
	}
	stage, err := os.MkdirTemp("", "ossuary-release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	r := &release{root: *root, out: *out, stage: stage}
	r.compile = r.static
	if r.build, err = r.identify(ctx); err != nil {
		return err
	}
	if r.build.Modified && !*modified {
		return fmt.Errorf("the checkout has changes that are not committed, so that nobody could make this release again: commit or stash them (git status), or try things out with -modified")
	}
	fmt.Printf("ossuary %s, commit %s of %s, %s\n", r.build.Version, r.build.Commit, r.build.Time, r.build.Go)
	var systems []target
	for name := range strings.SplitSeq(*targets, ",") {
		t, err := parseTarget(name)
		if err != nil {
			return err
		}
		systems = append(systems, t)
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if err := r.documents(ctx); err != nil {
		return err
	}
	for _, t := range systems {
		if err := r.system(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	return r.checksums()
}
