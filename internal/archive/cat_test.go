package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
)

// collect is the sequences that a selection yields, in order.
func collect(t testing.TB, b *builder, sel Selection) (seqs []uint64) {
	t.Helper()
	for r, err := range (&Reader{Store: b.st, Prefix: b.prefix, Archive: "arch"}).Cat(context.Background(), sel) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, r.Sequence)
	}
	return seqs
}

func TestCat(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			b := standard(t, codec)
			for _, tc := range []struct {
				name string
				sel  Selection
				want string
			}{
				{"range", Selection{From: 12, To: 24}, "13 15 17 19 21 23 12 14 16 18 20 22 24"},
				{"subject", Selection{Subjects: []string{"orders.us"}, To: 8}, "2 4 6 8"},
				{"subjects", Selection{Subjects: []string{"orders.us", "*.eu"}, To: 4}, "1 3 2 4"},
				{"no such subject", Selection{Subjects: []string{"none.>"}}, ""},
				{"series prefix", Selection{Series: "orders/e", To: 5}, "1 3 5"},
				{"series glob", Selection{Series: "*/u?", To: 5}, "2 4"},
				{"time", Selection{Since: timeOf(10), Until: timeOf(14)}, "11 13 10 12"},
				{"dead", Selection{Dead: true}, "35 36"},
				{"dead by name", Selection{Series: "_ossuary/dead/ORDERS/0"}, "35 36"},
				{"tail", Selection{Tail: 4}, "57 58 59 60"},
				{"tail of a series", Selection{Series: "orders/eu", Tail: 3}, "55 57 59"},
				{"tail of a range", Selection{To: 20, Tail: 3}, "18 19 20"},
			} {
				got := strings.Trim(fmt.Sprint(collect(t, b, tc.sel)), "[]")
				if got != tc.want {
					t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
				}
			}
			if err := (&Selection{Subjects: []string{"a..b"}}).Check(); err == nil {
				t.Error("a bad filter was taken")
			}
		})
	}
}

func TestCatForms(t *testing.T) {
	b := standard(t, event.Gzip)
	w := b.open("raw/x")
	w.ext = event.Ext(event.Raw, b.codec)
	w.key = event.Key(b.prefix, w.name, 1, w.ext)
	w.put(61)
	var got []string
	for _, form := range []Form{AsEnvelope, AsPayload, AsLine} {
		for r, err := range (&Reader{Store: b.st, Prefix: b.prefix}).Cat(context.Background(), Selection{From: 60}) {
			if err != nil {
				t.Fatal(err)
			}
			p, err := AppendRecord(nil, form, r)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(p))
		}
	}
	line := `{"seq":60,"ts":"2026-11-22T10:00:00.06Z","subject":"orders.us","headers":{"K":["v"]},"data":{"n":60}}` + "\n"
	want := []string{line, `{"seq":61,"text":"{\"n\":61}"}` + "\n", `{"n":60}` + "\n", `{"n":61}` + "\n", line, `{"n":61}` + "\n"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Whatever is selected, seeking yields what a plain reading of all would.
func TestCatSeeks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBuilder(t, rapid.SampledFrom(codecs).Draw(rt, "codec"))
		w := b.open("orders/eu")
		seq := uint64(0)
		var all []*event.Event
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				if w.pos > 0 {
					w.seal()
				}
			case 1:
				if rapid.IntRange(0, 6).Draw(rt, "rewind") == 0 {
					b.stream.Incarnation++
					seq = 0
				}
			default:
				var evs []*event.Event
				for range rapid.IntRange(1, 4).Draw(rt, "n") {
					seq += uint64(rapid.IntRange(1, 3).Draw(rt, "gap"))
					e := makeEvent(w.name, seq)
					e.Time = e.Time.Add(time.Duration(b.stream.Incarnation) * time.Hour)
					evs = append(evs, e)
				}
				w.events(evs...)
				all = append(all, evs...)
			}
		}
		if len(all) == 0 {
			return
		}
		sel := Selection{From: rapid.Uint64Range(0, 40).Draw(rt, "from"), To: rapid.Uint64Range(0, 60).Draw(rt, "to")}
		if rapid.Bool().Draw(rt, "since") {
			sel.Since = timeOf(rapid.Uint64Range(0, 40).Draw(rt, "since at"))
		}
		if rapid.Bool().Draw(rt, "until") {
			sel.Until = timeOf(rapid.Uint64Range(0, 60).Draw(rt, "until at"))
		}
		var want []uint64
		for _, e := range all {
			if e.Sequence >= sel.From && (sel.To == 0 || e.Sequence <= sel.To) && !e.Time.Before(sel.Since) && (sel.Until.IsZero() || e.Time.Before(sel.Until)) {
				want = append(want, e.Sequence)
			}
		}
		if got := collect(t, b, sel); !slices.Equal(got, want) {
			rt.Fatalf("%+v: got %v, want %v", sel, got, want)
		}
	})
}

// Seeking means not to read what is not wanted.
func TestCatReadsLittle(t *testing.T) {
	b := newBuilder(t, event.Gzip)
	w := b.open("orders/eu")
	for q := uint64(1); q <= 900; q++ {
		w.put(q)
		if q%300 == 0 {
			w.seal()
		}
	}
	var stored int64
	for _, k := range b.st.Keys() {
		stored += int64(len(b.st.Bytes(k)))
	}
	m := &meter{store: b.st}
	n := 0
	for r, err := range (&Reader{Store: m, Prefix: b.prefix, Archive: "arch"}).Cat(context.Background(), Selection{From: 850, To: 855}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if !strings.Contains(r.Key, ".000003.") {
			t.Errorf("read %s", r.Key)
		}
	}
	if n != 6 {
		t.Fatal(n)
	}
	if m.read > stored/3 {
		t.Errorf("read %d of %d bytes", m.read, stored)
	}
}

