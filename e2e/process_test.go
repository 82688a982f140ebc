//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a child process that may be started again after it has ended. What
// it prints is appended to a file over all its lives.
type process struct {
	t       testing.TB
	name    string
	logFile string
	command func() *exec.Cmd // for each start

	cmd    *exec.Cmd
	done   chan struct{} // closed when the present life has ended
	starts int
}

func (w *world) newProcess(name string, command func() *exec.Cmd) *process {
	p := &process{t: w.t, name: name, logFile: filepath.Join(w.dir, name+".log"), command: command}
	w.t.Cleanup(func() {
		if p.alive() {
			p.kill()
		}
		if w.t.Failed() {
			w.t.Logf("end of %s:\n%s", p.logFile, p.logTail(40))
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	if p.alive() {
		p.t.Fatalf("%s runs already", p.name)
	}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd := p.command()
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	dieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("starting %s: %v", p.name, err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait() // how it ended stands in cmd.ProcessState
		close(done)
	}()
	p.cmd, p.done = cmd, done
	p.starts++
}

func (p *process) alive() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process with SIGKILL and returns when it is gone.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait(20 * time.Second)
}

// pause stops the process with SIGSTOP, resume lets it go on.
func (p *process) pause()  { p.t.Helper(); p.signal(syscall.SIGSTOP) }
func (p *process) resume() { p.t.Helper(); p.signal(syscall.SIGCONT) }

// stop asks with SIGTERM and wants exit code 0.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(40 * time.Second); code != 0 {
		p.t.Fatalf("%s ended with code %d after SIGTERM\n%s", p.name, code, p.logTail(20))
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if !p.alive() {
		p.t.Fatalf("%s: %s: it has ended already: %s\n%s", p.name, s, p.cmd.ProcessState, p.logTail(20))
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: %s: %v", p.name, s, err)
	}
}

// wait returns the exit code, -1 if a signal ended it.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("%s did not end within %s\n%s", p.name, limit, p.logTail(20))
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) logText() string {
	b, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *process) logTail(lines int) string {
	all := strings.Split(strings.TrimSpace(p.logText()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// eventually waits until ok says so. ok may return a note for the failure.
func eventually(t testing.TB, limit time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	note := ""
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var yes bool
		if yes, note = ok(); yes {
			return
		}
	}
	t.Fatalf("after %s still not: %s; %s", limit, what, note)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("%v", err))
	}
	return v
}
