package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

const firstKey = "p/_ossuary/control/S.000001.jsonl"

func options() Options { return Options{Archive: "a", Prefix: "p/", Source: "S", Writer: "test"} }

func open(t testing.TB, s store, o Options) *Log {
	t.Helper()
	l, err := Open(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func begin(s State) (State, error) { return s.NewIncarnation(stream(0), 1, 1) }

func raise(writer string, horizon uint64) func(State) (State, error) {
	return func(s State) (State, error) {
		return s.WithHorizon(Grant{Writer: writer, Layout: s.Layout(), Incarnation: s.Stream.Incarnation, Horizon: horizon})
	}
}

func update(t testing.TB, l *Log, fn func(State) (State, error)) State {
	t.Helper()
	s, err := l.Update(t.Context(), fn)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newest reads the log as a plain reader does: all objects, all lines, one after
// the other. It returns the IDs of all lines and the last state.
func newest(t testing.TB, s *objecttest.Store) (ids []string, last State) {
	t.Helper()
	for _, key := range s.Keys() {
		if !strings.HasPrefix(key, "p/_ossuary/control/S.") {
			continue
		}
		var at int64
		for _, p := range bytes.SplitAfter(s.Bytes(key), []byte("\n")) {
			var st State
			if bytes.HasSuffix(p, []byte("\n")) && json.Unmarshal(p, &st) == nil && st.Position == at && st.ID != "" {
				if st.Number != last.Number+1 {
					t.Fatalf("%s: line %d follows line %d", key, st.Number, last.Number)
				}
				ids, last = append(ids, st.ID), st
			}
			at += int64(len(p))
		}
	}
	return ids, last
}

// agree checks that a log opened anew and the ones that were there all see what
// the plain reader sees.
func agree(t testing.TB, s *objecttest.Store, logs ...*Log) State {
	t.Helper()
	s.SetFault(nil)
	s.Arrive()
	_, want := newest(t, s)
	want.Next = ""
	for i, l := range append(logs, open(t, s, options())) {
		got, err := l.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		if !bytes.Equal(g, w) {
			t.Fatalf("log %d sees\n%s, the object says\n%s", i, g, w)
		}
	}
	return want
}

func TestUpdate(t *testing.T) {
	s := objecttest.New()
	a, b := open(t, s, options()), open(t, s, options())
	if a.Exists() || a.State().Exists() || a.Key() != firstKey {
		t.Fatal(a.State())
	}
	if _, err := a.Update(t.Context(), raise("a", 5)); !errors.Is(err, ErrNoLog) {
		t.Fatal(err)
	}
	if len(s.Keys()) != 0 {
		t.Fatal(s.Keys())
	}
	update(t, a, begin)
	// b knows of nothing yet: refused, reads forward, decides anew.
	if _, err := b.Update(t.Context(), begin); !errors.Is(err, ErrNewerIncarnation) {
		t.Fatal(err)
	}
	update(t, b, raise("b", 10))
	st := update(t, a, raise("a", 20))
	if st.Writers["a"].Horizon != 20 || st.Writers["b"].Horizon != 10 || st.Number != 3 || st.Writer != "test" {
		t.Fatalf("%+v", st)
	}
	if st, err := b.Refresh(t.Context()); err != nil || st.Number != 3 || !reflect.DeepEqual(st, b.State()) {
		t.Fatal(st, err)
	}
	// Nothing to change, nothing written; but the newest state is what counts.
	before := s.Bytes(firstKey)
	update(t, a, func(s State) (State, error) { return s.SwitchLayout(1) })
	if !bytes.Equal(before, s.Bytes(firstKey)) {
		t.Fatal("an unchanged state was written")
	}
	update(t, a, func(s State) (State, error) { return s.SwitchLayout(2) })
	if st := update(t, b, func(s State) (State, error) { return s.SwitchLayout(2) }); st.Layout() != 2 {
		t.Fatal(st)
	}
	// What was refused for what was known is asked of the newest state.
	update(t, a, func(s State) (State, error) { return s.SwitchLayout(3) })
	if st := update(t, b, func(s State) (State, error) { return s.WithHorizon(Grant{Writer: "b", Layout: 3, Horizon: 50}) }); st.Writers["b"].Horizon != 50 {
		t.Fatal(st)
	}
	if _, err := b.Update(t.Context(), func(s State) (State, error) { s.Layouts[0].Layout = 9; return s, nil }); err == nil {
		t.Fatal("a layout was changed after the fact")
	}
	agree(t, s, a, b)
}

// Foreign bytes are passed over, whether a newline ends them or not.
func TestGarbage(t *testing.T) {
	whole := func(position int64, id string) []byte {
		s := begun(t)
		s.Version, s.Position, s.ID, s.Archive, s.Source, s.Number = 1, position, id, "a", "S", 2
		s.Base = 4711
		p, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, junk := range map[string]func(at int64) []byte{
		"text":         func(int64) []byte { return []byte("hello") },
		"text lines":   func(int64) []byte { return []byte("hello\n\n{}\nnull\n{\"v\":1}\n") },
		"binary":       func(int64) []byte { return bytes.Repeat([]byte{0, 255, '\n', '{'}, 100_000) },
		"long":         func(int64) []byte { return bytes.Repeat([]byte("x"), maxLine+5) },
		"very long":    func(int64) []byte { return bytes.Repeat([]byte("y"), lastWindow+2*maxLine) },
		"half a line":  func(at int64) []byte { return whole(at, "x")[:80] },
		"no newline":   func(at int64) []byte { return whole(at, "x") },
		"other place":  func(at int64) []byte { return append(whole(at+1, "x"), '\n') },
		"line of text": func(at int64) []byte { return append(append([]byte("#"), whole(at+1, "x")...), '\n') },
	} {
		t.Run(name, func(t *testing.T) {
			s := objecttest.New()
			a := open(t, s, options())
			update(t, a, begin)
			b := open(t, s, options())
			s.AppendRaw(firstKey, junk(int64(len(s.Bytes(firstKey)))))
			c := open(t, s, options())
			for i, l := range []*Log{c, b, a} { // c came after the junk, b and a run into it
				if st := update(t, l, raise("w", uint64(i+1))); st.Base != 0 || st.Number != i+2 {
					t.Fatalf("%+v", st)
				}
			}
			agree(t, s, a, b, c)
		})
	}
	t.Run("nothing but", func(t *testing.T) {
		s := objecttest.New()
		s.AppendRaw(firstKey, []byte("junk"))
		a := open(t, s, options())
		if a.Exists() {
			t.Fatal(a.State())
		}
		update(t, a, begin)
		agree(t, s, a)
	})
}

// Bytes that come in pieces are a line or not, the same for all readers.
func TestLineInPieces(t *testing.T) {
	s := objecttest.New()
	a := open(t, s, options())
	update(t, a, begin)
	_, st := newest(t, s)
	st.Position, st.ID, st.Number, st.Base = int64(len(s.Bytes(firstKey))), "x", 2, 4711
	line, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{line[:40], line[40:], []byte("\n")} {
		s.AppendRaw(firstKey, p)
		agree(t, s, a, open(t, s, options()))
	}
	if st := a.State(); st.Base != 4711 {
		t.Fatalf("%+v", st)
	}
}

// A line whose newline was cut off must not become one when the next writer, who
// did not see it, goes on behind it.
func TestTornLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := objecttest.New()
		a, b := open(t, s, options()), open(t, s, options())
		update(t, a, begin)
		s.SetFault(func(op, key string, n int) objecttest.Fault {
			if op != "append" {
				return objecttest.Fault{}
			}
			s.SetFault(func(op, key string, n int) objecttest.Fault {
				// The append has landed: cut it before anybody looks.
				s.SetFault(nil)
				s.Truncate(key, int64(len(s.Bytes(key)))-1)
				if st := update(t, b, raise("b", 7)); st.Horizon("a") != 0 {
					t.Errorf("%+v", st)
				}
				return objecttest.Fault{}
			})
			return objecttest.Lost()
		})
		st := update(t, a, raise("a", 100))
		if st.Writers["a"].Horizon != 100 || st.Writers["b"].Horizon != 7 || st.Number != 3 {
			t.Fatalf("%+v", st)
		}
		agree(t, s, a, b)
	})
}

func TestBlocked(t *testing.T) {
	line := func(t *testing.T, change func(*State)) func(*objecttest.Store) {
		return func(s *objecttest.Store) {
			_, st := newest(t, s)
			st.Position, st.ID = int64(len(s.Bytes(firstKey))), "other"
			change(&st)
			p, err := json.Marshal(st)
			if err != nil {
				t.Fatal(err)
			}
			s.AppendRaw(firstKey, append(p, '\n'))
		}
	}
	for name, c := range map[string]struct {
		spoil  func(*objecttest.Store)
		reopen bool // whether opening is blocked too
	}{
		"another archive": {line(t, func(s *State) { s.Archive = "b" }), true},
		"another source":  {line(t, func(s *State) { s.Source = "T" }), true},
		"newer version":   {line(t, func(s *State) { s.Version = 2 }), true},
		"odd next":        {line(t, func(s *State) { s.Next = "q/_ossuary/control/S.000002.jsonl" }), true},
		"gone":            {func(s *objecttest.Store) { s.Delete(firstKey) }, false},
		"shorter":         {func(s *objecttest.Store) { s.Truncate(firstKey, 10) }, false},
		"other bytes":     {func(s *objecttest.Store) { s.Flip(firstKey, 20) }, false},
		"put": {func(s *objecttest.Store) {
			p := s.Bytes(firstKey)
			s.Put(firstKey, append(p, "x\n"...))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := objecttest.New()
				a := open(t, s, options())
				update(t, a, begin)
				c.spoil(s)
				before := s.Bytes(firstKey)
				var blocked *BlockedError
				if _, err := a.Refresh(t.Context()); !errors.As(err, &blocked) || blocked.Key != firstKey || blocked.Mend == "" {
					t.Errorf("refresh: %v", err)
				}
				if _, err := a.Update(t.Context(), raise("a", 5)); err == nil {
					t.Error("update went through")
				}
				if _, err := Open(t.Context(), s, options()); c.reopen != errors.As(err, &blocked) {
					t.Errorf("open: %v", err)
				}
				if !bytes.Equal(s.Bytes(firstKey), before) {
					t.Error("the object was written")
				}
			})
		})
	}
}

