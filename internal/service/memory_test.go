package service

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/rs/zerolog"
)

// The runtime's limit follows limits.memory, unless the environment sets one.
func TestMemoryLimit(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(was)
	t.Setenv("GOMEMLIMIT", "")
	limitMemory(100<<20, zerolog.Nop())
	if got := debug.SetMemoryLimit(-1); got != 712<<20 {
		t.Errorf("the limit is %d MiB, want 712", got>>20)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "2GiB")
	limitMemory(100<<20, zerolog.Nop())
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("the limit of the environment was replaced by %d", got)
	}
}
