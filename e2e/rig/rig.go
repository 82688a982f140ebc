//go:build unix

// Package rig is what proofs with real processes are built of: the product's
// binary, NATS servers and the emulator as child processes that can be killed,
// paused and started again, proxies between them, publishers that keep a journal
// of what the stream acknowledged, and a reader that shares no code with the
// product. The tests of e2e and the torture command use it.
//
// It guarantees that no child outlives its parent, where the system can do that
// (Linux), and that what cannot be set up ends the proof by T.Fatalf. It decides
// nothing about what a proof is.
package rig

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
)

// T is what a proof reports to and cleans up by: a test, or a world of the
// torture command. Fatal and Fatalf do not return.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	Failed() bool
	Context() context.Context
}

// Names and keys that all processes of a proof agree on.
const (
	ArchiveName  = "torture"
	BucketName   = "bucket"
	KeyPrefix    = "archive/"
	AccessKey    = "e2e-key"
	SecretKey    = "e2e-secret"
	StreamName   = "EVENTS"
	LedgerBucket = "OSSUARY_" + ArchiveName // the KV bucket of the ledger
)

// Patience is how long the archive may take to catch up after faults have stopped.
const Patience = 3 * time.Minute

// Build builds the product's binary from its package's directory or import path.
func Build(pkg, file string, race bool) error {
	args := []string{"build", "-o", file}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, pkg)...)
	dieWithUs(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the binary: %w\n%s", err, out)
	}
	return nil
}

// FreePort is a port that stays ours over restarts: none of those that the
// system gives to outgoing connections.
func FreePort(t T) int {
	t.Helper()
	for range 100 {
		port := 15000 + rand.IntN(15000)
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// ports are those that this process has given out.
var ports sync.Map

// Eventually waits until ok says so. ok may return a note for the failure.
func Eventually(t T, limit time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	note := ""
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if t.Context().Err() != nil {
			t.Fatalf("given up while waiting for: %s", what)
		}
		var yes bool
		if yes, note = ok(); yes {
			return
		}
	}
	t.Fatalf("after %s still not: %s; %s", limit, what, note)
}

// Must is for what can only fail by a mistake in the proof itself.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("%v", err))
	}
	return v
}

// Run runs a command of the binary to its end.
func Run(t T, program string, limit time.Duration, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	dieWithUs(cmd)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// self is this process's own binary, which children that are NATS servers run.
func self() string { return Must(os.Executable()) }
