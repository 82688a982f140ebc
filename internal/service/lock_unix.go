//go:build unix

package service

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock of f for this process; closing f, or dying, lets go.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
