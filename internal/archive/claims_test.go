package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/object"
)

// one is the header and the line of one event.
func (w *written) one(seq uint64) (event.Content, []byte) {
	w.b.t.Helper()
	c := w.content(event.KindData)
	body, err := event.Encoder{Format: c.Format}.Append(nil, makeEvent(w.name, seq))
	if err != nil {
		w.b.t.Fatal(err)
	}
	at := timeOf(seq)
	c.First, c.Last, c.Count, c.MinTime, c.MaxTime, c.Greatest = seq, seq, 1, at, at, at
	return c, body
}

// What nothing but verification would tell: frames and lines that are whole, and
// contradict each other, their names or the control log.
func TestContradictions(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(t testing.TB, b *builder)
		says string
	}{
		{"a break right behind a frame that names less", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			w.breakOff(w.pos - 3)
		}, "it is a break frame that says the valid bytes end at"},
		{"a seal that skips a segment", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			c := w.content(event.KindSeal)
			root := w.tree.Root()
			c.SegmentRoot, c.Next = &root, event.Key(b.prefix, w.name, c.Segment+2, w.ext)
			p, hash, err := b.fw.Seal(nil, b.codec, &c, w.pos, w.crc, w.index)
			if err != nil {
				t.Fatal(err)
			}
			w.append(p)
			w.chain.Advance(&event.Frame{Content: c, Hash: hash})
			w.chain.Segment++
			w.goOn(c.Next).put(61)
			b.tally(61, 61, 1)
		}, "as the next segment, which is not segment 4"},
		{"an index that lists more", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			w.index = append(w.index, event.IndexEntry{Position: w.pos - 1, First: 60, MinTime: timeOf(60)})
			w.seal()
		}, "entries for"},
		{"an event among the dead letters", func(t testing.TB, b *builder) {
			w := b.open("_ossuary/dead/ORDERS/0")
			w.frame(w.one(61))
		}, "a dead letter has a reason, an event has none"},
		{"a dead letter among the events", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			c, _ := w.one(61)
			w.frame(c, event.AppendDeadLetter(nil, makeEvent("orders/eu", 61), "because", "orders"))
		}, "a dead letter has a reason, an event has none"},
		{"dead letters of another lane", func(t testing.TB, b *builder) { b.open("_ossuary/dead/ORDERS/7").put(61) },
			"do not belong here but in _ossuary/dead/ORDERS/0"},
		{"a frame of another stream", func(t testing.TB, b *builder) {
			b.stream.Name = "OTHER"
			b.open("orders/zz").put(61)
		}, `names the stream "OTHER"`},
		{"a frame of another form", func(t testing.TB, b *builder) {
			if b.codec == event.Plain {
				t.Skip("no plain object holds raw frames")
			}
			w := b.open("orders/eu")
			c, _ := w.one(61)
			c.Format, c.Seqs = event.Raw, string(event.AppendSeqs(nil, []uint64{61}))
			w.frame(c, []byte("x\n"))
		}, "a frame in raw form in an object named"},
		{"a layout in another form", func(t testing.TB, b *builder) {
			var p bytes.Buffer
			if err := json.Indent(&p, b.layout.Canonical(), "", " "); err != nil {
				t.Fatal(err)
			}
			b.st.Replace("a/_ossuary/layout/1.json", p.Bytes())
		}, "not in its canonical form"},
		{"an incarnation that falls", func(t testing.TB, b *builder) {
			b.say(func(s *control.State) { s.Stream.Incarnation = 1 })
			b.say(func(s *control.State) { s.Stream.Incarnation = 0 })
		}, "incarnation 0 follows 1"},
		{"a creation time that changes", func(t testing.TB, b *builder) {
			b.say(func(s *control.State) { s.Stream.Created = s.Stream.Created.Add(time.Second) })
		}, "the stream's creation time changes within incarnation 0"},
		{"a line of another archive", func(t testing.TB, b *builder) { b.say(func(s *control.State) { s.Archive = "other" }) },
			`a line of archive "other", this is "arch"`},
		{"a line that goes on elsewhere", func(t testing.TB, b *builder) {
			b.say(func(s *control.State) { s.Next = "elsewhere/_ossuary/control/ORDERS.000002.jsonl" })
		}, "which is no next object of this one"},
		{"a line of another source", func(t testing.TB, b *builder) { b.say(func(s *control.State) { s.Source = "OTHER" }) },
			`a line of source "OTHER"`},
	} {
		for _, codec := range codecs {
			t.Run(tc.name+"/"+codec.String(), func(t *testing.T) {
				b := standard(t, codec)
				tc.do(t, b)
				wantDamage(t, verify(t, b.options()), tc.says)
			})
		}
	}
}

// lying is a store whose Head does not say what Read gives.
type lying struct {
	store
	lie func(*object.Info)
}

func (s lying) Head(ctx context.Context, key string) (object.Info, error) {
	info, err := s.store.Head(ctx, key)
	if err == nil && key == "a/orders/eu.000001.ndjson.gz" {
		s.lie(&info)
	}
	return info, err
}

func TestStoreThatLies(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(*object.Info)
		says string
	}{
		"about the checksum": {func(i *object.Info) { i.CRC64++ }, "have CRC-64"},
		"about the length":   {func(i *object.Info) { i.Length += 7 }, "the object ends here"},
	} {
		t.Run(name, func(t *testing.T) {
			b := standard(t, event.Gzip)
			opt := b.options()
			opt.Store = lying{b.st, c.lie}
			wantDamage(t, verify(t, opt), c.says)
		})
	}
}
