//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"
)

// trial is what one world reports to: rig.T for the torture command. Its log goes
// to a file; what is wrong is also told at once.
type trial struct {
	ctx    context.Context //nolint:containedctx // rig.T asks for it, as testing.T has it
	cancel context.CancelFunc
	log    io.Writer
	alarm  func(string)
	began  time.Time

	mu       sync.Mutex
	failed   bool
	wrong    []string
	cleanups []func()

	running sync.WaitGroup
}

func newTrial(ctx context.Context, log io.Writer, alarm func(string)) *trial {
	t := &trial{log: log, alarm: alarm, began: time.Now()}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

// run calls f and then the clean-ups, and returns when all goroutines of the
// trial have ended.
func (t *trial) run(f func()) {
	t.start(f)
	t.running.Wait()
	t.cancel()
	for {
		t.mu.Lock()
		n := len(t.cleanups)
		if n == 0 {
			t.mu.Unlock()
			return
		}
		last := t.cleanups[n-1]
		t.cleanups = t.cleanups[:n-1]
		t.mu.Unlock()
		done := make(chan struct{})
		go func() { // it may end by Fatalf
			defer close(done)
			last()
		}()
		<-done
	}
}

// start runs f beside the rest of the trial, in a goroutine that Fatalf may end.
// The returned channel is closed at its end.
func (t *trial) start(f func()) <-chan struct{} {
	done := make(chan struct{})
	t.running.Add(1)
	go func() {
		defer t.running.Done()
		defer close(done)
		f()
	}()
	return done
}

func (t *trial) write(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.log, "%8.3f %s\n", time.Since(t.began).Seconds(), s)
}

func (t *trial) accuse(s string) {
	t.mu.Lock()
	// What follows from an interrupt is nobody's fault.
	told := t.ctx.Err() == nil
	if told {
		t.failed = true
		t.wrong = append(t.wrong, s)
	}
	t.mu.Unlock()
	t.write(s)
	if told {
		t.alarm(s)
	}
}

func (t *trial) Helper() {}

func (t *trial) Logf(format string, args ...any)   { t.write(fmt.Sprintf(format, args...)) }
func (t *trial) Errorf(format string, args ...any) { t.accuse(fmt.Sprintf(format, args...)) }

func (t *trial) Fatal(args ...any) { t.fatal(fmt.Sprint(args...)) }

func (t *trial) Fatalf(format string, args ...any) { t.fatal(fmt.Sprintf(format, args...)) }

// fatal ends the calling goroutine and, by the context, the others.
func (t *trial) fatal(s string) {
	t.accuse(s)
	t.cancel()
	runtime.Goexit()
}

func (t *trial) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

func (t *trial) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

func (t *trial) Context() context.Context { return t.ctx }

// sleep waits, or until ctx ends, and says whether ctx still runs.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
