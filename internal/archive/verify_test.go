package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
	"ossuary/internal/router"
)

var codecs = []event.Codec{event.Gzip, event.Zstd, event.Plain}

func dump(r *Report) string {
	p, _ := json.MarshalIndent(r, "", " ")
	return string(p)
}

func wantOK(t testing.TB, r *Report) {
	t.Helper()
	if r.Result != OK || len(r.Problems) > 0 {
		t.Fatalf("not ok:\n%s", dump(r))
	}
}

// wantDamage checks that some problem says each of these.
func wantDamage(t testing.TB, r *Report, says ...string) {
	t.Helper()
	if r.Result != Damaged {
		t.Fatalf("result %s:\n%s", r.Result, dump(r))
	}
	for _, s := range says {
		if !told(r.Problems, s) {
			t.Fatalf("no problem says %q:\n%s", s, dump(r))
		}
	}
}

func told(fs []Finding, s string) bool {
	for _, f := range fs {
		if strings.Contains(f.String(), s) {
			return true
		}
	}
	return false
}

func TestCleanArchive(t *testing.T) {
	for _, codec := range codecs {
		for _, audit := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/audit=%v", codec, audit), func(t *testing.T) {
				b := standard(t, codec)
				b.audit = audit
				b.open("orders/eu").put(61).put(63)
				b.open("orders/us").put(62)
				b.tally(63, 63, 1)
				var done, total int64
				opt := b.options()
				opt.Progress = func(d, n int64) { done, total = d, n }
				r := verify(t, opt)
				wantOK(t, r)
				if r.Events != 60 || r.DeadLetters != 2 || r.Skipped != 1 || r.Segments != 7 || r.Objects != 9 || r.Missing != 0 || r.Duplicates != 0 {
					t.Errorf("counts:\n%s", dump(r))
				}
				if len(r.Notes) != 0 {
					t.Errorf("notes of a clean archive:\n%s", dump(r))
				}
				var stored int64
				for _, k := range b.st.Keys() {
					stored += int64(len(b.st.Bytes(k)))
				}
				if r.Bytes != stored || done == 0 || total != stored {
					t.Errorf("bytes %d, progress %d of %d, stored %d", r.Bytes, done, total, stored)
				}
			})
		}
	}
}

