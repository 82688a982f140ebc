//go:build unix

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"ossuary/e2e/reader"
	"ossuary/e2e/rig"
)

const regionRoutes = `      - name: regions
        subjects: ["ev.*.>"]
        series: "regions/{{wildcard(1)}}"
        flush: {events: 100, linger: 20ms}
`

const kindRoutes = `      - name: kinds
        subjects: ["ev.*.>"]
        series: "kinds/{{token(3)}}/{{token(4)}}"
        codec: zstd
        flush: {events: 100, linger: 20ms}
`

func mixed(text string) func(int) *nats.Msg {
	return func(i int) *nats.Msg {
		m := nats.NewMsg(fmt.Sprintf("ev.%s.%s.%d", []string{"eu", "us"}[i%2], []string{"order", "audit", "note"}[i%3], i%2))
		m.Data = fmt.Appendf(nil, `{"i":%d,"text":%q}`, i, text)
		return m
	}
}

// The routes change while the old writer is paused, with events in its hands. It
// wakes up into an archive that has gone on by the new routes, finds each of its
// events where the layout of the sequence wants it, once, and ends with a message
// that says why.
func TestRoutesChangeUnderPausedWriter(t *testing.T) {
	t.Parallel()
	for _, noLease := range []bool{false, true} {
		t.Run(fmt.Sprintf("lease disabled=%t", noLease), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			old := w.instance("old", settings{routes: regionRoutes, leaseDisabled: noLease})
			n := sized(t, size{events: 1500}, size{events: 10000}, size{events: 50000}).events
			old.Start()
			w.put(n, mixed("before"))
			old.WaitFloor(uint64(n))
			// It shall fall asleep with events in flight: the store holds its
			// appends back.
			w.storeProxy.Freeze()
			w.put(n/2, mixed("in flight"))
			old.WaitFor("events in its hands", func(s rig.Status) bool { return s.Open >= 100 })
			old.Pause()
			w.storeProxy.Thaw()

			next := w.instance("new", settings{routes: kindRoutes, leaseDisabled: noLease})
			next.Start()
			w.put(n, mixed("after"))
			next.WaitFor("the new routes hold", func(s rig.Status) bool { return s.Floor >= uint64(n+n/2) })
			old.Resume()
			// Enough events that the old writer's horizon cannot cover them.
			limit := time.Now().Add(patience)
			total := 2*n + n/2
			for old.Alive() && time.Now().Before(limit) {
				w.put(500, mixed("until the old writer notices"))
				total += 500
			}
			if code := old.Wait(patience); code != 2 {
				t.Errorf("the old writer ended with code %d", code)
			}
			if tail := old.LogTail(1); !strings.HasPrefix(tail, "consumer: ") || !strings.Contains(tail, "another instance switched this archive to layout 2") ||
				!strings.Contains(tail, "give this instance the newer configuration") {
				t.Errorf("the old writer's last words: %s", tail)
			}
			s := w.control(rig.StreamName)
			if len(s.Layouts) != 2 {
				t.Fatalf("layouts: %+v", s.Layouts)
			}
			since := s.Layouts[1].Since
			if short := int(since) + 500 - total; short > 0 {
				w.put(short, mixed("beyond the switch"))
				total += short
			}
			next.WaitFloor(uint64(total))
			next.Stop()
			t.Logf("layout 2 holds since sequence %d of %d", since, total)
			if since <= uint64(n) || since > uint64(total) {
				t.Errorf("layout 2 holds since %d", since)
			}
			want := w.messages(rig.StreamName, func(subject string, seq uint64) string {
				part := strings.Split(subject, ".")
				if seq < since {
					return "regions/" + part[1]
				}
				return "kinds/" + part[2] + "/" + part[3]
			})
			w.same("by the layouts", w.read(w.objects()), want)
			next.clean(total)
		})
	}
}

// Between two runs the codec changes, the ledger is deleted and so is the first
// segment of a series, as by a lifecycle rule. The series go on behind their
// highest segments, and nothing is archived again.
func TestCodecChangeWithoutLedgerAndFirstSegment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sectors := func(codec string) string {
		return fmt.Sprintf(`      - name: kinds
        subjects: ["ev.*.>"]
        series: "kinds/{{token(3)}}"
        codec: %s
        flush: {size: 4KiB, linger: 20ms}
        roll: {size: 4KiB}
`, codec)
	}
	series := func(subject string, _ uint64) string { return "kinds/" + strings.Split(subject, ".")[2] }
	n := sized(t, size{events: 2000}, size{events: 10000}, size{events: 50000}).events
	a := w.instance("a", settings{routes: sectors("gzip")})
	a.Start()
	w.put(n, mixed("gzip"))
	a.WaitFloor(uint64(n))
	a.Stop()
	before := a.clean(n)

	w.deleteLedger()
	const gone = "kinds/order.000001.ndjson.gz"
	lost := rig.Must(reader.ReadSegment(filepath.Join(w.objects(), filepath.FromSlash(gone)), "ndjson.gz"))
	if err := os.Remove(filepath.Join(w.objects(), filepath.FromSlash(gone))); err != nil {
		t.Fatal(err)
	}
	highest := map[string]string{}
	for _, s := range []string{"order", "audit", "note"} {
		found := rig.Must(fs.Glob(os.DirFS(w.objects()), "kinds/"+s+".*.ndjson.gz"))
		if len(found) < 3 {
			t.Fatalf("%s has too few segments: %v", s, found)
		}
		highest[s] = found[len(found)-1]
	}

	b := w.instance("b", settings{routes: sectors("zstd")})
	b.Start()
	w.put(n, mixed("zstd"))
	b.WaitFloor(uint64(2 * n))
	b.Stop()
	for s, key := range highest {
		var number int
		fmt.Sscanf(strings.TrimPrefix(key, "kinds/"+s+"."), "%d", &number)
		next := fmt.Sprintf("kinds/%s.%06d.ndjson.zst", s, number+1)
		if _, err := os.Stat(filepath.Join(w.objects(), filepath.FromSlash(next))); err != nil {
			t.Errorf("%s does not go on behind its highest segment: %v", s, err)
		}
	}
	if again := rig.Must(fs.Glob(os.DirFS(w.objects()), "kinds/order.000001.*")); len(again) > 0 {
		t.Errorf("the deleted segment was made again: %v", again)
	}
	want := w.messages(rig.StreamName, series)
	for _, l := range lost {
		delete(want, l.Seq)
	}
	r := b.clean(2*n - len(lost))
	if !says(r.Notes, rig.KeyPrefix+strings.Replace(gone, "000001", "000002", 1), "the segments before it were removed") {
		t.Errorf("verify does not tell what was removed: %+v", r.Notes)
	}
	if r.Segments <= before.Segments {
		t.Errorf("%d segments after %d", r.Segments, before.Segments)
	}
	dir := t.TempDir()
	copyTree(t, dir, w.objects(), nil)
	var empty bytes.Buffer // the reader wants to see a first segment
	gzip.NewWriter(&empty).Close()
	if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(gone)), empty.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	w.same("without the deleted segment", w.read(dir), want)
}