// meter counts the bytes that are really read.
type meter struct {
	store
	read int64
}

func (m *meter) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	r, err := m.store.Read(ctx, key, from, to)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(r, m), r}, nil
}

func (m *meter) Write(p []byte) (int, error) {
	m.read += int64(len(p))
	return len(p), nil
}

func TestCatOverDamage(t *testing.T) {
	b := standard(t, event.Gzip)
	key := "a/orders/eu.000002.ndjson.gz"
	b.st.Flip(key, int64(len(b.st.Bytes(key))/3))
	var damage *DamageError
	n := 0
	for _, err := range (&Reader{Store: b.st, Prefix: b.prefix, Archive: "arch"}).Cat(context.Background(), Selection{}) {
		if err != nil && !errors.As(err, &damage) {
			t.Fatal(err)
		}
		if err == nil {
			n++
		}
	}
	if damage == nil || n < 50 || n > 56 {
		t.Fatalf("%d events, %v", n, damage)
	}
	for range (&Reader{Store: b.st, Prefix: b.prefix, Archive: "arch"}).Cat(context.Background(), Selection{}) {
		break
	}
}

func TestRebuild(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			b := standard(t, codec)
			b.open("orders/done").put(61).seal()
			b.open("orders/fresh").put(62).seal()
			w := b.open("orders/broken")
			at := w.put(63).pos
			b.st.AppendRaw(w.key, []byte("garbage"))
			w.breakOff(at).put(64)
			b.tally(61, 61, 1)
			r, err := Rebuild(context.Background(), b.st, b.prefix, "arch", nil)
			if err != nil || len(r.Problems) > 0 {
				t.Fatal(err, r.Problems)
			}
			have := b.ledger()
			diff := r.Differences(have)
			// The floor has passed what this one holds: a writer takes it out.
			if len(diff) != 1 || !strings.Contains(diff[0], "orders/done") {
				t.Fatalf("%q", diff)
			}
			for _, tail := range r.Tails {
				want := map[string]string{"orders/eu": "orders", "orders/us": "orders", "orders/fresh": "orders", "orders/broken": "orders"}[tail.Series]
				if tail.Entry.Route != want {
					t.Errorf("route of %s is %q", tail.Series, tail.Entry.Route)
				}
			}

			// Written into an empty ledger, and again: the second time nothing changes.
			m := &memLedger{lanes: map[string]ledger.Lane{}, tails: map[string]ledger.Tail{}, revs: map[string]uint64{}}
			if n, err := r.Write(context.Background(), m); err != nil || n != len(r.Lanes)+len(r.Tails) {
				t.Fatal(n, err)
			}
			if n, err := r.Write(context.Background(), m); err != nil || n != 0 {
				t.Fatal(n, err)
			}
			// A service that runs is ahead of the rebuilt entries.
			ahead := m.tails["orders/eu"]
			ahead.Position++
			m.tails["orders/eu"] = ahead
			lane := m.lanes["0"]
			lane.Floor, lane.Owner = 1, "me"
			m.lanes["0"] = lane
			if n, err := r.Write(context.Background(), m); err != nil || n != 1 {
				t.Fatal(n, err)
			}
			if m.tails["orders/eu"].Position != ahead.Position || m.lanes["0"].Owner != "me" || m.lanes["0"].Floor != 61 {
				t.Error("what was ahead was overwritten")
			}
		})
	}
}

// A series whose end is damaged gets no entry, and is named.
func TestRebuildDamaged(t *testing.T) {
	b := standard(t, event.Gzip)
	w := b.open("orders/eu")
	b.st.AppendRaw(w.key, []byte("garbage"))
	b.say(func(*control.State) {})
	r, err := Rebuild(context.Background(), b.st, b.prefix, "arch", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tail := range r.Tails {
		if tail.Series == "orders/eu" {
			t.Error("it has an entry")
		}
	}
	if !told(r.Problems, "orders/eu") {
		t.Errorf("%v", r.Problems)
	}
}

// memLedger is a ledger in memory.
type memLedger struct {
	lanes map[string]ledger.Lane
	tails map[string]ledger.Tail
	revs  map[string]uint64
}

func (m *memLedger) Lane(_ context.Context, _, lane string) (ledger.Lane, uint64, error) {
	return m.lanes[lane], m.revs["lane "+lane], nil
}

func (m *memLedger) PutLane(_ context.Context, _, lane string, e ledger.Lane, rev uint64) (uint64, error) {
	if m.revs["lane "+lane] != rev {
		return 0, ledger.ErrConflict
	}
	m.lanes[lane] = e
	m.revs["lane "+lane]++
	return rev + 1, nil
}

func (m *memLedger) Tail(_ context.Context, _, _, series string) (ledger.Tail, uint64, error) {
	return m.tails[series], m.revs[series], nil
}

func (m *memLedger) PutTail(_ context.Context, _, _, series string, e ledger.Tail, rev uint64) (uint64, error) {
	if m.revs[series] != rev {
		return 0, ledger.ErrConflict
	}
	m.tails[series] = e
	m.revs[series]++
	return rev + 1, nil
}
