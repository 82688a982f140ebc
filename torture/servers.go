//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"ossuary/e2e/rig"
)

const (
	betweenNATSFaults    = 5 * time.Second
	betweenClusterFaults = 7 * time.Second / 2 // behind the last one's repair, which takes an election
	betweenStoreKills    = 10 * time.Second

	kvStream = "KV_" + rig.LedgerBucket
)

// breakNATS kills and pauses NATS servers.
func (w *world) breakNATS(ctx context.Context, r *rand.Rand) {
	between := betweenNATSFaults
	if w.nodes > 1 {
		between = betweenClusterFaults
	}
	for sleep(ctx, exponential(r, between)) {
		func() {
			w.natsBusy.Lock()
			defer w.natsBusy.Unlock()
			if w.nodes > 1 {
				w.breakCluster(ctx, r)
			} else {
				w.breakServer(ctx, r)
			}
		}()
	}
}

func (w *world) breakServer(ctx context.Context, r *rand.Rand) {
	n := w.nats[0]
	if r.IntN(5) == 0 {
		w.pauseServer(ctx, r, n, 2*leaseTTL)
		return
	}
	n.Kill()
	w.tally.add("kill -9/NATS server, the only one", 1)
	if w.does[mixLedger] {
		w.swapLedger(r, n)
	}
	sleep(ctx, upTo(r, time.Second))
	n.Start()
	w.Logf("killed NATS, and it is back")
}

func (w *world) pauseServer(ctx context.Context, r *rand.Rand, n *rig.NATS, most time.Duration) {
	if syscall.Kill(n.PID(), syscall.SIGSTOP) != nil {
		return
	}
	began := time.Now()
	sleep(ctx, upTo(r, most))
	n.Resume()
	w.tally.add("pause/NATS server", 1)
	w.Logf("NATS %s was paused for %s", n.Name, time.Since(began).Round(time.Millisecond))
}

// swapLedger puts the ledger's files back to what they were at an earlier kill,
// or keeps a copy for a later one. The server is down.
func (w *world) swapLedger(r *rand.Rand, n *rig.NATS) {
	live, old := filepath.Join(n.Dir, "jetstream", "$G", "streams", kvStream), filepath.Join(w.dir, "ledger-copy")
	_, err := os.Stat(old)
	if err != nil || r.IntN(3) == 0 {
		if _, err := os.Stat(live); err != nil {
			return // deleted just now
		}
		w.must(os.RemoveAll(old))
		w.must(os.CopyFS(old, os.DirFS(live)))
		return
	}
	w.must(os.RemoveAll(live))
	w.must(os.CopyFS(live, os.DirFS(old)))
	w.tally.add("ledger/files put back to an old copy", 1)
	w.Logf("the ledger's files were put back")
}

// must ends the world if its own work on files fails.
func (w *world) must(err error) {
	if err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
}

// breakCluster kills the leader of something, or another server, and waits until
// the cluster is whole again: with two of three down it would only stand still.
func (w *world) breakCluster(ctx context.Context, r *rand.Rand) {
	what := []string{"stream", "ledger", "meta", "consumer", "stream", "stream"}[r.IntN(6)]
	name := w.leader(ctx, what)
	if name == "" && what != "stream" {
		what = "stream" // a ledger that was deleted leads nowhere
		name = w.leader(ctx, what)
	}
	var victim *rig.NATS
	for _, n := range w.nats {
		if n.Name == name {
			victim = n
		}
	}
	led := victim != nil
	if !led || r.IntN(10) == 0 {
		led = false
		victim = w.nats[r.IntN(len(w.nats))]
	}
	if r.IntN(8) == 0 {
		for _, n := range w.nats {
			n.Kill()
			w.tally.add("kill -9/NATS server in a cluster, all at once", 1)
		}
		w.Logf("killed all NATS servers")
		sleep(ctx, upTo(r, time.Second))
		for _, n := range w.nats {
			n.Process.Start()
		}
	} else if r.IntN(8) == 0 {
		// Longer than an election: it wakes up believing that it leads.
		w.pauseServer(ctx, r, victim, 12*time.Second)
	} else {
		victim.Kill()
		if led {
			w.tally.add(leaderKills, 1)
			w.tally.add("leader of/"+what, 1)
		} else {
			w.tally.add("kill -9/NATS server in a cluster, not known to lead", 1)
		}
		w.Logf("killed NATS %s, leader of the %s: %t", victim.Name, what, led)
		sleep(ctx, upTo(r, 2*time.Second))
		victim.Process.Start()
	}
	began := time.Now()
	rig.Eventually(w, 2*time.Minute, "the cluster is whole again", func() (bool, string) {
		sleep(w.ctx, 100*time.Millisecond) // every look is logged by the servers
		for _, n := range w.nats {
			if !n.Alive() {
				w.Fatalf("%s ended: %s\n%s", n.Name, n.Ended(), n.LogTail(10))
			}
			if err := healthy(n); err != nil {
				return false, fmt.Sprintf("%s: %v", n.Name, err)
			}
		}
		return w.leader(context.Background(), "stream") != "", "the stream has no leader"
	})
	w.Logf("the cluster is whole again after %s", time.Since(began).Round(time.Millisecond))
}

var monitorClient = &http.Client{Timeout: 2 * time.Second}

func healthy(n *rig.NATS) error {
	resp, err := monitorClient.Get(n.Monitor() + "/healthz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthz says %s", resp.Status)
	}
	return nil
}

// leader is the name of the server that leads, "" if there is none or it is not
// known.
func (w *world) leader(ctx context.Context, what string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	switch what {
	case "meta":
		for _, n := range w.nats {
			resp, err := monitorClient.Get(n.Monitor() + "/jsz")
			if err != nil {
				continue
			}
			var doc struct {
				Meta struct{ Leader string } `json:"meta_cluster"`
			}
			err = json.NewDecoder(resp.Body).Decode(&doc)
			resp.Body.Close()
			if err == nil && doc.Meta.Leader != "" {
				return doc.Meta.Leader
			}
		}
	case "stream", "ledger", "consumer":
		name := rig.StreamName
		if what == "ledger" {
			name = kvStream
		}
		s, err := w.js.Stream(ctx, name)
		if err != nil {
			return ""
		}
		if what == "consumer" {
			list := s.ListConsumers(ctx)
			leader := ""
			for c := range list.Info() {
				if c.Cluster != nil {
					leader = c.Cluster.Leader
				}
			}
			return leader
		}
		if c := s.CachedInfo().Cluster; c != nil {
			return c.Leader
		}
	}
	return ""
}

// killStore kills the store and starts it again.
func (w *world) killStore(ctx context.Context, r *rand.Rand) {
	for sleep(ctx, exponential(r, betweenStoreKills)) {
		func() {
			w.storeBusy.Lock()
			defer w.storeBusy.Unlock()
			if r.IntN(5) == 0 {
				if syscall.Kill(w.store.PID(), syscall.SIGSTOP) == nil {
					sleep(ctx, upTo(r, 3*ossTimeout))
					w.store.Resume()
					w.tally.add("pause/store", 1)
				}
				return
			}
			w.countFaults()
			w.store.Kill()
			w.tally.add("kill -9/store", 1)
			sleep(ctx, upTo(r, time.Second))
			w.store.Start()
			w.plantFaults(r)
			w.Logf("killed the store, and it is back")
		}()
	}
}
