package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"ossuary/internal/ledger"
	"ossuary/internal/object/objecttest"
)

// placed is text with POS replaced, in each line, by where the line begins.
func placed(text string) []byte {
	var out []byte
	for line := range strings.Lines(text) {
		out = append(out, strings.ReplaceAll(line, "POS", fmt.Sprint(len(out)))...)
	}
	return out
}

// sampleLine is a line as it is written, to be placed anywhere.
func sampleLine(t testing.TB, change func(*State)) string {
	s := begun(t)
	s.Version, s.ID, s.Archive, s.Source = Version, "x", "a", "S"
	change(&s)
	p, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(p), `"pos":0`, `"pos":POS`, 1) + "\n"
}

// FuzzLog reads an object of any bytes. One who reads it from its end, one who
// reads it forward, and one who came while half of it was there see the same; who
// may write goes on behind it, and all see that too; who may not, writes nothing.
func FuzzLog(f *testing.F) {
	line := sampleLine(f, func(*State) {})
	f.Add(line, 10)
	f.Add(line+sampleLine(f, func(s *State) { s.Number, s.Base = 2, 7 }), 200)
	f.Add("junk\n"+line+"{\"v\":1", 0)
	f.Add(line+sampleLine(f, func(s *State) { s.Next = "p/_ossuary/control/S.000002.jsonl" })+line, 300)
	f.Add(sampleLine(f, func(s *State) { s.Archive = "b" }), 5)
	f.Add(sampleLine(f, func(s *State) { s.Archive = "b" })+line, 250)
	f.Add(`{"v":2,"pos":POS}`+"\n", 3)
	f.Add(`{"v":1,"pos":POS,"n":1,"id":"x","archive":"a","source":"S","stream":{"inc":-1},"layouts":[{"layout":-3,"since":18446744073709551615}],"base":18446744073709551615}`+"\n", 3)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		p := placed(text)
		s := objecttest.New()
		early, half := open(t, s, options()), open(t, s, options())
		if cut = min(max(cut, 0), len(p)); cut > 0 {
			s.AppendRaw(firstKey, p[:cut])
		}
		_, _ = half.Refresh(t.Context()) // may be blocked, for now
		if cut < len(p) {
			s.AppendRaw(firstKey, p[cut:])
		}
		late, err := Open(t.Context(), s, options())
		want := State{}
		if err == nil {
			want = late.State()
		}
		blocked := isBlocked(t, err)
		logs := []*Log{early, half}
		for i, l := range logs {
			got, err := l.Refresh(t.Context())
			if isBlocked(t, err) != blocked || !blocked && !reflect.DeepEqual(got, want) {
				t.Fatalf("log %d sees %+v, %v; one that is opened now %+v, blocked: %v", i, got, err, want, blocked)
			}
		}
		if want.Exists() {
			plain(t, p, want)
		}
		if blocked {
			for _, l := range logs {
				if _, err := l.Update(t.Context(), raise("w", 5)); err == nil {
					t.Fatal("written to a log that is blocked")
				}
			}
			if !bytes.Equal(s.Bytes(firstKey), p) || len(s.Keys()) != 1 {
				t.Fatal("written to a log that is blocked")
			}
			return
		}
		logs = append(logs, late)
		for i, l := range logs {
			st, err := l.Update(t.Context(), func(st State) (State, error) {
				if !st.Exists() {
					return begin(st)
				}
				return st.WithTally("fuzz", Tally{Tally: ledger.Tally{Events: uint64(i + 1), From: st.Tallies["fuzz"].Events}}), nil
			})
			if err != nil {
				continue // too long, or what stands there may not be followed
			}
			for j, other := range append(logs, open(t, s, options())) {
				if got, err := other.Refresh(t.Context()); err != nil || got.ID != st.ID || got.Number != st.Number {
					t.Fatalf("log %d has written line %d (%s), log %d sees %d (%s): %v", i, st.Number, st.ID, j, got.Number, got.ID, err)
				}
			}
		}
		if !bytes.HasPrefix(s.Bytes(firstKey), p) {
			t.Fatal("what stood there has changed")
		}
	})
}