// Each row damages the standard archive; the report must be damaged and say so.
func TestDamage(t *testing.T) {
	key := func(b *builder, series string, n int) string {
		return event.Key(b.prefix, series, n, event.Ext(event.Envelope, b.codec))
	}
	frames := func(t testing.TB, b *builder, k string) (out [][2]int64) {
		sc := event.NewScanner(strings.NewReader(string(b.st.Bytes(k))), b.codec, 0, 0)
		for {
			f, _, err := sc.Next()
			if err != nil {
				return out
			}
			out = append(out, [2]int64{f.Place.Position, f.End()})
		}
	}
	for _, tc := range []struct {
		name   string
		damage func(t testing.TB, b *builder)
		says   []string
		check  func(t testing.TB, r *Report)
	}{
		{"a byte in a body", func(t testing.TB, b *builder) {
			k := key(b, "orders/eu", 2)
			b.st.Flip(k, frames(t, b, k)[1][1]-12)
		}, []string{"are no valid frame", "2 events, sequences 17-19", "2 events are missing", "17-17"}[:3], func(t testing.TB, r *Report) {
			if r.Missing != 2 {
				t.Errorf("missing %d:\n%s", r.Missing, dump(r))
			}
		}},
		{"a frame dropped", func(t testing.TB, b *builder) {
			k := key(b, "orders/eu", 2)
			f, p := frames(t, b, k), b.st.Bytes(k)
			b.st.Replace(k, append(p[:f[1][0]:f[1][0]], p[f[1][1]:]...))
		}, []string{"are no valid frame", "missing"}, nil},
		{"frames swapped", func(t testing.TB, b *builder) {
			k := key(b, "orders/eu", 2)
			f, p := frames(t, b, k), b.st.Bytes(k)
			q := append([]byte{}, p[:f[0][0]]...)
			q = append(append(q, p[f[1][0]:f[1][1]]...), p[f[0][0]:f[0][1]]...)
			b.st.Replace(k, append(q, p[f[1][1]:]...))
		}, []string{"are no valid frame"}, nil},
		{"cut in a frame", func(t testing.TB, b *builder) {
			k := key(b, "orders/eu", 3)
			b.st.Truncate(k, int64(len(b.st.Bytes(k))-5))
		}, []string{"no valid frame", "missing"}, nil},
		{"cut behind a frame", func(t testing.TB, b *builder) {
			k := key(b, "orders/eu", 3)
			b.st.Truncate(k, frames(t, b, k)[3][1])
		}, []string{"it says that the object has at least", "missing"}, nil},
		{"seal cut off", func(t testing.TB, b *builder) {
			k := key(b, "orders/eu", 2)
			f := frames(t, b, k)
			b.st.Truncate(k, f[len(f)-1][0])
		}, []string{"prev is"}, nil},
		{"emptied", func(t testing.TB, b *builder) { b.st.Replace(key(b, "orders/eu", 2), nil) }, []string{"missing"}, nil},
		{"foreign bytes at the end", func(t testing.TB, b *builder) {
			b.st.AppendRaw(key(b, "orders/us", 3), []byte("hello, this is not ours"))
		}, []string{"are no valid frame"}, nil},
		{"a segment deleted in the middle", func(t testing.TB, b *builder) { b.st.Delete(key(b, "orders/us", 2)) },
			[]string{"not there, but later ones are", "missing"}, func(t testing.TB, r *Report) {
				if r.Missing != 10 {
					t.Errorf("missing %d:\n%s", r.Missing, dump(r))
				}
			}},
		{"a segment deleted at the end", func(t testing.TB, b *builder) { b.st.Delete(key(b, "orders/us", 3)) },
			[]string{"it says that the object has at least", "missing"}, nil},
		{"a series deleted", func(t testing.TB, b *builder) {
			for n := 1; n <= 3; n++ {
				b.st.Delete(key(b, "orders/us", n))
			}
		}, []string{"nor does any other of its series", "missing"}, nil},
		{"an event doubled in the same series", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			c, last := w.content(event.KindData), w.chain.Last
			w.chain.Last = 0
			w.put(last)
			_ = c
		}, []string{"does not come after", "archived twice", "more than once"}, func(t testing.TB, r *Report) {
			if r.Duplicates != 1 {
				t.Errorf("duplicates %d:\n%s", r.Duplicates, dump(r))
			}
		}},
		{"a frame doubled", func(t testing.TB, b *builder) {
			k := key(b, "orders/eu", 3)
			f := frames(t, b, k)
			last := f[len(f)-1]
			b.st.AppendRaw(k, b.st.Bytes(k)[last[0]:last[1]])
		}, []string{"no valid frame"}, nil},
		{"an event doubled in another series", func(t testing.TB, b *builder) {
			b.open("orders/zz").events(&event.Event{Sequence: 9, Time: timeOf(9), Subject: "orders.zz", Data: []byte("{}")})
		}, []string{"archived twice", "sequences 9 are in another series"}, func(t testing.TB, r *Report) {
			if r.Duplicates != 1 {
				t.Errorf("duplicates %d", r.Duplicates)
			}
		}},
		{"an event in the wrong series", func(t testing.TB, b *builder) {
			b.open("orders/eu").events(&event.Event{Sequence: 61, Time: timeOf(61), Subject: "orders.us", Data: []byte("{}")})
		}, []string{"do not belong into this series", "to series orders/us"}, nil},
		{"an event that must be skipped", func(t testing.TB, b *builder) {
			b.open("orders/eu").events(&event.Event{Sequence: 61, Time: timeOf(61), Subject: "orders.noise", Data: []byte("{}")})
		}, []string{"it is skipped"}, nil},
		{"an event missing", func(t testing.TB, b *builder) { b.tally(64, 64, 1) }, []string{"4 events are missing", "61-64"}, func(t testing.TB, r *Report) {
			if r.Missing != 4 {
				t.Errorf("missing %d", r.Missing)
			}
		}},
		{"a wrong incarnation", func(t testing.TB, b *builder) {
			b.stream.Incarnation = 3
			b.open("orders/eu").put(61)
		}, []string{"incarnation 3 of the stream, the control log does not know it"}, nil},
		{"a wrong creation time", func(t testing.TB, b *builder) {
			b.stream.Created = b.stream.Created.Add(1)
			b.open("orders/zz").put(61)
		}, []string{"was created at"}, nil},
		{"another layout", func(t testing.TB, b *builder) {
			b.saveLayout(2)
			w := b.open("orders/eu")
			b.state.Layouts = []control.Since{{Layout: 2, Since: 1}}
			w.put(61)
		}, []string{"archived under layout 2; the control log says layouts 1"}, nil},
		{"beyond every horizon", func(t testing.TB, b *builder) { b.open("orders/eu").put(5_000_000) }, []string{"no writer was allowed"}, nil},
		{"another archive", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			w.chain.Archive = "other"
			w.put(61)
		}, []string{`belongs to archive "other"`}, nil},
		{"another lane", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			w.chain.Lane = "1"
			w.put(61)
		}, []string{`belongs to lane "1"`}, nil},
		{"an unknown source", func(t testing.TB, b *builder) {
			w := b.open("orders/zz")
			w.chain.Source, b.stream.Name = "OTHER", "OTHER"
			w.put(61)
		}, []string{"no control log"}, nil},
		{"a later version", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			c := w.content(event.KindData)
			body, _ := event.Encoder{}.Append(nil, makeEvent("orders/eu", 61))
			c.First, c.Last, c.Count, c.MinTime, c.MaxTime, c.Greatest = 61, 61, 1, timeOf(61), timeOf(61), timeOf(61)
			c.Must = []string{"newer"}
			w.frame(c, body)
		}, []string{"newer"}, nil},
		{"no control log", func(t testing.TB, b *builder) { b.st.Delete(b.controlKey()) }, []string{"there is no control log"}, nil},
		{"no layout", func(t testing.TB, b *builder) { b.st.Delete("a/_ossuary/layout/1.json") }, []string{"layout 1 cannot be read"}, nil},
		{"a changed layout", func(t testing.TB, b *builder) {
			b.st.Replace("a/_ossuary/layout/1.json", []byte(strings.Replace(string(b.layout.Canonical()), "orders/{{", "nowhere/{{", 1)))
		}, []string{"to series nowhere/eu"}, nil},
		{"a line of the control log gone", func(t testing.TB, b *builder) {
			p := b.st.Bytes(b.controlKey())
			i := strings.Index(string(p), "\n")
			b.st.Replace(b.controlKey(), append(append([]byte{}, p[:i+1]...), append([]byte(strings.Repeat("x", 40)), p[i+41:]...)...))
		}, []string{"follows line"}, nil},
		{"the seal behind a lost segment", func(t testing.TB, b *builder) {
			// Deleted while it was written: the writer puts a break at its start.
			w := b.open("orders/eu")
			b.st.Delete(w.key)
			w.chain.Frame, w.crc = 0, 0
			w.breakOff(0).put(61)
		}, []string{"was deleted while it was written", "missing"}, nil},
		{"all frames replaced, then left", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			b.st.Replace(w.key, []byte("not ours, all of it"))
			w.chain.Frame = 0
			w.breakOff(0).put(61)
		}, []string{"were all replaced or damaged", "missing"}, nil},
		{"cut and left", func(t testing.TB, b *builder) {
			k := key(b, "orders/eu", 3)
			f := frames(t, b, k)
			w := b.open("orders/eu")
			b.st.Truncate(k, f[1][1])
			sc := event.NewScanner(strings.NewReader(string(b.st.Bytes(k))), b.codec, 0, 0)
			for {
				g, _, err := sc.Next()
				if err != nil {
					break
				}
				w.chain.Frame, w.chain.Prev, w.chain.Last, w.chain.Greatest = g.Content.Frame, g.Hash, g.Content.Last, g.Content.Greatest
			}
			w.breakOff(f[1][1]).put(61)
		}, []string{"the segment was cut", "missing"}, nil},
		{"a break that names another place", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			at := w.pos
			b.st.AppendRaw(w.key, []byte("garbage"))
			w.breakOff(at - 3).put(61)
		}, []string{"no valid frame"}, nil},
		{"a frame behind a seal", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			was := *w
			w.seal()
			was.pos = int64(len(b.st.Bytes(was.key)))
			was.put(61)
		}, []string{"a frame of this series stands behind the seal"}, nil},
		{"a second object of a number", func(t testing.TB, b *builder) {
			other := "ndjson"
			if b.codec == event.Plain {
				other = "ndjson.gz"
			}
			b.st.Replace(event.Key(b.prefix, "orders/eu", 2, other), nil)
		}, []string{"no seal or break names this segment"}, nil},
		{"a series without its name's events", func(t testing.TB, b *builder) {
			p := b.st.Bytes(key(b, "orders/us", 1))
			b.st.Replace(key(b, "copied/us", 1), p)
		}, []string{"no valid frame"}, nil},
		{"a wrong events root", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			c := w.content(event.KindData)
			body, _ := event.Encoder{}.Append(nil, makeEvent("orders/eu", 61))
			c.First, c.Last, c.Count, c.MinTime, c.MaxTime, c.Greatest = 61, 61, 1, timeOf(61), timeOf(61), timeOf(61)
			c.EventsRoot = &event.Hash{1}
			w.frame(c, body)
		}, []string{"the frame's events have the root"}, nil},
		{"a line that is not what the header says", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			c := w.content(event.KindData)
			body, _ := event.Encoder{}.Append(nil, makeEvent("orders/eu", 62))
			c.First, c.Last, c.Count, c.MinTime, c.MaxTime, c.Greatest = 61, 61, 1, timeOf(61), timeOf(61), timeOf(61)
			w.frame(c, body)
		}, []string{"disagree with its header"}, nil},
		{"a wrong segment root", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			w.tree.Add([]byte("x"))
			w.seal()
		}, []string{"segment root"}, nil},
		{"a wrong index", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			w.index[0].First++
			w.seal()
		}, []string{"index entry 1"}, nil},
		{"a wrong locator", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			w.crc++
			w.seal()
		}, []string{"locator"}, nil},
	} {
		for _, codec := range codecs {
			t.Run(tc.name+"/"+codec.String(), func(t *testing.T) {
				b := standard(t, codec)
				opt := b.options()
				tc.damage(t, b)
				r := verify(t, opt)
				wantDamage(t, r, tc.says...)
				if tc.check != nil {
					tc.check(t, r)
				}
			})
		}
	}
}

