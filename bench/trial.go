//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
)

// trial is one try at something that starts processes: rig.T for this command.
// Fatalf ends it and leaves the rest of the bench alone; its processes and files
// go with it.
type trial struct {
	ctx context.Context //nolint:containedctx // rig.T asks for it, as testing.T has it
	tmp string

	mu       sync.Mutex
	err      error
	cleanups []func()
}

// try runs f to its end, or to its Fatalf, and cleans up. Its error is what f
// failed with.
func try(ctx context.Context, tmp string, f func(*trial)) error {
	t := &trial{ctx: ctx, tmp: tmp}
	t.protect(func() { f(t) })
	t.close()
	return t.err
}

// protect runs f in a goroutine that Fatalf may end.
func (t *trial) protect(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// close runs the clean-ups, the last one first.
func (t *trial) close() {
	for len(t.cleanups) > 0 {
		last := t.cleanups[len(t.cleanups)-1]
		t.cleanups = t.cleanups[:len(t.cleanups)-1]
		t.protect(last)
	}
}

// dir makes a directory that goes with the trial.
func (t *trial) dir() string {
	dir, err := os.MkdirTemp(t.tmp, "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (t *trial) fail(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = errors.Join(t.err, errors.New(s))
}

// Helper implements rig.T.
func (t *trial) Helper() {}

// Logf implements rig.T. Of a trial that fails, the ends of its processes' logs are
// told this way, and go with the error.
func (t *trial) Logf(format string, args ...any) {
	if t.Failed() {
		t.fail(fmt.Sprintf(format, args...))
	}
}

// Errorf implements rig.T.
func (t *trial) Errorf(format string, args ...any) { t.fail(fmt.Sprintf(format, args...)) }

// Fatal implements rig.T.
func (t *trial) Fatal(args ...any) { t.fail(fmt.Sprint(args...)); runtime.Goexit() }

// Fatalf implements rig.T.
func (t *trial) Fatalf(format string, args ...any) {
	t.fail(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// Cleanup implements rig.T.
func (t *trial) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

// Failed implements rig.T.
func (t *trial) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err != nil
}

// Context implements rig.T.
func (t *trial) Context() context.Context { return t.ctx }
