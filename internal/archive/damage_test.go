package archive

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// Every byte of every object counts: flipped, it must be noticed. The
// store computes its CRC anew, as a downloaded copy would, so only the format's
// own checks can tell.
func TestEveryByte(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			b := newBuilder(t, codec)
			eu := b.open("orders/eu")
			eu.put(1, 2).put(3)
			eu.seal().put(4, 5)
			b.tally(5, 5, 0)
			wantOK(t, verify(t, b.options()))
			for _, key := range b.st.Keys() {
				if strings.Contains(key, controlDir) {
					continue // its lines are no hashes of anything; see TestControlLogBytes
				}
				// Every tenth from somewhere on; all of them if asked for.
				step, first := 10, rand.IntN(10)
				if os.Getenv("OSSUARY_LONG") != "" {
					step, first = 1, 0
				}
				for at := first; at < len(b.st.Bytes(key)); at += step {
					c := *b
					c.st = b.st.Clone()
					c.st.Flip(key, int64(at))
					opt := c.options()
					opt.Ledger = nil
					if r := verify(t, opt); r.Result != Damaged {
						t.Errorf("%s: byte %d flipped, not noticed", key, at)
					}
				}
			}
		})
	}
}

// A flipped byte in the control log never makes a whole archive of a damaged
// one; where it matters it is noticed.
func TestControlLogBytes(t *testing.T) {
	b := newBuilder(t, event.Gzip)
	b.open("orders/eu").put(1, 2)
	b.tally(3, 3, 0)
	if r := verify(t, b.options()); r.Missing != 1 {
		t.Fatal(dump(r))
	}
	p := b.st.Bytes(b.controlKey())
	floor := strings.LastIndex(string(p), `"floor":3`)
	for at := range p {
		if string(p[at:at+1]) != "\n" && (at < floor-60 || at > floor+60) {
			c := *b
			c.st = b.st.Clone()
			c.st.Flip(b.controlKey(), int64(at))
			opt := c.options()
			if r := verify(t, opt); r.Result != Damaged {
				t.Errorf("byte %d flipped: an archive with a missing event is called ok", at)
			}
		}
	}
}

// Whatever is done to the objects, verify neither fails nor calls an archive
// whole from which an event is gone: what it says ok of holds every event.
func TestRandomDamage(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		codec := rapid.SampledFrom(codecs).Draw(rt, "codec")
		b := standard(t, codec)
		opt := b.options()
		if rapid.Bool().Draw(rt, "without ledger") {
			opt.Ledger = nil
		}
		keys := slices.DeleteFunc(b.st.Keys(), func(k string) bool { return strings.Contains(k, "_ossuary/control/") })
		for range rapid.IntRange(1, 3).Draw(rt, "hits") {
			key := rapid.SampledFrom(keys).Draw(rt, "key")
			p := b.st.Bytes(key)
			if p == nil {
				continue
			}
			at := rapid.IntRange(0, len(p)).Draw(rt, "at")
			n := rapid.IntRange(0, len(p)-at).Draw(rt, "n")
			switch rapid.SampledFrom([]string{"cut", "remove", "double", "overwrite", "insert", "delete", "copy", "append"}).Draw(rt, "how") {
			case "cut":
				b.st.Truncate(key, int64(at))
			case "remove":
				b.st.Replace(key, append(p[:at:at], p[at+n:]...))
			case "double":
				b.st.Replace(key, append(p[:at+n:at+n], p[at:]...))
			case "overwrite":
				b.st.Replace(key, append(append(p[:at:at], make([]byte, n)...), p[at+n:]...))
			case "insert":
				b.st.Replace(key, append(append(p[:at:at], rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, "bytes")...), p[at:]...))
			case "delete":
				b.st.Delete(key)
			case "copy":
				b.st.Replace(key, b.st.Bytes(rapid.SampledFrom(keys).Draw(rt, "from")))
			case "append":
				b.st.AppendRaw(key, rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, "bytes"))
			}
		}
		r, err := Verify(context.Background(), opt)
		if err != nil {
			rt.Fatal(err)
		}
		if r.Result != OK {
			return
		}
		// Then every event is there, or a front segment is gone and said to be.
		got := map[uint64]int{}
		for _, dead := range []bool{false, true} {
			for rec, err := range (&Reader{Store: b.st, Prefix: b.prefix, Archive: "arch"}).Cat(context.Background(), Selection{Dead: dead}) {
				if err != nil {
					rt.Fatalf("ok, but cat says %v", err)
				}
				got[rec.Sequence]++
			}
		}
		for q := uint64(1); q <= 60; q++ {
			if got[q] > 1 || got[q] == 0 && q != 50 && !told(r.Notes, "cannot be proven") {
				rt.Fatalf("ok, but sequence %d is there %d times:\n%s", q, got[q], dump(r))
			}
		}
	})
}

// while is a store in which something happens before each operation.
type while struct {
	store
	do func()
}

func (s while) Head(ctx context.Context, key string) (object.Info, error) {
	s.do()
	return s.store.Head(ctx, key)
}

