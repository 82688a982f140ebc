package service

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/rs/zerolog"

	"ossuary/internal/config"
)

// The runtime's limit follows limits.memory, unless the environment sets one.
func TestMemoryLimit(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(was)
	t.Setenv("GOMEMLIMIT", "")
	cfg := &config.Config{Limits: config.Limits{Memory: 100 << 20}}
	limitMemory(cfg, zerolog.Nop())
	if got := debug.SetMemoryLimit(-1); got != 148<<20 {
		t.Errorf("the limit is %d MiB, want 148", got>>20)
	}
	cfg.Limits.OpenSeries = 10_000 // 117 MiB, and there is room for 50
	limitMemory(cfg, zerolog.Nop())
	if got := debug.SetMemoryLimit(-1); got != 98<<20+10_000*12<<10 {
		t.Errorf("with 10,000 series the limit is %d KiB", got>>10)
	}
	cfg.Limits.OpenSeries = 0
	cfg.Embedded.Enabled = true
	limitMemory(cfg, zerolog.Nop())
	if got := debug.SetMemoryLimit(-1); got != 660<<20 {
		t.Errorf("with servers in the process the limit is %d MiB, want 660", got>>20)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "2GiB")
	limitMemory(cfg, zerolog.Nop())
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("the limit of the environment was replaced by %d", got)
	}
}
