package main

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/service"
)

// What a newer version has written is refused, by name and with what to do, and is
// left as it is: in the ledger and in the control log. (Frames,
// layouts and the redrive log have tests of their own.)
func TestNewerVersionsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.createStream(t)
	url, stop := w.start(t)
	publish(t, w.js, "orders.eu.a")
	eventually(t, "an event is archived", func() bool {
		st, ok := status(url)
		return ok && len(st.Lanes) == 1 && st.Lanes[0].Floor == 1
	})
	if code, stderr := stop(); code != exitGood {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	cfg, err := config.Load(w.config)
	if err != nil {
		t.Fatal(err)
	}
	store, err := service.OpenStore(cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	kv, err := w.js.KeyValue(t.Context(), ledger.BucketPrefix+"test")
	if err != nil {
		t.Fatal(err)
	}
	// raise makes entries of the ledger newer, and returns what puts them back.
	raise := func(prefix string) (back func()) {
		keys, err := kv.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		old := map[string][]byte{}
		for _, k := range keys {
			if !strings.HasPrefix(k, prefix) {
				continue
			}
			e, err := kv.Get(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			old[k] = e.Value()
			if _, err := kv.Put(t.Context(), k, bytes.Replace(e.Value(), []byte(`"v":1`), []byte(`"v":2`), 1)); err != nil {
				t.Fatal(err)
			}
		}
		if len(old) == 0 {
			t.Fatalf("no entry %s in the ledger: %v", prefix, keys)
		}
		return func() {
			for k, v := range old {
				if e, err := kv.Get(t.Context(), k); err != nil || !bytes.Contains(e.Value(), []byte(`"v":2`)) {
					t.Errorf("%s was written over: %v", k, err)
				}
				if _, err := kv.Put(t.Context(), k, v); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// add appends a newer line to a log, which need not exist.
	add := func(key string) {
		at := int64(0)
		if info, err := store.Head(t.Context(), key); err == nil {
			at = info.Length
		}
		line := []byte(`{"v":2,"pos":` + strconv.FormatInt(at, 10) + `,"whatever":true}` + "\n")
		if _, err := store.Append(t.Context(), key, at, object.Body{line}, nil); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string, args ...string) {
		t.Helper()
		_, stderr := wantCode(t, exitUnable, append(args, "--config", w.config)...)
		if message := lastLines(stderr); !strings.Contains(message, want) {
			t.Errorf("%v: no %q in %s", args, want, message)
		}
	}

	back := raise("lane.")
	refused("the ledger was written by a newer version of Ossuary", "run")
	refused("use that version", "status", "--ledger")
	refused("use that version", "ledger", "rebuild", "--force")
	back()
	back = raise("tail.")
	refused("the ledger was written by a newer version of Ossuary", "run")
	back()
	wantCode(t, exitGood, "verify", "--config", w.config)

	add("archive/_ossuary/control/ORDERS.000001.jsonl")
	refused("a line of version 2, this program knows 1; run the newer program", "run")
}
