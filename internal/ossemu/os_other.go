//go:build !unix

package ossemu

import "os"

// These systems report such paths as not existing or as existing already.
func isNotDir(error) bool  { return false }
func isTooLong(error) bool { return false }

// lock does nothing: that one server uses a directory is for the user to see to.
func lock(*os.File) error { return nil }
