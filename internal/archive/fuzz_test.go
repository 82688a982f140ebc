package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/object/objecttest"
)

// FuzzControlLog holds two readers of the control log against each other, that of
// the writers and this package's own, which reads every line: they take the same
// line for the newest, and what stops a writer is a problem here.
func FuzzControlLog(f *testing.F) {
	sample := func(change func(*control.State)) string {
		s := control.State{Version: control.Version, Number: 1, ID: "x", Archive: "a", Source: "S", From: 1, Layouts: []control.Since{{Layout: 1, Since: 1}}}
		change(&s)
		p, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		return strings.Replace(string(p), `"pos":0`, `"pos":POS`, 1) + "\n"
	}
	line := sample(func(*control.State) {})
	f.Add(line)
	f.Add("junk\n" + line + "#\n" + sample(func(s *control.State) { s.Number, s.Base = 2, 9 }) + "{\"v\":1")
	f.Add(line + sample(func(s *control.State) { s.Number, s.Archive = 2, "b" }))
	f.Add(line + sample(func(s *control.State) { s.Number, s.Source = 2, "T" }))
	f.Add(line + sample(func(s *control.State) { s.Number, s.Version = 2, 2 }) + sample(func(s *control.State) { s.Number = 3 }))
	f.Add(line + sample(func(s *control.State) { s.Number, s.Next = 2, "p/_ossuary/control/S.000002.jsonl" }) + line)
	f.Add(line + sample(func(s *control.State) { s.Number, s.Next = 2, "elsewhere" }))
	const key = "p/_ossuary/control/S.000001.jsonl"
	f.Fuzz(func(t *testing.T, text string) {
		var p []byte
		for line := range strings.Lines(text) {
			p = append(p, strings.ReplaceAll(line, "POS", fmt.Sprint(len(p)))...)
		}
		st := objecttest.New()
		st.AppendRaw(key, p)
		log, err := control.Open(t.Context(), st, control.Options{Archive: "a", Prefix: "p/", Source: "S"})
		var blocked *control.BlockedError
		if err != nil && !errors.As(err, &blocked) {
			t.Fatal(err)
		}
		col := newCollector(nil)
		c := newControlReader(st, "p/", "a", col)
		if err := c.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		h := c.source("S")
		switch {
		case blocked != nil && col.problems == 0:
			t.Fatalf("writers stop (%v), and no problem is seen", blocked)
		case blocked != nil:
		case log.State().Exists() != (h != nil):
			t.Fatalf("writers see %+v, we %+v", log.State(), h)
		case h != nil:
			want, got := log.State(), h.newest
			got.Next = ""
			a, _ := json.Marshal(want)
			b, _ := json.Marshal(got)
			if string(a) != string(b) {
				t.Fatalf("writers go on from\n%s, we see\n%s", a, b)
			}
		}
		if err := c.refresh(t.Context()); err != nil || h != nil && c.source("S") != h {
			t.Fatal("looking again is another thing")
		}
	})
}

// FuzzDamage changes a segment somewhere; the store's checksum is that of what then
// stands there. Verify calls the archive damaged unless every event is still
// there, and whatever cat yields was archived so, in this order.
func FuzzDamage(f *testing.F) {
	for codec := range codecs {
		f.Add(uint8(codec), uint8(0), uint16(700), uint16(1), []byte("x"))
		f.Add(uint8(codec), uint8(1), uint16(9000), uint16(0), []byte("junk"))
		f.Add(uint8(codec), uint8(0), uint16(0), uint16(9000), []byte{})
		f.Add(uint8(codec), uint8(1), uint16(100), uint16(9000), []byte("\n"))
	}
	f.Fuzz(func(t *testing.T, codec, which uint8, at, cut uint16, put []byte) {
		b := newBuilder(t, codecs[int(codec)%len(codecs)])
		eu := b.open("orders/eu")
		eu.put(1, 2).put(3)
		eu.seal().put(4, 5)
		b.tally(5, 5, 0)
		want := lines(t, b)
		var segments []string
		for _, key := range b.st.Keys() {
			if _, _, _, ok := event.ParseKey(b.prefix, key); ok {
				segments = append(segments, key)
			}
		}
		key := segments[int(which)%len(segments)]
		p := b.st.Bytes(key)
		from := min(int(at), len(p))
		to := min(from+int(cut), len(p))
		q := slices.Concat(p[:from], put, p[to:])
		b.st.Replace(key, q)
		opt := b.options()
		opt.Ledger = nil
		damaged := verify(t, opt).Result == Damaged
		got := lines(t, b)
		if !damaged && !slices.Equal(got, want) {
			t.Fatalf("called whole, and holds %q", got)
		}
		if slices.Equal(p, q) && damaged {
			t.Fatal("called damaged")
		}
		rest := want
		for _, line := range got {
			i := slices.Index(rest, line)
			if i < 0 {
				t.Fatalf("cat yields %q of %q", got, want)
			}
			rest = rest[i+1:]
		}
	})
}

// lines are the events that cat yields, as far as it comes.
func lines(t *testing.T, b *builder) (out []string) {
	for r, err := range (&Reader{Store: b.st, Prefix: b.prefix}).Cat(t.Context(), Selection{}) {
		if err != nil {
			continue
		}
		p, err := AppendRecord(nil, AsEnvelope, r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(p))
	}
	return out
}
