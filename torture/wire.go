//go:build unix

package main

import (
	"context"
	"math/rand/v2"
	"time"

	"ossuary/e2e/rig"
	"ossuary/internal/ossemu"
)

const (
	betweenRules    = 6 * time.Second
	betweenCuts     = 2 * time.Second
	rulesAtOnce     = 6
	untilTimeout    = ossTimeout * 5 / 4 // longer than a client waits
	throttledFor    = "300"              // milliseconds
	garbledCRC      = "1234567890"
	garbledPosition = "7"
)

// storeFaults are the rules that may be planted, with the probabilities that a
// fury of 1 gives them.
var storeFaults = []ossemu.Rule{
	{ID: "append applied, then 500", Op: "append", When: "after", Action: "error", Probability: 0.08},
	{ID: "append applied, then cut", Op: "append", When: "after", Action: "cut", Probability: 0.08},
	{ID: "append applied, answered too late", Op: "append", When: "after", Action: "delay", Delay: ossemu.Duration(untilTimeout), Probability: 0.02},
	{ID: "append applied, answered slowly", Op: "append", When: "after", Action: "delay", Delay: ossemu.Duration(60 * time.Millisecond), Probability: 0.3},
	{ID: "append 503", Op: "append", Action: "error", Status: 503, Code: "ServiceUnavailable", Probability: 0.05},
	{ID: "append cut before", Op: "append", Action: "cut", Probability: 0.05},
	{ID: "append delayed past the timeout", Op: "append", Action: "delay", Delay: ossemu.Duration(untilTimeout), Probability: 0.02},
	{ID: "append slow", Op: "append", Action: "delay", Delay: ossemu.Duration(40 * time.Millisecond), Probability: 0.3},
	{ID: "append arrives after the next request", Op: "append", Action: "late", Probability: 0.05},
	{ID: "append arrives 150 ms late", Op: "append", Action: "late", Delay: ossemu.Duration(150 * time.Millisecond), Probability: 0.04},
	{ID: "append arrives 3 s late", Op: "append", Action: "late", Delay: ossemu.Duration(3 * time.Second), Probability: 0.04},
	{ID: "append throttled, with a delay to keep", Op: "append", Action: "error", Status: 503, Code: "TotalQpsLimitExceeded",
		Headers: map[string]string{"X-Oss-Qos-Delay-Time": throttledFor}, Probability: 0.04},
	{ID: "append 200 with another CRC-64", Op: "append", When: "after", Action: "headers", Headers: map[string]string{"X-Oss-Hash-Crc64ecma": garbledCRC}, Probability: 0.03},
	{ID: "append 200 with another position", Op: "append", When: "after", Action: "headers", Headers: map[string]string{"X-Oss-Next-Append-Position": garbledPosition}, Probability: 0.03},
	{ID: "append 200 without its headers", Op: "append", When: "after", Action: "headers",
		Headers: map[string]string{"X-Oss-Hash-Crc64ecma": "", "X-Oss-Next-Append-Position": ""}, Probability: 0.03},
	{ID: "append 200, not applied", Op: "append", Action: "headers",
		Headers: map[string]string{"X-Oss-Hash-Crc64ecma": garbledCRC, "X-Oss-Next-Append-Position": garbledPosition}, Probability: 0.02},
	{ID: "head 500", Op: "head", Action: "error", Probability: 0.2},
	{ID: "head cut", Op: "head", Action: "cut", Probability: 0.1},
	{ID: "read cut within the body", Op: "get", Action: "cut", CutAfter: 1000, Probability: 0.25},
	{ID: "read 500", Op: "get", Action: "error", Probability: 0.1},
	{ID: "list 500", Op: "list", Action: "error", Probability: 0.2},
	{ID: "list cut", Op: "list", Action: "cut", Probability: 0.1},
}

// breakStore lets the store fail in changing ways.
func (w *world) breakStore(ctx context.Context, r *rand.Rand) {
	for {
		func() {
			w.storeBusy.Lock()
			defer w.storeBusy.Unlock()
			w.countFaults()
			w.store.ClearFaults()
			w.plantFaults(r)
		}()
		if !sleep(ctx, betweenRules) {
			return
		}
	}
}

// plantFaults gives the store some rules, if it may fail at all.
func (w *world) plantFaults(r *rand.Rand) {
	if !w.does[mixStore] {
		return
	}
	w.store.Reseed(r.Uint64())
	for _, i := range r.Perm(len(storeFaults))[:rulesAtOnce] {
		rule := storeFaults[i]
		rule.Probability = min(rule.Probability*w.fury, 0.9)
		w.store.Fault(rule)
	}
}

// countFaults counts how often the rules have fired since they were planted. They
// are to be cleared then.
func (w *world) countFaults() {
	for _, rule := range w.store.Faults() {
		w.tally.add("store fault/"+rule.ID, int64(rule.Fired))
	}
}

// breakNetwork cuts, freezes and blocks connections of single instances.
func (w *world) breakNetwork(ctx context.Context, r *rand.Rand) {
	for sleep(ctx, exponential(r, betweenCuts)) {
		s := w.slots[r.IntN(len(w.slots))]
		p, to := s.store, "the store"
		if r.IntN(2) == 0 {
			p, to = s.nats[r.IntN(len(s.nats))], "NATS"
		}
		w.breakWire(ctx, r, p, s.Name, to)
	}
}

func (w *world) breakWire(ctx context.Context, r *rand.Rand, p *rig.Proxy, from, to string) {
	how := ""
	switch r.IntN(5) {
	case 0:
		how = "reset"
		p.Cut()
	case 1, 2:
		// Into the middle of what comes next.
		how = "reset after some bytes"
		before := p.CutCount()
		p.CutAfter(1 + r.IntN(30_000))
		for range 100 {
			if p.CutCount() > before || !sleep(ctx, 20*time.Millisecond) {
				break
			}
		}
		p.CutAfter(0)
		if p.CutCount() == before {
			return // nothing came
		}
	case 3:
		how = "frozen"
		p.Freeze()
		sleep(ctx, upTo(r, 3*ossTimeout))
		if r.IntN(2) == 0 {
			how = "frozen, then reset"
			p.Cut()
		}
		p.Thaw()
	case 4:
		how = "refused for a while"
		p.Block()
		sleep(ctx, upTo(r, 2*time.Second))
		p.Unblock()
	}
	w.tally.add("connection to "+to+"/"+how, 1)
	w.Logf("%s's connection to %s: %s", from, to, how)
}
