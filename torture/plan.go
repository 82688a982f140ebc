//go:build unix

package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// What may be done to a world. The names are those of -mix.
const (
	mixKills   = "kills"   // kill -9 of instances
	mixZombies = "zombies" // pauses in which another instance takes over
	mixRivals  = "rivals"  // instances without a lease
	mixCluster = "cluster" // three NATS servers
	mixNATS    = "nats"    // NATS servers are killed and paused; in clusters, the leaders
	mixStore   = "store"   // the store fails on the wire
	mixCrashes = "crashes" // the store is killed
	mixNetwork = "network" // connections are cut and frozen
	mixLedger  = "ledger"  // the ledger is deleted and put back to old copies
	mixLayouts = "layouts" // routes change
)

var allMixes = []string{mixKills, mixZombies, mixRivals, mixCluster, mixNATS, mixStore, mixCrashes, mixNetwork, mixLedger, mixLayouts}

// parseMix reads -mix: names, or all but those with a minus.
func parseMix(text string) (map[string]bool, error) {
	on := map[string]bool{}
	names := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	if len(names) == 0 || strings.HasPrefix(names[0], "-") {
		for _, m := range allMixes {
			on[m] = true
		}
	}
	for _, n := range names {
		name, off := strings.CutPrefix(n, "-")
		if name == "all" && !off {
			for _, m := range allMixes {
				on[m] = true
			}
			continue
		}
		if !slices.Contains(allMixes, name) {
			return nil, fmt.Errorf("-mix: there is no %q; there are %s", name, strings.Join(allMixes, ", "))
		}
		if off {
			delete(on, name)
		} else {
			on[name] = true
		}
	}
	return on, nil
}

// plan is what will be done to a world. It follows from the world's seed and the
// options of the run.
type plan struct {
	seed      uint64
	nodes     int
	instances int
	lease     bool
	does      map[string]bool
	fury      float64 // scales the probabilities of the store's faults
	rate      int     // events a second
	chaos     time.Duration
}

// worldSeed is the seed of the n-th world of a run. Its lowest bit alone says
// whether the world is a cluster, so that they alternate.
func worldSeed(run uint64, n int) uint64 {
	r := rand.New(rand.NewPCG(run, uint64(n)))
	return r.Uint64()&^1 | uint64(n&1)
}

func newPlan(o *options, seed uint64, chaos time.Duration) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{seed: seed, nodes: 1, does: map[string]bool{}, rate: o.rate, chaos: chaos}
	// Drawn whether wanted or not, so that a seed means the same under any mix.
	rivals, instances := r.IntN(3) == 0, 3-r.IntN(3)/2
	p.fury = 0.3 + r.Float64()
	for _, m := range allMixes {
		leftOut := r.IntN(5) == 0
		switch m {
		case mixKills, mixZombies, mixNATS: // what a run is counted by
			leftOut = false
		case mixLayouts:
			leftOut = r.IntN(2) == 0
		}
		p.does[m] = o.mix[m] && !leftOut
	}
	p.does[mixCluster] = o.mix[mixCluster] && seed&1 == 1
	if p.does[mixCluster] {
		p.nodes = 3
	}
	p.does[mixRivals] = o.mix[mixRivals] && rivals
	p.lease = !p.does[mixRivals]
	p.instances = instances
	if !p.does[mixZombies] && !p.does[mixRivals] && r.IntN(2) == 0 {
		p.instances = 1
	}
	return p
}

func (p plan) String() string {
	does := slices.Sorted(maps.Keys(p.does))
	does = slices.DeleteFunc(does, func(m string) bool { return !p.does[m] || m == mixCluster || m == mixRivals })
	how := "lease"
	if !p.lease {
		how = "no lease"
	}
	return fmt.Sprintf("%d NATS, %d instances, %s, %s", p.nodes, p.instances, how, strings.Join(does, " "))
}

// exponential draws a waiting time with a mean, at most three times as long.
func exponential(r *rand.Rand, mean time.Duration) time.Duration {
	return min(time.Duration(r.ExpFloat64()*float64(mean)), 3*mean)
}

// upTo draws a duration.
func upTo(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d)))
}
