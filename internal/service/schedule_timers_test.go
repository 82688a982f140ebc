package service

import (
	"sync"
	_ "unsafe" // for linkname
)

// natsTimers is where the client library keeps timers for the next user. A timer
// that was made on one schedule's simulated time cannot be used on another's, and
// the library offers no way around its pool: it flushes after each reconnect.
//
//go:linkname natsTimers github.com/nats-io/nats%2ego.globalTimerPool
var natsTimers struct{ p sync.Pool }

// dropTimers empties the pool.
func dropTimers() {
	for {
		if natsTimers.p.Get() == nil {
			return
		}
	}
}
