package rig

import (
	"os/exec"
	"syscall"
)

// dieWithUs ends a child when a test binary ends without its clean-up, as it
// does at the end of go test's time.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
