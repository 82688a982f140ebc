package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// An archive begins without shards, gets them, gets others and loses them again:
// each time from a sequence on. All commands agree on where things are, and take
// names of series without their shards.
func TestShards(t *testing.T) {
	w := newWorld(t)
	s := w.createStream(t)
	const each = 60
	total := 0
	for _, digits := range []int{0, 2, 4, 0} {
		w.change = map[string]string{"  prefix: archive/\n": fmt.Sprintf("  prefix: archive/\n  shard_prefix: %d\n", digits)}
		url, stop := w.start(t)
		for i := range each {
			publish(t, w.js, fmt.Sprintf("orders.%s.paid", []string{"eu", "us", "cn"}[i%3]))
			total++
		}
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the floor at the stream's end", func() bool {
			st, ok := status(url)
			return ok && len(st.Lanes) == 1 && st.Lanes[0].Floor == info.State.LastSeq
		})
		if code, stderr := stop(); code != exitGood {
			t.Fatalf("%d digits: exit %d\n%s", digits, code, stderr)
		}
		if digits == 2 {
			stdout, _ := wantCode(t, exitGood, "route", "orders.eu.paid", "--config", w.config)
			if !regexp.MustCompile(`[0-9a-f]{2}/orders/eu/\d{4}-\d{2}`).MatchString(stdout) {
				t.Errorf("route says %s", stdout)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(w.store, "bucket/archive/*/orders/*/*.ndjson.gz"))
	if err != nil || len(files) != 6 { // three series, with two and with four digits
		t.Errorf("%v, %v", files, err)
	}
	if r := verified(t, exitGood, "--config", w.config); r.Events != uint64(total) || r.Duplicates+r.Missing > 0 || len(r.Problems) > 0 {
		t.Errorf("verify: %+v", r)
	}
	for _, series := range []string{"orders/eu/", "orders/eu/*"} {
		stdout, _ := wantCode(t, exitGood, "cat", "--series", series, "--config", w.config)
		if n := strings.Count(stdout, "\n"); n != total/3 || strings.Contains(stdout, "orders.us") {
			t.Errorf("cat --series %s prints %d events, want %d", series, n, total/3)
		}
	}
	// With its shard a series is named alone.
	rel, err := filepath.Rel(filepath.Join(w.store, "bucket/archive"), files[0])
	if err != nil {
		t.Fatal(err)
	}
	full, _, _ := strings.Cut(filepath.ToSlash(rel), ".")
	if stdout, _ := wantCode(t, exitGood, "cat", "--series", full, "--config", w.config); strings.Count(stdout, "\n") != each/3 {
		t.Errorf("cat --series %s prints %s", full, stdout)
	}
	_, bare, _ := strings.Cut(full, "/")
	stdout, _ := wantCode(t, exitGood, "ledger", "show", bare, "--config", w.config)
	if n := strings.Count(stdout, `"series"`); n != 3 { // without, with two and with four digits
		t.Errorf("ledger show %s prints %d entries: %s", bare, n, stdout)
	}
	t.Run("copy", func(t *testing.T) {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(filepath.Join(w.store, "bucket"))); err != nil {
			t.Fatal(err)
		}
		stdout, _ := wantCode(t, exitGood, "cat", "--series", "orders/us", "--dir", copied, "--prefix", "archive/")
		if n := strings.Count(stdout, "\n"); n != total/3 {
			t.Errorf("cat of a copy prints %d events", n)
		}
	})
	t.Run("ledger", func(t *testing.T) { ledgerCommands(t, w) })
}
