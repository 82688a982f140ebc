//go:build unix

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/reader"
	"ossuary/e2e/rig"
)

const plainRoutes = `      - name: all
        subjects: ["ev.>"]
        series: "all/{{token(3)}}"
        flush: {size: 16KiB, events: 200, linger: 30ms}
        roll: {size: 32KiB}
`

func plainSeries(subject string, _ uint64) string { return "all/" + strings.Split(subject, ".")[2] }

// lives compares an archive of two lives of the stream, the second of which began
// at a time.
func (w *world) lives(began time.Time, first, second map[uint64]reader.Expected) {
	w.t.Helper()
	a := w.read(w.objects())
	early := func(l reader.Line) bool { return l.Time.Before(began) }
	w.same("first life", only(a, early), first)
	w.same("second life", only(a, func(l reader.Line) bool { return !early(l) }), second)
	for name, lines := range a.Series {
		for i := 1; i < len(lines); i++ {
			if early(lines[i]) && !early(lines[i-1]) {
				w.t.Errorf("%s: %d of the first life stands behind one of the second", name, lines[i].Seq)
			}
		}
	}
}

// A stream that was deleted and made again hands out its sequences anew. All
// events of both lives are archived, whether the archive runs meanwhile or not.
func TestRecreatedStream(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running=%t", running), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.instance("a", settings{routes: plainRoutes})
			n := sized(t, size{events: 1500}, size{events: 10000}, size{events: 50000}).events
			a.Start()
			w.put(n, numbered("ev.x", "first life", 3))
			first := w.messages(rig.StreamName, plainSeries)
			a.WaitFloor(uint64(n))
			if !running {
				a.Stop()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := w.js.DeleteStream(ctx, rig.StreamName); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			w.createStream(jetstream.StreamConfig{Name: rig.StreamName, Subjects: []string{"ev.>"}})
			w.put(n/2, numbered("ev.x", "second life", 3))
			second := w.messages(rig.StreamName, plainSeries)
			if !running {
				a.Start()
			}
			a.waitLife(1, uint64(n/2))
			if !strings.Contains(a.LogText(), "a new incarnation begins, and nothing is dropped") {
				t.Error("the log does not tell")
			}
			a.clean(len(first) + len(second))
			a.Stop()
			a.clean(len(first) + len(second))
			w.lives(began, first, second)
			if s := w.control(rig.StreamName); s.Stream.Incarnation != 1 {
				t.Errorf("the control log is in incarnation %d", s.Stream.Incarnation)
			}
		})
	}
}

// A server whose store was put back to an older copy hands out sequences anew,
// under the same creation time. What the copy still had is recognised; all else,
// of before and after, is archived.
func TestRewoundStream(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		part    string // of the server's directory that is put back
		running bool   // the archive runs meanwhile
		more    bool   // more events follow than were undone
	}{
		{"stream only, fewer events", "jetstream/$G/streams/" + rig.StreamName, true, false},
		{"stream only, more events", "jetstream/$G/streams/" + rig.StreamName, true, true},
		{"ledger too, fewer events", "jetstream", false, false},
		{"ledger too, more events", "jetstream", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.instance("a", settings{routes: plainRoutes})
			n := sized(t, size{events: 900}, size{events: 6000}, size{events: 30000}).events
			a.Start()
			w.put(n, numbered("ev.x", "kept", 3))
			a.WaitFloor(uint64(n))

			live, saved := filepath.Join(w.dir, "nats", filepath.FromSlash(c.part)), filepath.Join(w.dir, "copy")
			w.nats.Kill()
			copyTree(t, saved, live, nil)
			w.nats.Start()
			w.reconnected()
			w.put(n/3, numbered("ev.x", "undone", 3))
			first := w.messages(rig.StreamName, plainSeries)
			a.WaitFloor(uint64(n + n/3))
			if !c.running {
				a.Stop()
			}

			w.nats.Kill()
			if err := os.RemoveAll(live); err != nil {
				t.Fatal(err)
			}
			copyTree(t, live, saved, nil)
			w.nats.Start()
			w.reconnected()
			if got := w.stream(rig.StreamName).CachedInfo().State.LastSeq; got != uint64(n) {
				t.Fatalf("the stream was put back to %d, not %d", got, n)
			}
			began := time.Now()
			last := n + n/6
			if c.more {
				last = n + n
			}
			w.put(last-n, numbered("ev.x", "after", 3))
			second := w.messages(rig.StreamName, plainSeries)
			for seq := range second {
				if seq <= uint64(n) {
					delete(second, seq) // the same messages as in the first life
				}
			}
			if !c.running {
				a.Start()
			}
			a.waitLife(1, uint64(last))
			a.Stop()
			r := a.clean(len(first) + len(second))
			if !says(r.Notes, "", "the stream was rewound") {
				t.Errorf("verify does not tell that the stream was rewound: %+v", r.Notes)
			}
			w.lives(began, first, second)
		})
	}
}

// waitLife waits for the floor in an incarnation.
func (i *instance) waitLife(incarnation int, floor uint64) {
	i.t.Helper()
	i.waitLanes(fmt.Sprintf("incarnation %d, floor %d", incarnation, floor), func(lanes map[string]rig.Status) bool {
		l := lanes[rig.StreamName]
		return l.Incarnation == incarnation && l.Floor == floor
	})
}

// reconnected waits until the test's own connection is back.
func (w *world) reconnected() {
	w.t.Helper()
	rig.Eventually(w.t, patience, "the test is connected again", func() (bool, string) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		defer cancel()
		_, err := w.js.AccountInfo(ctx)
		return err == nil, fmt.Sprint(err)
	})
}
