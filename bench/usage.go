//go:build unix

package main

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// cpuTime is what a process has used of user and system time, in steps of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	s, err := p.Stat()
	if err != nil {
		return 0, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	return time.Duration(s.CPUTime() * float64(time.Second)), nil
}

// memory is the resident memory of a process, in bytes: now and at most so far.
func memory(pid int) (now, peak uint64, err error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, 0, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	s, err := p.NewStatus()
	if err != nil {
		return 0, 0, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	return s.VmRSS, s.VmHWM, nil
}

// loadAverage is how many processes ran or wanted to in the last minute; 0 if the
// system does not say.
func loadAverage() float64 {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	l, err := fs.LoadAvg()
	if err != nil {
		return 0
	}
	return l.Load1
}