// What looks strange and is legal.
func TestLegal(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(t testing.TB, b *builder)
		note string
	}{
		{"foreign bytes before a break", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			at := w.pos
			b.st.AppendRaw(w.key, []byte("\n{\"_ossuary\":garbage \x1f\x8b\x08 garbage"))
			w.breakOff(at).put(61)
			b.tally(61, 61, 1)
		}, "lie before a break frame"},
		{"foreign bytes behind a seal", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			k := w.key
			w.seal()
			b.st.AppendRaw(k, []byte("garbage"))
		}, "stand behind the seal"},
		{"no seal, the store refused", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			b.st.Put(w.key, b.st.Bytes(w.key))
			w.chain.Segment, w.chain.Frame = w.chain.Segment+1, 0
			w.goOn(event.Key(b.prefix, w.name, w.chain.Segment, w.ext)).put(61)
			b.tally(61, 61, 1)
		}, "the store takes no appends to it"},
		{"removed at the front", func(t testing.TB, b *builder) {
			b.st.Delete("a/orders/eu.000001." + event.Ext(event.Envelope, b.codec))
		},
			"removed with whole segments, or are missing"},
		{"bytes that are no line in the control log", func(t testing.TB, b *builder) {
			b.st.AppendRaw(b.controlKey(), []byte("garbage\n"))
		}, "they are no line of it"},
		{"an overtaken event", func(t testing.TB, b *builder) {
			b.open("_ossuary/dead/ORDERS/0/overtaken/61").put(61)
			b.tally(61, 61, 1)
		}, ""},
		{"dead letters of a writer that did not name their layout", func(t testing.TB, b *builder) {
			w := b.open("_ossuary/dead/ORDERS/0")
			old := b.state.Layouts
			b.state.Layouts = nil
			w.put(61)
			b.state.Layouts = old
			b.tally(61, 61, 1)
		}, ""},
		{"the redrive log", func(t testing.TB, b *builder) { b.st.AppendRaw("a/_ossuary/redrive/ORDERS.jsonl", []byte("{}\n")) }, ""},
		{"a strange object", func(t testing.TB, b *builder) { b.st.Put("a/readme.txt", []byte("x")) }, "not an object of this archive"},
		{"a sealed end", func(t testing.TB, b *builder) { b.open("orders/eu").seal() }, ""},
		{"events above the last floor", func(t testing.TB, b *builder) { b.open("orders/eu").put(61, 63) }, "cannot be proven yet"},
		{"a lagging ledger", func(t testing.TB, b *builder) {
			w := b.open("orders/eu")
			tail := w.tail
			w.put(61).seal().put(63)
			w.tail = tail
		}, ""},
		{"a new layout", func(t testing.TB, b *builder) {
			b.layout.Routes[1].Series = "all"
			b.saveLayout(2)
			b.say(func(s *control.State) { s.Layouts = append(s.Layouts, control.Since{Layout: 2, Since: 61}) })
			b.open("all").put(61, 62)
			b.tally(62, 62, 1)
		}, ""},
		{"more archived than counted", func(t testing.TB, b *builder) {
			b.open("orders/eu").put(61, 62, 63)
			b.tally(63, 62, 1)
		}, ""},
		{"raw events", func(t testing.TB, b *builder) {
			if b.codec == event.Plain {
				return
			}
			w := b.open("raw/x")
			w.ext = event.Ext(event.Raw, b.codec)
			w.key = event.Key(b.prefix, w.name, 1, w.ext)
			w.put(61, 62).seal().put(63)
			b.tally(63, 63, 1)
		}, ""},
	} {
		for _, codec := range codecs {
			t.Run(tc.name+"/"+codec.String(), func(t *testing.T) {
				b := standard(t, codec)
				tc.do(t, b)
				opt := b.options()
				r := verify(t, opt)
				wantOK(t, r)
				if tc.note != "" && !told(r.Notes, tc.note) {
					t.Fatalf("no note says %q:\n%s", tc.note, dump(r))
				}
			})
		}
	}
}

