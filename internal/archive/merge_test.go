package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ossuary/internal/event"
)

func (b *builder) reader() *Reader { return &Reader{Store: b.st, Prefix: b.prefix, Archive: "arch"} }

func (b *builder) snapshot(t testing.TB, sel Selection) *Snapshot {
	t.Helper()
	s, err := b.reader().Snapshot(context.Background(), sel)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// merged is what a merge yields, as incarnation/sequence.
func merged(t testing.TB, b *builder, sel Selection) (out []string) {
	t.Helper()
	for r, err := range b.snapshot(t, sel).Merge(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d/%d", r.Incarnation, r.Sequence))
	}
	return out
}

func keys[K, V any](seq iter.Seq2[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range seq {
			if !yield(k) {
				return
			}
		}
	}
}

func TestMerge(t *testing.T) {
	for _, codec := range codecs {
		b := standard(t, codec)
		var want, dead []string
		for q := 1; q <= 60; q++ {
			if q == 50 {
				continue
			}
			dead = append(dead, fmt.Sprintf("0/%d", q))
			if q != 35 && q != 36 {
				want = append(want, fmt.Sprintf("0/%d", q))
			}
		}
		if got := merged(t, b, Selection{}); !slices.Equal(got, want) {
			t.Errorf("%v: got %v", codec, got)
		}
		if got := merged(t, b, Selection{WithDead: true}); !slices.Equal(got, dead) {
			t.Errorf("%v: with dead letters: got %v", codec, got)
		}
		if got := merged(t, b, Selection{From: 20, To: 24}); !slices.Equal(got, []string{"0/20", "0/21", "0/22", "0/23", "0/24"}) {
			t.Errorf("%v: a range: got %v", codec, got)
		}

		// A dead letter that was driven through the routes again is there twice.
		b.open("orders/late").put(35, 36)
		if got := merged(t, b, Selection{WithDead: true}); !slices.Equal(got, dead) {
			t.Errorf("%v: redriven: got %v", codec, got)
		}

		// Sequences of a second life come after all of the first.
		b.stream.Incarnation, b.stream.Created = 1, epoch
		b.open("orders/us").put(2, 7)
		b.open("orders/eu").put(3)
		got := merged(t, b, Selection{WithDead: true})
		if !slices.Equal(got, append(dead, "1/2", "1/3", "1/7")) {
			t.Errorf("%v: two lives: got %v", codec, got)
		}
	}
}

// Whatever is selected, the merge is that of the sorted events.
func TestMergeOfAnything(t *testing.T) {
	b := newBuilder(t, event.Zstd)
	r := rapid.IntRange(1, 3)
	var all []uint64
	rapid.Check(t, func(rt *rapid.T) {
		if all == nil {
			for q := uint64(1); q <= 200; {
				w := b.open(fmt.Sprintf("orders/s%d", rapid.IntRange(0, 6).Draw(rt, "series")))
				var seqs []uint64
				for range r.Draw(rt, "events") {
					seqs = append(seqs, q)
					q += uint64(r.Draw(rt, "gap"))
				}
				all = append(all, seqs...)
				w.put(seqs...)
				if rapid.IntRange(0, 9).Draw(rt, "seal") == 0 {
					w.seal()
				}
			}
		}
		sel := Selection{From: rapid.Uint64Range(0, 210).Draw(rt, "from"), To: rapid.Uint64Range(0, 210).Draw(rt, "to")}
		if rapid.Bool().Draw(rt, "since") {
			sel.Since = timeOf(rapid.Uint64Range(0, 210).Draw(rt, "time"))
		}
		var want []string
		for _, q := range all {
			if q >= sel.From && (sel.To == 0 || q <= sel.To) && !timeOf(q).Before(sel.Since) {
				want = append(want, fmt.Sprintf("0/%d", q))
			}
		}
		if got := merged(t, b, sel); !slices.Equal(got, want) {
			rt.Fatalf("%+v: got %v, want %v", sel, got, want)
		}
	})
}

func TestMergeOfSeveralStreams(t *testing.T) {
	b := standard(t, event.Gzip)
	w := b.open("users/x")
	w.chain.Source, b.stream.Name = "USERS", "USERS"
	w.put(1, 2)
	var several *SourcesError
	for _, err := range b.snapshot(t, Selection{}).Merge(t.Context()) {
		if !errors.As(err, &several) || !slices.Equal(several.Sources, []string{"ORDERS", "USERS"}) {
			t.Fatal(err)
		}
	}
	if several == nil {
		t.Fatal("two streams were merged")
	}
	if n := len(slices.Collect(keys(b.snapshot(t, Selection{}).Of("USERS").Merge(t.Context())))); n != 2 {
		t.Errorf("got %d events of one stream", n)
	}
	if got := merged(t, b, Selection{Source: "USERS"}); !slices.Equal(got, []string{"0/1", "0/2"}) {
		t.Errorf("got %v", got)
	}
	if got, err := b.snapshot(t, Selection{}).Sources(t.Context()); err != nil || !slices.Equal(got, []string{"ORDERS", "USERS"}) {
		t.Error(got, err)
	}
}

// What is appended while somebody follows comes once and in order, over seals and
// into new series; damage is named once.
func TestFollow(t *testing.T) {
	for _, tail := range []int{0, 2} {
		t.Run(fmt.Sprint("tail ", tail), func(t *testing.T) {
			b := newBuilder(t, event.Gzip)
			eu := b.open("orders/eu")
			eu.put(1, 2).put(3)
			b.open("orders/done").put(4).seal()
			steps := []func(){
				func() { eu.put(5) },
				func() { eu.put(6).seal().put(7) },
				func() {},
				func() { b.open("orders/new").put(8).put(9) },
				func() { eu.put(10); b.st.AppendRaw(eu.key, []byte("garbage")) },
				func() {},
				func() { b.open("orders/new").put(11) },
				func() { b.open("orders/done").put(12) },
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			idle := func() error {
				if len(steps) == 0 {
					cancel()
					return nil
				}
				steps[0]()
				steps = steps[1:]
				return nil
			}
			var got []uint64
			damages := 0
			for r, err := range b.reader().Follow(ctx, Selection{Tail: tail}, time.Nanosecond, idle) {
				var damage *DamageError
				switch {
				case errors.As(err, &damage):
					damages++
				case err != nil:
					t.Fatal(err)
				default:
					got = append(got, r.Sequence)
				}
			}
			want := []uint64{4, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12}
			if tail > 0 {
				want = []uint64{3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
			}
			if !slices.Equal(got, want) || damages != 1 {
				t.Errorf("got %v, want %v; %d damages", got, want, damages)
			}
		})
	}
}

// A frame of which a directory has only the beginning yet is not damage: it comes
// when it is whole.
func TestFollowWaitsForTheRestOfAFrame(t *testing.T) {
	b := newBuilder(t, event.Gzip)
	w := b.open("orders/eu")
	w.put(1)
	one := len(b.st.Bytes(w.key))
	w.put(2)
	whole := slices.Clone(b.st.Bytes(w.key))
	cuts := []int{one + 5, one + 100, len(whole) - 1, len(whole)}
	b.st.Replace(w.key, whole[:one])
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []uint64
	for r, err := range b.reader().Follow(ctx, Selection{}, time.Nanosecond, func() error {
		if len(cuts) == 0 {
			cancel()
			return nil
		}
		b.st.Replace(w.key, whole[:cuts[0]])
		cuts = cuts[1:]
		return nil
	}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Sequence)
	}
	if !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("got %v", got)
	}
}
