// Command consumer archives NATS JetStream streams into Alibaba Cloud OSS
// appendable objects, and reads, explains and proves what it archived.
//
//	consumer run ──> service.Run ──> intake.Lane (one per source and lane)
//	                     │               │ events in stream order
//	                     │               v
//	                     │           appendsink.Set ──> objectstore ──> OSS
//	                     │               │
//	                     │               v
//	                     ├──> ledger (NATS KV), control log (OSS)
//	                     └──> telemetry (HTTP)
//
//	consumer verify, cat, ledger ──> archive ──> objectstore or a directory
//	consumer replay ──> replay ──> archive, and a stream
//
// This package holds flags, signals, printing and exit codes; what the commands
// do stands in internal/service and internal/archive.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// The exit codes, the same for every command.
const (
	exitGood        = 0
	exitFound       = 1   // the command ran and found something wrong
	exitUnable      = 2   // used wrongly, or could not run
	exitInterrupted = 130 // a signal ended it before its work was done
)

// echo is how long further signals count as the first one: `timeout`, and shells
// and runners in between, pass a signal on that the process group got already.
const echo = 500 * time.Millisecond

func main() {
	// What the log looks like: times that sort and can be compared with the store's,
	// and durations that name their unit.
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
	zerolog.DurationFieldFormat = zerolog.DurationFormatString

	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel() // drain
		first := time.Now()
		for range signals {
			if time.Since(first) > echo {
				os.Exit(exitInterrupted) // not even that: what was not confirmed comes again
			}
		}
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: the end of ctx is the first signal.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr}
	root := a.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitGood
	case errors.Is(err, errFound):
		// The command has printed what it found.
		return exitFound
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "consumer: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "consumer: %s\n", strings.TrimSpace(err.Error()))
	return exitUnable
}

// errFound ends a command that ran well and found something wrong.
var errFound = errors.New("something is wrong")