func TestStoreRefuses(t *testing.T) {
	s := objecttest.New()
	a := open(t, s, options())
	update(t, a, begin)
	s.SetFault(func(string, string, int) objecttest.Fault { return objecttest.Hold() })
	if _, err := a.Update(t.Context(), raise("a", 5)); object.KindOf(err) != object.Refused {
		t.Error(err)
	}
	if _, err := a.Refresh(t.Context()); object.KindOf(err) != object.Refused {
		t.Error(err)
	}
	if _, err := Open(t.Context(), s, options()); object.KindOf(err) != object.Refused {
		t.Error(err)
	}
	s.SetFault(nil)
	update(t, a, raise("a", 5))
	s.Lock(firstKey)
	if _, err := a.Update(t.Context(), raise("a", 6)); object.KindOf(err) != object.Unappendable {
		t.Error(err)
	}
}

// An update that was given up on may land later; nobody is confused by it.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := objecttest.New()
		a, b := open(t, s, options()), open(t, s, options())
		update(t, a, begin)
		s.SetFault(func(op, _ string, _ int) objecttest.Fault {
			if op == "append" {
				return objecttest.Late()
			}
			return objecttest.NotApplied()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if _, err := a.Update(ctx, raise("a", 50)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Minute {
			t.Fatal(took)
		}
		s.SetFault(nil)
		s.Arrive()
		if st := update(t, b, raise("b", 1)); st.Writers["a"].Horizon != 50 {
			t.Fatalf("%+v", st)
		}
		agree(t, s, a, b)
	})
}

