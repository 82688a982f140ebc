//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/rig"
)

const (
	betweenLedgerFaults = 4 * time.Second
	betweenLayouts      = 15 * time.Second
)

// breakLedger deletes the ledger, and writes old entries over newer ones.
func (w *world) breakLedger(ctx context.Context, r *rand.Rand) {
	var old []map[string][]byte // what the ledger held at some moments
	for sleep(ctx, exponential(r, betweenLedgerFaults)) {
		if r.IntN(3) == 0 {
			if err := w.deleteLedger(ctx); err == nil {
				w.tally.add("ledger/deleted", 1)
				w.Logf("deleted the ledger")
			}
			continue
		}
		entries, err := w.ledger(ctx)
		if err != nil {
			continue
		}
		if len(old) > 0 {
			w.putBack(ctx, r, old[r.IntN(len(old))], entries)
		}
		if len(entries) > 0 {
			old = append(old, entries)
			old = old[max(0, len(old)-5):]
		}
	}
}

func (w *world) deleteLedger(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return w.js.DeleteKeyValue(ctx, rig.LedgerBucket)
}

// ledger is what the ledger holds.
func (w *world) ledger(ctx context.Context) (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	kv, err := w.js.KeyValue(ctx, rig.LedgerBucket)
	if err != nil {
		return nil, err
	}
	watcher, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer watcher.Stop() //nolint:errcheck // the context ends it anyhow
	out := map[string][]byte{}
	for {
		select {
		case e := <-watcher.Updates():
			if e == nil {
				return out, nil
			}
			out[e.Key()] = e.Value()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// putBack writes some or all entries as they once were, and deletes what was not
// there then.
func (w *world) putBack(ctx context.Context, r *rand.Rand, old, now map[string][]byte) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	kv, err := w.js.KeyValue(ctx, rig.LedgerBucket)
	if err != nil {
		return
	}
	all := r.IntN(2) == 0
	n := int64(0)
	for key, value := range old {
		if bytes.Equal(value, now[key]) || !all && r.IntN(3) > 0 {
			continue
		}
		if _, err := kv.Put(ctx, key, value); err != nil {
			return
		}
		n++
	}
	for key := range now {
		if _, was := old[key]; !was && (all || r.IntN(3) == 0) {
			if err := kv.Delete(ctx, key); err != nil {
				return
			}
			n++
		}
	}
	w.tally.add("ledger/entries put back", n)
	w.Logf("put back %d entries of the ledger", n)
}

// routes are those of the rig, with series of their own for each variant.
func routes(variant int) string {
	return strings.ReplaceAll(rig.Routes, `series: "`, `series: "`+variantPrefix(variant))
}

func variantPrefix(variant int) string {
	if variant == 0 {
		return ""
	}
	return fmt.Sprintf("v%d/", variant)
}

// changeLayouts gives all instances other routes, which hold as soon as one is
// started again; those that run on with the old ones have to notice.
func (w *world) changeLayouts(ctx context.Context, r *rand.Rand) {
	for sleep(ctx, exponential(r, betweenLayouts)) {
		func() {
			for _, s := range w.slots {
				s.busy.Lock()
				defer s.busy.Unlock()
			}
			w.variant++
			for _, s := range w.slots {
				s.Configure(w.settings(s))
			}
			w.tally.add("routes changed/in the configurations", 1)
			w.Logf("the routes change to variant %d", w.variant)
			s := w.slots[r.IntN(len(w.slots))]
			if s.Alive() && w.killed(s) {
				s.Process.Start()
			}
		}()
	}
}

// seriesNow says where each event belongs, by the control log and the layouts
// that it names. It returns an error if they do not say.
func (w *world) seriesNow() (func(subject string, headers map[string][]string, ts time.Time, seq uint64) string, error) {
	dir := filepath.Join(w.store.Objects(), "_ossuary")
	b, err := lastControlSegment(filepath.Join(dir, "control"))
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	var state struct {
		Layouts []struct {
			Layout int
			Since  uint64
		}
	}
	if err := json.Unmarshal(lines[len(lines)-1], &state); err != nil {
		return nil, fmt.Errorf("the control log's last line: %w", err)
	}
	prefixes := make([]string, len(state.Layouts))
	for i, l := range state.Layouts {
		text, err := os.ReadFile(filepath.Join(dir, "layout", strconv.Itoa(l.Layout)+".json"))
		if err != nil {
			return nil, err
		}
		if m := variantMark.FindSubmatch(text); m != nil {
			prefixes[i] = string(m[1])
		}
	}
	w.tally.add("routes changed/as layouts that took hold", int64(len(state.Layouts)-1))
	return func(subject string, headers map[string][]string, ts time.Time, seq uint64) string {
		name := rig.SeriesOf(subject, headers, ts)
		if name == "" {
			return ""
		}
		prefix := ""
		for i, l := range state.Layouts {
			if seq >= l.Since {
				prefix = prefixes[i]
			}
		}
		return prefix + name
	}, nil
}

// variantMark finds the variant in a layout's text.
var variantMark = regexp.MustCompile(`"(v\d+/)orders/`)

// lastControlSegment reads the newest segment of the one control log.
func lastControlSegment(dir string) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(dir, rig.StreamName+".*.jsonl"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no control log in %s", dir)
	}
	return os.ReadFile(files[len(files)-1]) // Glob sorts, and the numbers have six digits
}