// A rewound stream hands sequences out again, a recreated one starts over.
func TestIncarnations(t *testing.T) {
	start := func(b *builder, id event.StreamID) {
		b.stream = id
		b.say(func(s *control.State) {
			n, err := s.NewIncarnation(id, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			n.Base = 1_000_000
			*s = n
		})
	}
	late := func(series string, seq uint64) *event.Event {
		e := makeEvent(series, seq)
		e.Time = e.Time.Add(time.Hour)
		return e
	}
	t.Run("rewound", func(t *testing.T) {
		b := standard(t, event.Gzip)
		id := b.stream
		id.Incarnation = 1
		start(b, id)
		// Back to 40: 41-45 are new messages.
		for q := uint64(41); q <= 45; q++ {
			b.open("orders/eu").events(late("orders/eu", q))
		}
		b.tally(45, 45, 0)
		r := verify(t, b.options())
		wantOK(t, r)
		if r.Duplicates != 0 || r.Missing != 0 || !told(r.Notes, "was rewound") {
			t.Fatal(dump(r))
		}
		b.tally(46, 46, 0)
		wantDamage(t, verify(t, b.options()), "1 events are missing")
	})
	t.Run("rewound, archived again", func(t *testing.T) {
		b := standard(t, event.Gzip)
		id := b.stream
		id.Incarnation = 1
		start(b, id)
		b.open("orders/eu").put(39, 41)
		wantDamage(t, verify(t, b.options()), "2 events are archived twice")
	})
	t.Run("recreated", func(t *testing.T) {
		b := standard(t, event.Gzip)
		start(b, event.StreamID{Name: "ORDERS", Created: epoch.Add(time.Hour), Incarnation: 1})
		b.open("orders/eu").events(late("orders/eu", 1), late("orders/eu", 2))
		b.tally(2, 2, 0)
		wantOK(t, verify(t, b.options()))
		b.tally(3, 3, 0)
		r := verify(t, b.options())
		wantDamage(t, r, "1 events are missing", "incarnation 1")
	})
}

func TestLedger(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(*ledger.Tail)
		says string
	}{
		{"ahead", func(e *ledger.Tail) { e.Position += 10 }, "at least"},
		{"between frames", func(e *ledger.Tail) { e.Position -= 10 }, "no frame ends at its position"},
		{"crc", func(e *ledger.Tail) { e.CRC64++ }, "CRC-64"},
		{"hash", func(e *ledger.Tail) { e.Hash[0]++ }, "hash"},
		{"last", func(e *ledger.Tail) { e.Last++ }, "last sequence"},
		{"frames", func(e *ledger.Tail) { e.Frames++ }, "frames"},
		{"greatest", func(e *ledger.Tail) { e.Greatest = e.Greatest.Add(1) }, "greatest"},
		{"incarnation", func(e *ledger.Tail) { e.Incarnation++ }, "incarnation"},
		{"another segment", func(e *ledger.Tail) { e.Key, e.Segment = "a/orders/eu.000009.ndjson.gz", 9 }, "at least"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := standard(t, event.Gzip)
			tc.do(&b.open("orders/eu").tail)
			wantDamage(t, verify(t, b.options()), tc.says)
		})
	}
	t.Run("floor beyond what was handed out", func(t *testing.T) {
		b := standard(t, event.Gzip)
		l := b.ledger()
		for _, e := range l {
			if e.Lane != nil {
				e.Lane.Floor = 1 << 40
			}
		}
		opt := b.options()
		opt.Ledger = l
		wantDamage(t, verify(t, opt), "above every sequence")
	})
	t.Run("floor with events that are not there", func(t *testing.T) {
		b := standard(t, event.Gzip)
		l := b.ledger()
		for _, e := range l {
			if e.Lane != nil {
				e.Lane.Floor, e.Lane.Tally.Floor, e.Lane.Tally.Events = 61, 61, 61
			}
		}
		opt := b.options()
		opt.Ledger = l
		wantDamage(t, verify(t, opt), "1 events are missing", "61")
	})
	t.Run("and nothing else", func(t *testing.T) {
		b := standard(t, event.Gzip)
		opt := b.options()
		for _, key := range b.st.Keys() {
			b.st.Delete(key)
		}
		wantDamage(t, verify(t, opt), "the ledger counts 60 events up to sequence 60")
	})
	t.Run("of an archive under another prefix", func(t *testing.T) {
		b := standard(t, event.Gzip)
		opt := b.options()
		opt.Prefix = "b/"
		r := verify(t, opt)
		wantDamage(t, r, "the ledger counts 60 events up to sequence 60", "correct oss.prefix")
		if !told(r.Notes, "nothing was proven") {
			t.Error(dump(r))
		}
	})
}

