//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/rig"
)

const (
	leaseTTL   = time.Second
	ossTimeout = time.Second
	publishers = 2
)

// world is NATS, a store, and instances that archive from one to the other, all
// of them processes, with what is done to them.
type world struct {
	*trial
	plan
	dir     string
	program string
	tally   *tally

	nats  []*rig.NATS
	store *rig.Store
	slots []*slot

	nc *nats.Conn // past the proxies
	js jetstream.JetStream

	pubs       sync.Mutex // guards publishers
	publishers []*rig.Publisher

	// Who holds it may kill or start a NATS server.
	natsBusy sync.Mutex
	// Who holds it may kill or start the store, or change its rules.
	storeBusy sync.Mutex

	// Called with the directory of the objects before they are proven; nil but in
	// tests of the proof.
	tamper func(dir string)

	spared atomic.Pointer[slot] // is not killed now

	variant int // of the routes that instances start with; with all slots held

	chaosTook, catchUpTook, proofTook time.Duration
}

// slot is an instance with proxies of its own.
type slot struct {
	*rig.Instance
	nats  []*rig.Proxy
	store *rig.Proxy

	// Who holds it may kill, pause, start or configure the instance.
	busy sync.Mutex
}

// random is a source for one goroutine of the world.
func (w *world) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, stream)) }

// natsURLs are the servers themselves.
func (w *world) natsURLs() string {
	var urls []string
	for _, n := range w.nats {
		urls = append(urls, n.URL())
	}
	return strings.Join(urls, ",")
}

// build starts everything and makes the stream.
func (w *world) build() {
	if w.nodes == 1 {
		w.nats = []*rig.NATS{rig.NewNATS(w, w.dir, "nats")}
	} else {
		w.nats = rig.NewCluster(w, w.dir, w.nodes)
	}
	for _, n := range w.nats {
		n.Process.Start()
	}
	w.store = rig.NewStore(w, w.program, w.dir)
	w.store.Start()
	for _, n := range w.nats {
		n.Serves()
	}
	w.nc = rig.Connect(w, w.natsURLs())
	w.js = rig.Must(jetstream.New(w.nc))
	rig.Eventually(w, time.Minute, "the stream is made", func() (bool, string) {
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		defer cancel()
		_, err := w.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: rig.StreamName, Subjects: []string{"ev.>"}, Replicas: w.nodes})
		return err == nil, fmt.Sprint(err)
	})
	for i := range w.instances {
		s := &slot{store: rig.NewProxy(w, w.store.Addr)}
		for _, n := range w.nats {
			s.nats = append(s.nats, rig.NewProxy(w, fmt.Sprintf("127.0.0.1:%d", n.Port)))
		}
		s.Instance = rig.NewInstance(w, w.program, w.dir, string(rune('a'+i)), w.settings(s))
		w.slots = append(w.slots, s)
	}
	r := w.random(2)
	for range publishers {
		p := rig.Publish(w, w.natsURLs(), r.Uint64(), 1<<30)
		p.Pace(w.rate / publishers)
		w.pubs.Lock()
		w.publishers = append(w.publishers, p)
		w.pubs.Unlock()
	}
	for _, s := range w.slots {
		s.Process.Start()
	}
	// The first thing that is done should be done to something.
	rig.Eventually(w, rig.Patience, "an instance works", func() (bool, string) {
		var notes []string
		for _, s := range w.slots {
			if !s.Alive() {
				// A cluster that has just begun may take its time with the ledger.
				w.noteExit(s)
				s.Process.Start()
			}
			st, err := s.Status()
			if err == nil && st.State == "running" {
				return true, ""
			}
			notes = append(notes, fmt.Sprintf("%s: %+v %v", s.Name, st, err))
		}
		return false, strings.Join(notes, "; ")
	})
}

func (w *world) settings(s *slot) rig.Settings {
	var urls []string
	for _, p := range s.nats {
		urls = append(urls, "nats://"+p.Addr)
	}
	return rig.Settings{NATS: strings.Join(urls, ","), Store: s.store.Addr, LeaseDisabled: !w.lease, LeaseTTL: leaseTTL,
		OSSTimeout: ossTimeout, Routes: routes(w.variant)}
}

