package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// release is one run.
type release struct {
	root, out string
	stage     string // scratch, with everything but the binaries once documents is through
	build     build
	compile   func(ctx context.Context, t target, file string) error // writes a binary
}

// build is what the program says of itself, `consumer version --json`.
type build struct {
	Version  string    `json:"version"`
	Commit   string    `json:"commit"`
	Time     time.Time `json:"time"` // of the commit
	Modified bool      `json:"modified"`
	Go       string    `json:"go"`
}

// name is the version as file names have it.
func (b build) name() string { return strings.TrimPrefix(b.Version, "v") }

// target is a system to build for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

func (t target) binary() string {
	if t.os == "windows" {
		return "consumer.exe"
	}
	return "consumer"
}

func parseTarget(name string) (target, error) {
	system, arch, ok := strings.Cut(strings.TrimSpace(name), "/")
	if !ok || system == "" || arch == "" {
		return target{}, fmt.Errorf("-targets %q: say GOOS/GOARCH, as in linux/amd64", name)
	}
	return target{system, arch}, nil
}

// identify builds the program for this machine and asks it what it is. The
// documents come from it too, so that they are the program's own.
func (r *release) identify(ctx context.Context) (build, error) {
	if err := r.compile(ctx, target{runtime.GOOS, runtime.GOARCH}, r.host()); err != nil {
		return build{}, err
	}
	var b build
	if err := r.ask(ctx, &b, "version", "--json"); err != nil {
		return build{}, err
	}
	if b.Commit == "" || b.Time.IsZero() {
		return build{}, fmt.Errorf("no commit is stamped into the program: make the release from a clone by git (Go does not see the commit in a worktree), with git installed")
	}
	return b, nil
}

func (r *release) host() string {
	return filepath.Join(r.stage, "host", target{os: runtime.GOOS}.binary())
}

// ask runs a command of the program that prints JSON.
func (r *release) ask(ctx context.Context, into any, args ...string) error {
	out, err := r.print(ctx, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("consumer %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (r *release) print(ctx context.Context, args ...string) ([]byte, error) {
	var out, problem bytes.Buffer
	cmd := exec.CommandContext(ctx, r.host(), args...)
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("consumer %s: %w\n%s", strings.Join(args, " "), err, problem.String())
	}
	return out.Bytes(), nil
}

// static builds a static binary. What the caller's environment could change in it
// is set here. GOFLAGS is not left empty: then what `go env -w` has set would hold.
func (r *release) static(ctx context.Context, t target, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-mod=readonly", "-ldflags=-s -w", "-o", file, "./cmd/consumer")
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch,
		"GOFLAGS=-buildvcs=true", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// system makes everything for one system.
func (r *release) system(ctx context.Context, t target) error {
	binary := filepath.Join(r.stage, t.os+"-"+t.arch, t.binary())
	if err := r.compile(ctx, t, binary); err != nil {
		return err
	}
	if err := r.archive(t, binary); err != nil {
		return fmt.Errorf("the archive: %w", err)
	}
	if err := r.bom(t, binary); err != nil {
		return fmt.Errorf("the bill of materials: %w", err)
	}
	if t.os != "linux" {
		return nil
	}
	for _, format := range []string{"deb", "rpm"} {
		if err := r.pack(format, t, binary); err != nil {
			return fmt.Errorf("the %s: %w", format, err)
		}
	}
	return nil
}

// checksums writes SHA256SUMS, which `sha256sum -c` reads.
func (r *release) checksums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, e := range entries { // sorted
		data, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), sums.Bytes(), 0o644)
}
