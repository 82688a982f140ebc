//go:build unix

package main

import (
	"errors"
	"time"

	"ossuary/e2e/rig"
)

// figures are what one contender took in one round.
type figures struct {
	Events       int     `json:"events"`
	Seconds      float64 `json:"seconds"`
	Client       float64 `json:"client_us"` // CPU of the consuming process per event, in microseconds
	Server       float64 `json:"server_us"` // of nats-server
	Store        float64 `json:"store_us"`
	Peak         uint64  `json:"peak_bytes"`                 // resident memory of the consuming process
	Mallocs      float64 `json:"mallocs"`                    // heap allocations of the consuming process per event
	Appends      float64 `json:"appends_per_million"`        // confirmed, per million events
	LedgerWrites float64 `json:"ledger_writes_per_million"`  // of lanes and tails, per million events
	Bytes        float64 `json:"stored_per_event,omitempty"` // bytes in the store per event
}

func (f figures) rate() float64 { return float64(f.Events) / f.Seconds }

// spending is what the processes have used so far.
type spending struct{ client, server, store time.Duration }

func (f *figures) spent(from, to spending) {
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(f.Events) }
	f.Client, f.Server, f.Store = per(to.client-from.client), per(to.server-from.server), per(to.store-from.store)
}

// usage asks all processes; one that has ended is asked for what it used in all.
func (b *bench) usage(t *trial, s *service, store *rig.Process) spending {
	var u spending
	var errs [3]error
	u.server, errs[0] = cpuTime(b.nats.PID())
	u.store, errs[1] = cpuTime(store.PID())
	if s != nil {
		if s.Alive() {
			u.client, errs[2] = cpuTime(s.PID())
		} else {
			u.client = s.Used()
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return u
}
