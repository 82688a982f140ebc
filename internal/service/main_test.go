package service

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// The parallel tests wait for servers and pauses most of the time, so that more of
// them run at once than there are processors, unless -parallel says how many.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := f.Value.Set("8"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