// rage does to the world what the plan says, until its time is over, and then
// undoes what can be undone.
func (w *world) rage() {
	began := time.Now()
	ctx, cancel := context.WithTimeout(w.ctx, w.chaos)
	defer cancel()
	var done []<-chan struct{}
	do := func(mix string, stream uint64, f func(context.Context, *rand.Rand)) {
		if mix == "" || w.does[mix] {
			done = append(done, w.start(func() { f(ctx, w.random(stream)) }))
		}
	}
	do("", 10, w.revive)
	do("", 11, w.watch)
	do(mixKills, 20, w.killInstances)
	do(mixZombies, 21, w.makeZombies)
	do(mixNATS, 22, w.breakNATS)
	do(mixStore, 23, w.breakStore)
	do(mixCrashes, 24, w.killStore)
	do(mixNetwork, 25, w.breakNetwork)
	do(mixLedger, 26, w.breakLedger)
	do(mixLayouts, 27, w.changeLayouts)
	for _, d := range done {
		<-d
	}
	w.chaosTook = time.Since(began)
	w.Logf("the faults are over")
}

// settle lets the archive catch up and stops it.
func (w *world) settle() {
	began := time.Now()
	w.storeBusy.Lock()
	w.countFaults()
	w.store.ClearFaults()
	w.storeBusy.Unlock()
	for _, s := range w.slots {
		s.store.CutAfter(0)
		for _, p := range s.nats {
			p.CutAfter(0)
		}
	}
	for _, p := range w.publishers {
		p.End()
	}
	for _, p := range w.publishers {
		rig.Eventually(w, rig.Patience, "everything is acknowledged to the publishers", func() (bool, string) {
			select {
			case <-p.Done:
				return true, ""
			default:
				return false, fmt.Sprintf("%d of %d", p.Acked(), p.Released())
			}
		})
	}
	last := w.last()
	w.Logf("everything is published, up to sequence %d", last)
	told := time.Now()
	rig.Eventually(w, rig.Patience, "everything is archived", func() (bool, string) {
		var notes []string
		reached, answered := 0, 0
		for _, s := range w.slots {
			if !s.Alive() {
				// NATS may be without a leader yet, and a new layout to be learnt of.
				w.noteExit(s)
				s.Process.Start()
			}
			st, err := s.Status()
			notes = append(notes, fmt.Sprintf("%s: %+v %v", s.Name, st, err))
			if err == nil && st.State != "starting" {
				answered++
			}
			if err == nil && st.Floor >= last {
				reached++
			}
		}
		need := len(w.slots)
		if w.lease {
			need = 1
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			w.Logf("still catching up: %s", strings.Join(notes, "; "))
		}
		return answered == len(w.slots) && reached >= need, strings.Join(notes, "; ")
	})
	w.catchUpTook = time.Since(began)
	w.Logf("everything is archived")
	for _, s := range w.slots {
		s.Stop()
	}
}

// last is the stream's last sequence.
func (w *world) last() uint64 {
	var last uint64
	rig.Eventually(w, time.Minute, "the stream can be looked at", func() (bool, string) {
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		defer cancel()
		s, err := w.js.Stream(ctx, rig.StreamName)
		if err != nil {
			return false, err.Error()
		}
		last = s.CachedInfo().State.LastSeq
		return true, ""
	})
	return last
}

// live is the life of a world.
func (w *world) live() {
	w.Logf("world %d: %s", w.seed, w.plan)
	w.build()
	w.rage()
	w.settle()
	if w.tamper != nil {
		w.tamper(w.store.Objects())
	}
	w.prove()
}

// acked is how many messages the stream has acknowledged.
func (w *world) acked() (n int64) {
	w.pubs.Lock()
	defer w.pubs.Unlock()
	for _, p := range w.publishers {
		n += int64(p.Acked())
	}
	return n
}