func isBlocked(t *testing.T, err error) bool {
	t.Helper()
	var b *BlockedError
	if err != nil && !errors.As(err, &b) {
		t.Fatal(err)
	}
	return err != nil
}

// plain asserts that a line of p says so: where it stands, and whose it is.
func plain(t *testing.T, p []byte, want State) {
	t.Helper()
	at := 0
	for line := range bytes.Lines(p) {
		var v struct {
			V               int
			Pos             int
			N               int
			ID              string
			Archive, Source string
		}
		if json.Unmarshal(line, &v) == nil && v.ID == want.ID && v.N == want.Number && v.Pos == at && v.V == Version && v.Archive == "a" && v.Source == "S" {
			return
		}
		at += len(line)
	}
	t.Fatalf("no line says %+v", want)
}

// FuzzState takes any line's state as the newest and has writers go on from it:
// whatever it holds, nothing that may have been handed out comes under another
// layout, and no horizon falls.
func FuzzState(f *testing.F) {
	f.Add(sampleLine(f, func(*State) {}), "w", uint64(10), uint64(3), 1, 2)
	f.Add(sampleLine(f, func(s *State) {
		s.Layouts = []Since{{1, 1}, {3, 8}, {2, 5}}
		s.Writers = map[string]Writer{"w": {Horizon: 9}, "x": {Horizon: math.MaxUint64}}
		s.Tallies = map[string]Tally{"0": {Tally: ledger.Tally{Floor: math.MaxUint64}}}
	}), "w", uint64(10), uint64(30), 2, 4)
	f.Fuzz(func(t *testing.T, line, writer string, horizon, handed uint64, layout, next int) {
		var s State
		if json.Unmarshal([]byte(strings.ReplaceAll(line, "POS", "0")), &s) != nil {
			return
		}
		before, err := json.Marshal(s)
		if err != nil {
			return // a time beyond year 9999
		}
		l := &Log{}
		for what, fn := range map[string]func(State) (State, error){
			"grant": func(s State) (State, error) {
				return s.WithHorizon(Grant{Writer: writer, Incarnation: s.Stream.Incarnation, Layout: layout, Horizon: horizon, Handed: handed, Time: time.Unix(0, 0)})
			},
			"done":   func(s State) (State, error) { return s.Done(writer, s.Stream.Incarnation, handed), nil },
			"switch": func(s State) (State, error) { return s.SwitchLayout(next) },
			"begin": func(s State) (State, error) {
				return s.NewIncarnation(stream(s.Stream.Incarnation+1), next, horizon)
			},
		} {
			n, err := fn(s)
			if after, _ := json.Marshal(s); !bytes.Equal(before, after) {
				t.Fatalf("%s has changed %s to %s", what, before, after)
			}
			if err != nil || l.admissible(s, n) != nil || !s.Exists() || n.Stream.Incarnation != s.Stream.Incarnation {
				continue
			}
			h := s.HighestHorizon()
			for _, seq := range []uint64{1, h / 2, h - 1, h, horizon, handed} {
				if 1 <= seq && seq <= h && s.LayoutAt(seq) != n.LayoutAt(seq) {
					t.Fatalf("%s puts %d under layout %d, it was under %d: %s", what, seq, n.LayoutAt(seq), s.LayoutAt(seq), before)
				}
			}
			if n.Base < s.Base || what == "grant" && n.HighestHorizon() < h {
				t.Fatalf("%s takes back what was granted: %+v after %s", what, n, before)
			}
			if what == "grant" && n.Horizon(writer) < horizon {
				t.Fatalf("granted %d, may hand out %d: %s", horizon, n.Horizon(writer), before)
			}
		}
	})
}