// stream is a source that still has its messages.
type stream struct{ subjects map[uint64]string }

func (s stream) Next(_ context.Context, filters []string, from uint64) (*router.Message, error) {
	var best uint64
	for q, subject := range s.subjects {
		for _, f := range filters {
			if q >= from && router.Contains(f, subject) && (best == 0 || q < best) {
				best = q
			}
		}
	}
	if best == 0 {
		return nil, nil
	}
	return &router.Message{Subject: s.subjects[best], Time: timeOf(best), Sequence: best}, nil
}

func TestAskTheStream(t *testing.T) {
	b := standard(t, event.Gzip)
	s := stream{map[uint64]string{50: "orders.noise"}}
	for q := uint64(40); q < 61; q++ {
		if q != 50 {
			s.subjects[q] = "orders.eu"
		}
	}
	opt := b.options()
	opt.Probe = func(_ context.Context, id event.StreamID) (Prober, error) {
		if id != b.stream {
			t.Errorf("asked about %v", id)
		}
		return s, nil
	}
	wantOK(t, verify(t, opt))

	// Now 63 was counted and 61-63 are in the stream; 64 is not below the floor.
	for q := uint64(61); q < 65; q++ {
		s.subjects[q] = "orders.us"
	}
	delete(s.subjects, 61)
	b.tally(63, 63, 1)
	r := verify(t, opt)
	wantDamage(t, r, "2 events are missing that the stream still has: sequences 62-63", "1 events are missing", "does not have them any more")
	if r.Missing != 3 {
		t.Error(dump(r))
	}
}

