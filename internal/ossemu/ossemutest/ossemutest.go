// Package ossemutest starts emulators for this module's own tests; it is the
// public package under the name they know.
package ossemutest

import (
	"testing"

	public "ossuary/ossemu"

	"ossuary/internal/ossemu"
)

// The access key and bucket of a server that was started without any.
const (
	AccessKeyID     = public.AccessKeyID
	AccessKeySecret = public.AccessKeySecret
	Bucket          = public.Bucket
	Region          = public.Region
)

// Server is a running emulator.
type Server = public.Server

// Start runs an emulator on a free port of the loopback until the test ends.
// Without credentials and buckets in o it has those of this package.
func Start(t testing.TB, o ossemu.Options) *Server {
	t.Helper()
	return public.Start(t, o)
}
