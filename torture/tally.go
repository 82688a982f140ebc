//go:build unix

package main

import (
	"maps"
	"sync"
)

// tally counts what was done and what was seen, by name. A name is a group and an
// item: "kill -9/instance".
type tally struct {
	mu sync.Mutex
	n  map[string]int64
}

func newTally() *tally { return &tally{n: map[string]int64{}} }

func (t *tally) add(name string, n int64) {
	if n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[name] += n
}

func (t *tally) get(name string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[name]
}

func (t *tally) all() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.n)
}

// merge adds another's counts.
func (t *tally) merge(o *tally) {
	for name, n := range o.all() {
		t.add(name, n)
	}
}

// The counts that something is decided by.
const (
	killsOfInstances = "kill -9/instance"
	zombies          = "pause/instance, another took over"
	leaderKills      = "kill -9/NATS leader in a cluster"
	adoptions        = "seen/frames adopted"

	published    = "events/acknowledged by the stream"
	archived     = "events/read back from the objects"
	lost         = "wrong/lost"
	doubled      = "wrong/doubled"
	outOfOrder   = "wrong/out of order"
	otherwise    = "wrong/other bytes or place"
	streamLost   = "stream/lost by the stream after its acknowledgement"
	streamBeyond = "stream/archived, then lost by the stream"
)

// untilNames are the counts of -until.
var untilNames = map[string]string{"kills": killsOfInstances, "zombies": zombies, "leaders": leaderKills}

// untilMix is what a run must do to reach them.
var untilMix = map[string][]string{"kills": {mixKills}, "zombies": {mixZombies}, "leaders": {mixCluster, mixNATS}}
