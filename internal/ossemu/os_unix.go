//go:build unix

package ossemu

import (
	"errors"
	"os"
	"syscall"
)

func isNotDir(err error) bool  { return errors.Is(err, syscall.ENOTDIR) }
func isTooLong(err error) bool { return errors.Is(err, syscall.ENAMETOOLONG) }

// lock takes the directory for this process; the lock ends with the process,
// however that ends.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
