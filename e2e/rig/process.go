//go:build unix

package rig

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child process that may be started again after it has ended. What
// it prints is appended to a file over all its lives. Its methods may be called
// by several goroutines; who starts and who ends it, they settle among themselves.
type Process struct {
	Name    string
	LogFile string

	t       T
	command func() *exec.Cmd // for each start

	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{} // closed when the present life has ended
	starts int
	born   int64 // where in the log the present life begins
}

// NewProcess makes one without starting it.
func NewProcess(t T, name, logFile string, command func() *exec.Cmd) *Process {
	p := &Process{t: t, Name: name, LogFile: logFile, command: command}
	t.Cleanup(func() {
		if p.Alive() {
			p.Kill()
		}
		if t.Failed() {
			t.Logf("end of %s:\n%s", p.LogFile, p.LogTail(40))
		}
	})
	return p
}

// Start returns when the process runs, whatever it does then.
func (p *Process) Start() {
	p.t.Helper()
	if p.Alive() {
		p.t.Fatalf("%s runs already", p.Name)
	}
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	born, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := p.command()
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	dieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("starting %s: %v", p.Name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended stands in cmd.ProcessState
		close(done)
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.done = cmd, done
	p.starts++
	p.born = born
}

// life is the present life, nil before the first.
func (p *Process) life() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd, p.done
}

// Alive says whether it runs, paused or not.
func (p *Process) Alive() bool {
	cmd, done := p.life()
	if cmd == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// Starts is how many lives it has had.
func (p *Process) Starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// PID is that of the present or last life.
func (p *Process) PID() int {
	cmd, _ := p.life()
	return cmd.Process.Pid
}

// Ended says in words how the last life ended.
func (p *Process) Ended() string {
	cmd, _ := p.life()
	if cmd == nil || p.Alive() {
		return "not ended"
	}
	return cmd.ProcessState.String()
}

// ExitCode is that of a life that has ended; -1 if a signal ended it.
func (p *Process) ExitCode() int {
	cmd, done := p.life()
	<-done
	return cmd.ProcessState.ExitCode()
}

// Kill ends the process with SIGKILL and returns when it is gone.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	p.Wait(20 * time.Second)
}

// Pause stops the process with SIGSTOP, Resume lets it go on.
func (p *Process) Pause() { p.t.Helper(); p.Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (p *Process) Resume() { p.t.Helper(); p.Signal(syscall.SIGCONT) }

// Stop asks with SIGTERM and wants exit code 0.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(40 * time.Second); code != 0 {
		p.t.Fatalf("%s ended with code %d after SIGTERM\n%s", p.Name, code, p.LogTail(20))
	}
}

// Signal sends to a process that must be alive.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if !p.Alive() {
		p.t.Fatalf("%s: %s: it has ended already: %s\n%s", p.Name, s, p.Ended(), p.LogTail(20))
	}
	cmd, _ := p.life()
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: %s: %v", p.Name, s, err)
	}
}

// Wait waits for its end and returns the exit code, -1 if a signal ended it.
func (p *Process) Wait(limit time.Duration) int {
	p.t.Helper()
	_, done := p.life()
	select {
	case <-done:
	case <-time.After(limit):
		p.t.Fatalf("%s did not end within %s\n%s", p.Name, limit, p.LogTail(20))
	}
	return p.ExitCode()
}

// LogText is all that it has printed, in all its lives.
func (p *Process) LogText() string {
	b, err := os.ReadFile(p.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LifeText is what it has printed in its present or last life.
func (p *Process) LifeText() string {
	p.mu.Lock()
	born := p.born
	p.mu.Unlock()
	all := p.LogText()
	return all[min(int(born), len(all)):]
}

// LogTail is the end of it.
func (p *Process) LogTail(lines int) string {
	all := strings.Split(strings.TrimSpace(p.LogText()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Used is the CPU time, user and system, of a life that has ended.
func (p *Process) Used() time.Duration {
	cmd, done := p.life()
	<-done
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
