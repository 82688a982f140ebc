//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ossuary/e2e/reader"
	"ossuary/e2e/rig"
)

func TestMain(m *testing.M) {
	rig.BeNATS()
	os.Exit(m.Run())
}

// A proof that finds nothing in a damaged archive proves nothing. Real worlds, in
// which a frame is lost, and one stands twice, behind the archive's back.
func TestDamageIsFound(t *testing.T) {
	program := filepath.Join(t.TempDir(), "consumer")
	if err := rig.Build("ossuary/cmd/consumer", program, false); err != nil {
		t.Fatal(err)
	}
	// The last frame of a series whose segments are plain text.
	damage := func(t *testing.T, change func(before, frame []byte) []byte) func(string) {
		return func(dir string) {
			files, err := filepath.Glob(filepath.Join(dir, "blobs", "eu", "none.*.ndjson"))
			if err != nil || len(files) == 0 {
				t.Errorf("nothing to damage: %v", err)
				return
			}
			for _, file := range files {
				b, err := os.ReadFile(file)
				at := bytes.LastIndex(b, []byte(`{"_ossuary":{"content":{"v":1,"kind":"data"`))
				if err != nil || at < 0 {
					continue
				}
				end := len(b)
				for _, behind := range []string{"\n{\"_ossuary\":", "\n{\"_ossuary_"} {
					if i := bytes.Index(b[at+1:], []byte(behind)); i >= 0 {
						end = min(end, at+1+i+1)
					}
				}
				b = append(change(b[:at:at], b[at:end:end]), b[end:]...)
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Error(err)
				}
				return
			}
			t.Error("no frame to damage")
		}
	}
	for _, c := range []struct {
		name   string
		change func(before, frame []byte) []byte
		counts []string // that must not be 0
	}{
		{"none", func(before, frame []byte) []byte { return append(before, frame...) }, nil},
		{"a frame is gone", func(before, _ []byte) []byte { return before }, []string{lost}},
		{"a frame stands twice", func(before, frame []byte) []byte { return append(append(before, frame...), frame...) }, []string{doubled, outOfOrder}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var said []string
			w := &world{
				plan: plan{seed: 1, nodes: 1, instances: 1, lease: true, does: map[string]bool{}, rate: 1000, chaos: 2 * time.Second},
				dir:  t.TempDir(), program: program, tally: newTally(), tamper: damage(t, c.change),
				trial: newTrial(t.Context(), io.Discard, func(s string) { said = append(said, s) }),
			}
			w.run(w.live)
			if w.tally.get(archived) == 0 || w.tally.get(published) == 0 {
				t.Fatalf("nothing was archived: %v", said)
			}
			if w.Failed() != (len(c.counts) > 0) {
				t.Fatalf("wrong: %t: %v", w.Failed(), said)
			}
			wrong := int64(0)
			for name, n := range w.tally.all() {
				if strings.HasPrefix(name, "wrong/") {
					wrong += n
				}
			}
			if c.counts == nil && wrong > 0 {
				t.Errorf("%v", w.tally.all())
			}
			for _, name := range append(c.counts, "wrong/worlds in which verify found something") {
				if c.counts != nil && w.tally.get(name) == 0 {
					t.Errorf("%s is 0: %v", name, said)
				}
			}
		})
	}
}

// What the stream itself has lost is no loss of the archive, and what was
// archived before is no event too many; but only once.
func TestLostByTheStream(t *testing.T) {
	sum := func(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }
	want := map[uint64]reader.Expected{
		1: {Series: "a", Subject: "s", Payload: sum("one")},
		2: {Series: "a", Subject: "s", Payload: sum("two again")},
	}
	gone := map[version]bool{}
	notHeld(gone, want, map[uint64]rig.Entry{
		1: {Subject: "s", Payload: sum("one")},
		2: {Subject: "s", Payload: sum("two again")},
		3: {Subject: "s", Payload: sum("three")},
	}, []rig.Clash{{Sequence: 2, A: rig.Entry{Subject: "s", Payload: sum("two")}, B: rig.Entry{Subject: "s", Payload: sum("two again")}}})
	if len(gone) != 2 || !gone[version{2, sum("two")}] || !gone[version{3, sum("three")}] {
		t.Fatalf("gone: %v", gone)
	}
	line := func(seq uint64, payload string) reader.Line {
		return reader.Line{Seq: seq, Subject: "s", Payload: sum(payload)}
	}
	a := &reader.Archive{Series: map[string][]reader.Line{"a": {
		line(1, "one"), line(2, "two"), line(3, "three"), line(3, "three"), line(2, "two again"),
	}}}
	if n := takeOutLost(a, gone); n != 2 {
		t.Errorf("%d were taken out", n)
	}
	if d := a.Compare(want); d.Unknown != 1 || d.Missing != 0 || d.Twice != 0 || d.Order != 1 {
		t.Errorf("%+v", d)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"-mix kills,zombies", ""},
		{"-mix all,-cluster -until kills=3,zombies=0", ""},
		{"-mix -cluster", ""},
		{"-mix kill", `there is no "kill"`},
		{"-mix -cluster -until leaders=1", "leaves out cluster"},
		{"-until kills", "say kills=N"},
		{"-until deaths=1", "say kills=N"},
		{"-rate 0", "must be positive"},
		{"now", "is no flag"},
	} {
		_, err := parse(strings.Fields(c.args))
		if said := fmt.Sprint(err); (err == nil) != (c.says == "") || c.says != "" && !strings.Contains(said, c.says) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	o, err := parse(strings.Fields("-mix -cluster,-rivals"))
	if err != nil || o.mix[mixCluster] || o.mix[mixRivals] || len(o.mix) != len(allMixes)-2 {
		t.Errorf("%v %v", o, err)
	}
}

// A seed means the same whatever else is left out, and worlds alternate between
// one server and three.
func TestPlans(t *testing.T) {
	all, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	some, err := parse([]string{"-mix", "-cluster,-rivals,-store"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	const worlds = 400
	for n := range worlds {
		seed := worldSeed(7, n)
		p, q := newPlan(all, seed, time.Minute), newPlan(some, seed, time.Minute)
		if p.nodes != 1+2*(n%2) {
			t.Fatalf("world %d has %d servers", n, p.nodes)
		}
		for _, m := range allMixes {
			if p.does[m] {
				seen[m]++
			}
			if some.mix[m] && p.does[m] != q.does[m] {
				t.Fatalf("world %d: %s hangs on what else is done", n, m)
			}
			if !some.mix[m] && q.does[m] {
				t.Fatalf("world %d: %s is done, and was left out", n, m)
			}
		}
		if again := newPlan(all, seed, time.Minute); again.String() != p.String() || again.fury != p.fury {
			t.Fatalf("world %d: %s, and again %s", n, p, again)
		}
	}
	for _, m := range allMixes {
		if seen[m] == 0 {
			t.Errorf("%s is never done", m)
		}
	}
	for _, m := range []string{mixKills, mixZombies, mixNATS} {
		if seen[m] != worlds {
			t.Errorf("%s is done in %d of %d worlds", m, seen[m], worlds)
		}
	}
}