func TestRoll(t *testing.T) {
	s := objecttest.New()
	o := options()
	o.Roll = 1000
	a := open(t, s, o)
	update(t, a, begin)
	zombie := open(t, s, o)
	for i := range 40 {
		update(t, a, raise("a", uint64(i)))
	}
	if n := len(s.Keys()); n < 10 || a.Key() == firstKey {
		t.Fatalf("%d objects, at %s", n, a.Key())
	}
	for _, key := range s.Keys() {
		if c, _ := s.Created(key); c.ContentType != "application/x-ndjson" || len(s.Bytes(key)) > 2000 {
			t.Fatal(key, c, len(s.Bytes(key)))
		}
	}
	if st := update(t, zombie, raise("z", 3)); st.Writers["a"].Horizon != 39 || zombie.Key() != a.Key() && zombie.State().Number != 42 {
		t.Fatalf("%+v", st)
	}
	agree(t, s, a, zombie)
	// Old objects are not needed, nor is the newest before its first line.
	for _, key := range s.Keys()[:5] {
		s.Delete(key)
	}
	keys := s.Keys()
	s.AppendRaw(fmt.Sprintf("p/_ossuary/control/S.%06d.jsonl", len(keys)+20), []byte("junk\n"))
	b := open(t, s, o)
	if !reflect.DeepEqual(b.State().Writers, zombie.State().Writers) {
		t.Fatalf("%+v", b.State())
	}
	for i := range 60 { // over the junk too
		update(t, b, raise("b", uint64(100+i)))
	}
	if st, err := a.Refresh(t.Context()); err != nil || st.Writers["b"].Horizon != 159 {
		t.Fatal(st, err)
	}
}

// Only the end of the log is read.
func TestOpenReadsTheEnd(t *testing.T) {
	s := objecttest.New()
	a := open(t, s, options())
	update(t, a, begin)
	for i := range 2000 {
		update(t, a, raise("a", uint64(i)))
	}
	before := s.Operations()
	agree(t, s, a)
	if n := s.Operations() - before; n > 8 {
		t.Fatalf("%d operations", n)
	}
}

