package control

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
)

func stream(incarnation int) event.StreamID {
	return event.StreamID{Name: "S", Created: time.Unix(int64(incarnation), 0).UTC(), Incarnation: incarnation}
}

// begun is a state with layout 1, as if it had been written.
func begun(t testing.TB) State {
	t.Helper()
	s, err := State{}.NewIncarnation(stream(0), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.Number = 1
	return s
}

func granted(t testing.TB, s State, writer string, layout int, horizon, handed uint64) State {
	t.Helper()
	s, err := s.WithHorizon(Grant{Writer: writer, Incarnation: s.Stream.Incarnation, Layout: layout, Horizon: horizon, Handed: handed})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func switched(t testing.TB, s State, n int) State {
	t.Helper()
	s, err := s.SwitchLayout(n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNothingWithoutALog(t *testing.T) {
	var s State
	if _, err := s.WithHorizon(Grant{Writer: "a", Horizon: 1}); !errors.Is(err, ErrNoLog) {
		t.Error(err)
	}
	if _, err := s.SwitchLayout(1); !errors.Is(err, ErrNoLog) {
		t.Error(err)
	}
	if s.Exists() || s.Layout() != 0 || s.LayoutAt(7) != 0 || s.HighestHorizon() != 0 {
		t.Error(s)
	}
}

func TestHorizon(t *testing.T) {
	s := begun(t)
	s = granted(t, s, "a", 1, 100, 0)
	s = granted(t, s, "a", 1, 50, 40) // never falls
	if s.Writers["a"].Horizon != 100 || s.Base != 40 || s.HighestHorizon() != 100 || s.Horizon("a") != 100 || s.Horizon("b") != 40 {
		t.Fatalf("%+v", s)
	}
	before := s.Clone()
	s2 := granted(t, s, "b", 1, 300, 150) // passes a, which is gone
	if _, listed := s2.Writers["a"]; listed || s2.Base != 150 || s2.HighestHorizon() != 300 {
		t.Fatalf("%+v", s2)
	}
	if !reflect.DeepEqual(s, before) {
		t.Fatalf("the older state was changed: %+v", s)
	}
	// A writer is in the list even if it asks for less than Base.
	if s3 := granted(t, s2, "c", 1, 10, 0); s3.Horizon("c") != 150 || s3.HighestHorizon() != 300 {
		t.Fatalf("%+v", s3)
	}
	for want, g := range map[error]Grant{
		ErrNewerLayout:      {Writer: "a", Layout: 2, Horizon: 1},
		ErrNewerIncarnation: {Writer: "a", Layout: 1, Incarnation: 1, Horizon: 1},
	} {
		if _, err := s.WithHorizon(g); !errors.Is(err, want) {
			t.Errorf("%+v: %v", g, err)
		}
	}
}

func TestDone(t *testing.T) {
	s := granted(t, granted(t, begun(t), "a", 1, 100, 0), "b", 1, 80, 0)
	d := s.Done("a", 0, 30)
	if d.HighestHorizon() != 80 || d.Base != 30 || len(d.Writers) != 1 {
		t.Fatalf("%+v", d)
	}
	if d := s.Done("a", 0, 90); d.HighestHorizon() != 90 || len(d.Writers) != 0 {
		t.Fatalf("b was passed: %+v", d)
	}
	for _, same := range []State{s.Done("c", 0, 999), s.Done("a", 1, 999)} {
		if !reflect.DeepEqual(same, s) {
			t.Fatalf("%+v", same)
		}
	}
}

func TestSwitchLayout(t *testing.T) {
	since := func(s State) []Since { return s.Layouts }
	s := granted(t, begun(t), "a", 1, 100, 0)
	s = switched(t, s, 3)
	if want := []Since{{1, 1}, {3, 101}}; !reflect.DeepEqual(since(s), want) {
		t.Fatal(since(s))
	}
	for seq, want := range map[uint64]int{0: 1, 1: 1, 100: 1, 101: 3, 1 << 60: 3} {
		if got := s.LayoutAt(seq); got != want {
			t.Errorf("sequence %d: layout %d, want %d", seq, got, want)
		}
	}
	if same := switched(t, s, 3); !reflect.DeepEqual(same, s) {
		t.Fatal(same)
	}
	if _, err := s.SwitchLayout(2); !errors.Is(err, ErrNewerLayout) {
		t.Fatal(err)
	}
	if _, err := s.WithHorizon(Grant{Writer: "a", Layout: 1, Horizon: 200}); !errors.Is(err, ErrNewerLayout) {
		t.Fatal(err)
	}
	// Nothing was granted under 3: 4 takes its place, and holds from even
	// earlier when the writer turns out to have handed out less.
	if got := since(switched(t, s, 4)); !reflect.DeepEqual(got, []Since{{1, 1}, {4, 101}}) {
		t.Fatal(got)
	}
	if got := since(switched(t, s.Done("a", 0, 60), 4)); !reflect.DeepEqual(got, []Since{{1, 1}, {4, 61}}) {
		t.Fatal(got)
	}
	if got := since(switched(t, begun(t), 2)); !reflect.DeepEqual(got, []Since{{2, 1}}) {
		t.Fatal(got)
	}
}

// A lane that a layout brought begins where the layout did. Another one that takes
// its place unused must not begin below: the lane would never read what is between.
func TestSwitchLayoutAboveTheFloors(t *testing.T) {
	s := granted(t, begun(t), "old", 1, 100, 20)
	s = switched(t, s, 2) // since 101
	s = s.WithTally("1", Tally{Tally: ledger.Tally{From: 101, Floor: 100}})
	s = s.Done("old", 0, 20)
	s = switched(t, s, 3)
	if got := s.Layouts; len(got) != 2 || got[1] != (Since{3, 101}) {
		t.Errorf("layouts %+v, lane 1 begins at 101", got)
	}
}

func TestNewIncarnation(t *testing.T) {
	s := granted(t, begun(t), "a", 1, 100, 50)
	s = switched(t, s, 2).WithTally("l", Tally{Tally: ledger.Tally{From: 1, Floor: 50, Events: 9}})
	if _, err := s.NewIncarnation(stream(0), 2, 1); !errors.Is(err, ErrNewerIncarnation) {
		t.Fatal(err)
	}
	if _, err := s.NewIncarnation(stream(1), 1, 1); !errors.Is(err, ErrNewerLayout) {
		t.Fatal(err)
	}
	n, err := s.NewIncarnation(stream(1), 2, 20)
	if err != nil {
		t.Fatal(err)
	}
	if n.LayoutAt(1) != 2 || n.Base != 19 || len(n.Writers)+len(n.Tallies) != 0 || n.From != 20 || n.Stream != stream(1) {
		t.Fatalf("%+v", n)
	}
	if tally, known := n.Tally("l"); known || tally.From != 20 || tally.Floor != 19 {
		t.Fatal(tally, known)
	}
	if tally, known := s.Tally("l"); !known || tally.Events != 9 {
		t.Fatal(tally, known)
	}
	if _, err := n.WithHorizon(Grant{Writer: "a", Layout: 2, Horizon: 200}); !errors.Is(err, ErrNewerIncarnation) {
		t.Fatal(err)
	}
}

// Instances that crash at every start must not make the line grow for ever.
func TestWritersAreBounded(t *testing.T) {
	s := begun(t)
	var err error
	// Whoever is forgotten may still hand out what it was granted.
	if s, err = s.WithHorizon(Grant{Writer: "first", Layout: 1, Horizon: 5000}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 * maxWriters {
		g := Grant{Writer: fmt.Sprint("w", i), Layout: 1, Horizon: uint64(1000 + i%7), Time: time.Unix(int64(i), 0)}
		if s, err = s.WithHorizon(g); err != nil {
			t.Fatal(err)
		}
		if s.Horizon(g.Writer) < g.Horizon {
			t.Fatalf("%d: %+v", i, s)
		}
	}
	if len(s.Writers) > maxWriters || s.HighestHorizon() != 5000 {
		t.Fatalf("%d writers, highest horizon %d", len(s.Writers), s.HighestHorizon())
	}
}

func TestFollows(t *testing.T) {
	s := switched(t, granted(t, begun(t), "a", 1, 100, 0), 2)
	s = granted(t, s, "a", 2, 200, 0)
	for name, broken := range map[string]func(*State){
		"other layout":        func(n *State) { n.Layouts = []Since{{1, 1}, {3, 101}} },
		"too early":           func(n *State) { n.Layouts = []Since{{1, 1}, {2, 101}, {3, 200}} },
		"other boundary":      func(n *State) { n.Layouts = []Since{{1, 1}, {2, 100}} },
		"forgotten":           func(n *State) { n.Layouts = []Since{{1, 1}} },
		"back an incarnation": func(n *State) { n.Stream.Incarnation-- },
	} {
		n := s.Clone()
		broken(&n)
		if err := s.follows(n); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, n := range []State{s, switched(t, s, 3), s.Done("a", 0, 0), {Stream: stream(1)}} {
		if err := s.follows(n); err != nil {
			t.Errorf("%+v: %v", n, err)
		}
	}
}

// handed remembers under which layout each sequence was handed out.
type handed map[string]int

func (h handed) out(s State, writer string, seq uint64) error {
	if seq > s.Horizon(writer) {
		return fmt.Errorf("the test hands out %d above horizon %d", seq, s.Horizon(writer))
	}
	key := fmt.Sprintf("%d/%d", s.Stream.Incarnation, seq)
	n := s.LayoutAt(seq)
	if was, ok := h[key]; ok && was != n {
		return fmt.Errorf("sequence %s was handed out under layout %d and now by %s under layout %d: %+v", key, was, writer, n, s)
	}
	h[key] = n
	return nil
}

// Writers that come, crash, stand still for long and go on, all on one log, with
// layouts and incarnations changing under them: no sequence under two layouts.
func TestNoSequenceUnderTwoLayouts(t *testing.T) {
	for range 20 { // rapid's own default of 100 is few for what is this quick
		rapid.Check(t, sequenceUnderOneLayout)
	}
}

func sequenceUnderOneLayout(t *rapid.T) {
	type writer struct {
		name   string
		layout int     // newest it knows
		states []State // what it was granted in its life, all still usable
		handed uint64
	}
	log, err := State{}.NewIncarnation(stream(0), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	log.Number = 1
	put := func(n State, err error) bool {
		if err != nil {
			return false
		}
		if err := log.follows(n); err != nil {
			t.Fatal(err)
		}
		n.Number++
		log = n
		return true
	}
	var (
		all     []*writer
		seen    = handed{}
		layouts = 1
		clock   = time.Unix(0, 0)
	)
	pick := func(t *rapid.T) *writer {
		if len(all) == 0 {
			t.Skip("no writers")
		}
		return rapid.SampledFrom(all).Draw(t, "writer")
	}
	small := rapid.Uint64Range(1, 12)
	t.Repeat(map[string]func(*rapid.T){
		"start": func(t *rapid.T) {
			all = append(all, &writer{name: fmt.Sprint("w", len(all)), layout: log.Layout()})
		},
		"raise": func(t *rapid.T) {
			w := pick(t)
			incarnation := log.Stream.Incarnation
			if len(w.states) > 0 {
				incarnation = w.states[0].Stream.Incarnation
			}
			clock = clock.Add(time.Duration(small.Draw(t, "seconds")) * time.Second)
			g := Grant{Writer: w.name, Incarnation: incarnation, Layout: w.layout, Handed: w.handed, Time: clock,
				Horizon: max(w.handed, log.Base) + small.Draw(t, "ahead")}
			if put(log.WithHorizon(g)) {
				w.states = append(w.states, log)
			}
		},
		"hand out": func(t *rapid.T) {
			w := pick(t)
			if len(w.states) == 0 {
				t.Skip("nothing granted")
			}
			s := rapid.SampledFrom(w.states).Draw(t, "state")
			h := s.Horizon(w.name)
			if h == 0 {
				t.Skip("nothing granted")
			}
			seq := rapid.Uint64Range(1, h).Draw(t, "sequence")
			w.handed = max(w.handed, seq)
			if err := seen.out(s, w.name, seq); err != nil {
				t.Fatal(err)
			}
		},
		"stop": func(t *rapid.T) {
			w := pick(t)
			if len(w.states) == 0 {
				t.Skip("nothing granted")
			}
			put(log.Done(w.name, w.states[0].Stream.Incarnation, w.handed), nil)
			w.states, w.handed = nil, 0
		},
		"learn": func(t *rapid.T) { pick(t).layout = log.Layout() },
		"switch": func(t *rapid.T) {
			layouts++
			put(log.SwitchLayout(layouts))
		},
		"recreate": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
				put(log.NewIncarnation(stream(log.Stream.Incarnation+1), log.Layout(), small.Draw(t, "from")))
			}
		},
	})
}