func (s while) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	s.do()
	return s.store.Read(ctx, key, from, to)
}

func (s while) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	s.do()
	return s.store.List(ctx, prefix, fn)
}

// An archive that is being written verifies clean at any moment.
func TestWhileWriting(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := standard(t, rapid.SampledFrom(codecs).Draw(rt, "codec"))
		next, incarnated := uint64(60), false
		layout := 1
		write := func() {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0, 1, 2, 3:
				next++
				b.open(rapid.SampledFrom([]string{"orders/eu", "orders/us", "orders/new"}).Draw(rt, "series")).put(next)
			case 4:
				w := b.open(rapid.SampledFrom([]string{"orders/eu", "orders/us"}).Draw(rt, "sealed"))
				if w.pos > 0 {
					w.seal()
				}
			case 5:
				b.tally(next, next, 1)
			case 6:
				layout++
				b.layout.MaxEvent = 1<<20 + layout
				b.saveLayout(layout)
				b.tally(next, next, 1)
				b.say(func(s *control.State) { s.Layouts = append(s.Layouts, control.Since{Layout: layout, Since: next + 1}) })
			case 7:
				if incarnated {
					return
				}
				w := b.open("orders/eu")
				at := w.pos
				b.st.AppendRaw(w.key, []byte("garbage"))
				w.breakOff(at)
				incarnated = true
			}
		}
		opt := b.options()
		opt.Parallel = 1
		opt.Ledger = lateLedger{b}
		opt.Store = while{b.st, write}
		r, err := Verify(context.Background(), opt)
		if err != nil {
			rt.Fatal(err)
		}
		if r.Result != OK {
			rt.Fatalf("%s", dump(r))
		}
	})
}

// lateLedger is the builder's ledger as of the moment in which it is read.
type lateLedger struct{ b *builder }

func (l lateLedger) All(ctx context.Context) ([]ledger.Entry, error) { return l.b.ledger().All(ctx) }

// A connection that breaks is taken up where it broke. One that is closed at
// once says EOF, and that is not the end of the object.
func TestBrokenConnections(t *testing.T) {
	b := standard(t, event.Gzip)
	n := 0
	b.st.Fault = func(op, key string, _ int) (f objecttest.Fault) {
		if op == "read" {
			switch n++; n % 4 {
			case 1:
				f.Cut = 100
			case 3:
				f.Before = &object.Error{Err: fmt.Errorf("asking: %w", io.EOF)}
			}
		}
		return f
	}
	wantOK(t, verify(t, b.options()))
}

// A question whose answer was lost is asked again: a timeout is no damage.
func TestLostAnswers(t *testing.T) {
	b := standard(t, event.Gzip)
	asked := map[string]int{}
	var mu sync.Mutex
	b.st.Fault = func(op, key string, _ int) (f objecttest.Fault) {
		mu.Lock()
		defer mu.Unlock()
		if asked[op+key]++; op == "head" && asked[op+key] == 1 {
			f.After = &object.Error{Err: context.DeadlineExceeded}
		}
		return f
	}
	wantOK(t, verify(t, b.options()))
}

func TestUnreadable(t *testing.T) {
	b := standard(t, event.Gzip)
	b.st.Fault = func(op, key string, _ int) (f objecttest.Fault) {
		if op == "read" && strings.Contains(key, "orders/us.000002") {
			f.Before = &object.Error{Kind: object.Refused, Status: 403, Code: "InvalidObjectState"}
		}
		return f
	}
	wantDamage(t, verify(t, b.options()), "cannot be read from here on", "missing")
}

func TestCancel(t *testing.T) {
	b := standard(t, event.Gzip)
	ctx, cancel := context.WithCancel(context.Background())
	opt := b.options()
	opt.Store = while{b.st, cancel}
	if r, err := Verify(ctx, opt); err == nil {
		t.Fatalf("a cancelled run reports %s", dump(r))
	}
}

// A copy under another prefix, without configuration, ledger or server.
func TestMovedCopy(t *testing.T) {
	b := standard(t, event.Zstd)
	dir := t.TempDir()
	for _, k := range b.st.Keys() {
		writeFile(t, dir, "elsewhere/"+strings.TrimPrefix(k, b.prefix), b.st.Bytes(k))
	}
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := verify(t, Options{Prefix: "elsewhere/", Store: d})
	wantOK(t, r)
	if r.Events != 57 || len(r.Notes) != 0 {
		t.Fatal(dump(r))
	}
	n := 0
	for _, err := range (&Reader{Store: d, Prefix: "elsewhere/"}).Cat(context.Background(), Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 57 {
		t.Fatal(n)
	}
	if _, err := d.Head(context.Background(), "../etc/passwd"); err == nil {
		t.Error("left the directory")
	}
	if _, err := d.Head(context.Background(), "elsewhere/none"); object.KindOf(err) != object.NotFound {
		t.Errorf("%v", err)
	}
}

func writeFile(t *testing.T, dir, name string, p []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, p, 0o644); err != nil {
		t.Fatal(err)
	}
}