func TestLayouts(t *testing.T) {
	s := objecttest.New()
	ctx := t.Context()
	save := func(content string, current, want int) {
		t.Helper()
		if n, err := SaveLayout(ctx, s, "p/", []byte(content), current); err != nil || n != want {
			t.Fatalf("%q over %d: %d %v, want %d", content, current, n, err, want)
		}
	}
	save("A", 0, 1)
	save("A", 1, 1)
	save("B", 1, 2)
	save("A", 2, 3) // back to A: numbers only rise
	save("B", 1, 2)
	save("B", 0, 2)
	s.Delete("p/_ossuary/layout/2.json")
	save("C", 1, 4) // a hole is not filled: it held something once
	save("D", 9, 10)
	if p, err := LoadLayout(ctx, s, "p/", 3); err != nil || string(p) != "A" {
		t.Fatalf("%q %v", p, err)
	}
	if _, err := LoadLayout(ctx, s, "p/", 2); object.KindOf(err) != object.NotFound {
		t.Fatal(err)
	}
	if _, err := SaveLayout(ctx, s, "p/", nil, 1); err == nil {
		t.Fatal("an empty layout was saved")
	}
	s.AppendRaw("p/_ossuary/layout/x.json", []byte("x"))
	s.AppendRaw("p/_ossuary/layout/0011.json", []byte("x"))
	if all, err := Layouts(ctx, s, "p/"); err != nil || !reflect.DeepEqual(all, []int{1, 3, 4, 10}) {
		t.Fatal(all, err)
	}
}

func TestLayoutFaults(t *testing.T) {
	for name, f := range map[string]objecttest.Fault{
		"not applied": objecttest.NotApplied(), "lost": objecttest.Lost(), "late": objecttest.Late(), "garbled": objecttest.GarbledCRC(),
	} {
		for n := 1; n <= 4; n++ {
			synctest.Test(t, func(t *testing.T) {
				s := objecttest.New()
				s.AppendRaw("p/_ossuary/layout/1.json", []byte("A"))
				s.Fault = objecttest.OnNth(n, f)
				for range 2 {
					got, err := SaveLayout(t.Context(), s, "p/", []byte("B"), 1)
					if err != nil || got != 2 {
						t.Fatalf("%s at %d: %d %v", name, n, got, err)
					}
				}
				s.Arrive()
				if len(s.Keys()) != 2 {
					t.Fatalf("%s at %d: %v", name, n, s.Keys())
				}
			})
		}
	}
}

// garbling is a store that keeps other bytes than it was given, once.
type garbling struct {
	*objecttest.Store
	done bool
}

func (g *garbling) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	if !g.done {
		g.done = true
		body = body.Clone()
		body[0][0] ^= 1
	}
	return g.Store.Append(ctx, key, position, body, c)
}

// A layout whose bytes went wrong on their way to the store is none.
func TestLayoutOfOtherBytes(t *testing.T) {
	s := &garbling{Store: objecttest.New()}
	n, err := SaveLayout(t.Context(), s, "p/", []byte("A"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := LoadLayout(t.Context(), s, "p/", n); err != nil || string(p) != "A" {
		t.Errorf("layout %d is %q, %v", n, p, err)
	}
}

// misread is a store whose first read gives a wrong byte.
type misread struct {
	*objecttest.Store
	done bool
}

func (m *misread) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	r, err := m.Store.Read(ctx, key, from, to)
	if err != nil || m.done {
		return r, err
	}
	m.done = true
	p, err := io.ReadAll(r)
	if len(p) > 0 {
		p[0] ^= 1
	}
	return io.NopCloser(bytes.NewReader(p)), err
}

// Nothing is archived by a layout that went wrong on its way here.
func TestLayoutReadWrongly(t *testing.T) {
	s := &misread{Store: objecttest.New()}
	s.AppendRaw("p/_ossuary/layout/1.json", []byte("A"))
	if p, err := LoadLayout(t.Context(), s, "p/", 1); err != nil || string(p) != "A" || !s.done {
		t.Errorf("layout 1 is %q, %v", p, err)
	}
}

// A state that makes a longer line than readers take is not written: nobody would
// find a line behind it.
func TestLongLine(t *testing.T) {
	s := objecttest.New()
	a := open(t, s, options())
	update(t, a, begin)
	before := s.Bytes(firstKey)
	if _, err := a.Update(t.Context(), func(s State) (State, error) {
		return s.WithTally(strings.Repeat("x", maxLine), Tally{}), nil
	}); err == nil {
		t.Error("it was written")
	}
	if !bytes.Equal(s.Bytes(firstKey), before) {
		t.Error("the object has changed")
	}
	update(t, a, raise("a", 5))
	agree(t, s, a)
}
