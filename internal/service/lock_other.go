//go:build !unix

package service

import "os"

// lockFile does nothing where there is no flock: there the ports, which only one
// process can have, keep a second one off.
func lockFile(*os.File) error { return nil }