// Removed by lifecycle rules: noted where it can be that, a problem where not.
func TestRemoved(t *testing.T) {
	ext := event.Ext(event.Envelope, event.Gzip)
	t.Run("and something missing besides", func(t *testing.T) {
		b := standard(t, event.Gzip)
		b.st.Delete("a/orders/eu.000001." + ext)
		b.tally(62, 62, 1)
		r := verify(t, b.options())
		wantDamage(t, r, "2 events are missing")
		if !told(r.Notes, "5 events are not in the archive") || r.Missing != 2 {
			t.Fatal(dump(r))
		}
	})
	t.Run("whole series", func(t *testing.T) {
		b := standard(t, event.Gzip)
		b.st.Delete("a/orders/eu.000001." + ext)
		b.st.Delete("a/orders/us.000001." + ext)
		b.st.Delete("a/orders/us.000002." + ext)
		b.st.Delete("a/orders/us.000003." + ext)
		opt := b.options()
		opt.Ledger = nil
		wantDamage(t, verify(t, opt), "missing")
		// 58 and 60 are later than that; one of them may be the skipped event.
		opt.RemovedBefore = timeOf(57)
		wantDamage(t, verify(t, opt), "1 events are missing")
		opt.RemovedBefore = timeOf(70)
		wantOK(t, verify(t, opt))
	})
}
