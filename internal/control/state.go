package control

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
)

// Version is the version of a line; a reader refuses a higher one.
const Version = 1

var (
	// ErrNewerLayout: the log says that a newer layout holds than the caller
	// knows of. The caller keeps what it was granted and gets no more.
	ErrNewerLayout = errors.New("control: a newer layout holds")
	// ErrNewerIncarnation: the log has gone on to a newer incarnation of the
	// stream than the caller's.
	ErrNewerIncarnation = errors.New("control: a newer incarnation of the stream has begun")
	// ErrNoLog: there is no control log yet, or not any more.
	ErrNoLog = errors.New("control: there is no control log")
)

// Since says from which sequence on a layout holds.
type Since struct {
	Layout int    `json:"layout"`
	Since  uint64 `json:"since"`
}

// Writer is what was granted to one writer.
type Writer struct {
	Horizon uint64    `json:"horizon"` // the highest sequence it may hand out
	Layout  int       `json:"layout"`  // the newest layout when it was granted; for people
	Updated time.Time `json:"updated"`
}

// Tally is a lane's tally with the timestamp of the message at its floor.
type Tally struct {
	ledger.Tally
	FloorTime time.Time `json:"floor_time,omitzero"`
}

// State is one line of the control log: the whole state after one update.
// States are values: the methods return changed copies, and whoever gets one
// must not write into its maps.
type State struct {
	Version  int    `json:"v"`
	Position int64  `json:"pos"` // byte offset at which this line stands in its object
	Number   int    `json:"n"`   // counts the log's lines from 1, over all its objects
	ID       string `json:"id"`  // of the update, by which its writer knows it again

	Archive string         `json:"archive"`
	Source  string         `json:"source"`
	Stream  event.StreamID `json:"stream"`

	From    uint64            `json:"from"`    // first sequence of this incarnation that is archived at all
	Layouts []Since           `json:"layouts"` // of this incarnation, Since rising
	Writers map[string]Writer `json:"writers,omitempty"`
	Base    uint64            `json:"base"` // up to here, writers that are not listed may have handed out
	Tallies map[string]Tally  `json:"tallies,omitempty"`

	Next    string    `json:"next,omitempty"` // key of the object in which the log goes on
	Updated time.Time `json:"updated"`
	Writer  string    `json:"writer,omitempty"` // instance that wrote the line
}

// Grant is what a writer asks for with State.WithHorizon.
type Grant struct {
	Writer      string // names one run of one lane in one process; never used again by another
	Incarnation int    // of the stream, as the writer believes
	Layout      int    // the newest layout that the writer knows
	Horizon     uint64 // the highest sequence it wants to hand out
	Handed      uint64 // the highest sequence it has handed out so far
	Time        time.Time
}

// maxWriters bounds the list of writers. Beyond it those that were granted
// something longest ago are forgotten, which is always safe: Base rises to their
// horizon.
const maxWriters = 32

// Exists reports whether the state is one that stands in a log.
func (s State) Exists() bool { return s.Number > 0 }

// Layout is the newest layout's number, 0 if there is none.
func (s State) Layout() int {
	if len(s.Layouts) == 0 {
		return 0
	}
	return s.Layouts[len(s.Layouts)-1].Layout
}

// LayoutAt is the number of the layout that holds at a sequence. It is settled
// for every sequence up to HighestHorizon, and may change above.
func (s State) LayoutAt(seq uint64) int {
	n := 0
	for i, e := range s.Layouts {
		if i > 0 && e.Since > seq {
			break
		}
		n = e.Layout
	}
	return n
}

// HighestHorizon is the highest sequence that anybody may have handed out, or may
// yet hand out, on the strength of what was granted.
func (s State) HighestHorizon() uint64 {
	h := s.Base
	for _, w := range s.Writers {
		h = max(h, w.Horizon)
	}
	return h
}

// Horizon is the highest sequence that the writer may hand out on the strength of
// this state: its own horizon or Base, below which all layouts are settled too.
func (s State) Horizon(writer string) uint64 {
	return max(s.Base, s.Writers[writer].Horizon)
}

// Tally is a lane's tally; for a lane that has none, one that ends just before
// the incarnation's first sequence.
func (s State) Tally(lane string) (t Tally, known bool) {
	if t, known = s.Tallies[lane]; !known {
		t.From = s.From
		if s.From > 0 {
			t.Floor = s.From - 1
		}
	}
	return t, known
}

// WithTally sets a lane's tally.
func (s State) WithTally(lane string, t Tally) State {
	s = s.Clone()
	if s.Tallies == nil {
		s.Tallies = make(map[string]Tally)
	}
	s.Tallies[lane] = t
	return s
}

// WithHorizon grants g, or refuses it with ErrNoLog, ErrNewerIncarnation or
// ErrNewerLayout. A horizon never falls by it.
func (s State) WithHorizon(g Grant) (State, error) {
	switch {
	case len(s.Layouts) == 0:
		return s, ErrNoLog
	case s.Stream.Incarnation != g.Incarnation:
		return s, ErrNewerIncarnation
	case s.Layout() != g.Layout:
		return s, ErrNewerLayout
	}
	s = s.Clone()
	if s.Writers == nil {
		s.Writers = make(map[string]Writer)
	}
	s.Writers[g.Writer] = Writer{
		Horizon: max(g.Horizon, s.Writers[g.Writer].Horizon),
		Layout:  g.Layout,
		Updated: g.Time,
	}
	s.Base = max(s.Base, g.Handed)
	s.forget(g.Writer)
	return s, nil
}

// Done takes the writer from the list: it hands out nothing more and has handed
// out no sequence above handed. In another incarnation there is nothing to take
// back, and s stays as it is.
//
// A writer that has called Update with Done must not hand out anything on the
// strength of an older grant, whatever Update returned: the line may yet appear.
func (s State) Done(writer string, incarnation int, handed uint64) State {
	if _, listed := s.Writers[writer]; !listed || s.Stream.Incarnation != incarnation {
		return s
	}
	s = s.Clone()
	delete(s.Writers, writer)
	s.Base = max(s.Base, handed)
	s.forget("")
	return s
}

// SwitchLayout makes layout n hold from above the highest horizon on, and above
// every lane's floor: a lane that is new with a layout has one just below it, and
// never reads what is under it. A layout that holds already is left; one older
// than what holds is ErrNewerLayout.
func (s State) SwitchLayout(n int) (State, error) {
	switch {
	case len(s.Layouts) == 0:
		return s, ErrNoLog
	case s.Layout() == n:
		return s, nil
	case s.Layout() > n:
		return s, ErrNewerLayout
	}
	s = s.Clone()
	since := s.HighestHorizon() + 1
	for _, t := range s.Tallies {
		since = max(since, t.Floor+1)
	}
	// A layout that was to begin at since or above it has never been granted a
	// sequence: the new one takes its place.
	for len(s.Layouts) > 1 && s.Layouts[len(s.Layouts)-1].Since >= since {
		s.Layouts = s.Layouts[:len(s.Layouts)-1]
	}
	if last := &s.Layouts[len(s.Layouts)-1]; last.Since >= since {
		last.Layout = n
	} else {
		s.Layouts = append(s.Layouts, Since{Layout: n, Since: since})
	}
	return s, nil
}

// NewIncarnation begins a life of the stream: one layout from the start, no
// writers, no tallies. from is the first sequence that is to be archived, at
// least 1. An incarnation that the log has reached or passed is
// ErrNewerIncarnation: somebody else was quicker, or knows more.
//
// A stream that was rewound (id has the creation time of before) keeps messages
// that are archived already and come again: their layouts hold on, or they would
// be archived a second time, in other series. layout then begins above everything
// that may have been handed out.
func (s State) NewIncarnation(id event.StreamID, layout int, from uint64) (State, error) {
	if s.Exists() && s.Stream.Incarnation >= id.Incarnation {
		return s, ErrNewerIncarnation
	}
	if layout < s.Layout() {
		return s, ErrNewerLayout
	}
	rewound := s.Exists() && len(s.Layouts) > 0 && s.Stream.Created.Equal(id.Created)
	if rewound {
		var err error
		if s, err = s.SwitchLayout(layout); err != nil {
			return s, err
		}
	}
	s = s.Clone()
	highest := s.HighestHorizon()
	s.Stream = id
	s.From = max(from, 1)
	s.Base = s.From - 1
	if rewound {
		s.Base = max(s.Base, highest)
	} else {
		s.Layouts = []Since{{Layout: layout, Since: 1}}
	}
	s.Writers, s.Tallies = nil, nil
	return s, nil
}

// Clone copies s with all that it refers to.
func (s State) Clone() State {
	s.Layouts = slices.Clone(s.Layouts)
	s.Writers = maps.Clone(s.Writers)
	s.Tallies = maps.Clone(s.Tallies)
	return s
}

// forget drops writers whose horizon Base has passed, and those granted longest
// ago when there are too many; never keep. s owns its map.
func (s *State) forget(keep string) {
	for name, w := range s.Writers {
		if w.Horizon <= s.Base && name != keep {
			delete(s.Writers, name)
		}
	}
	for len(s.Writers) > maxWriters {
		oldest := ""
		for name, w := range s.Writers {
			if name == keep {
				continue
			}
			o := s.Writers[oldest]
			if c := w.Updated.Compare(o.Updated); oldest == "" || c < 0 || c == 0 && name < oldest {
				oldest = name
			}
		}
		s.Base = max(s.Base, s.Writers[oldest].Horizon)
		delete(s.Writers, oldest)
	}
}

// follows reports an error if next may not come after s: if it would let a
// sequence that was possibly handed out under one layout be handed out under
// another. It guards the rule against whatever an update function does.
func (s State) follows(next State) error {
	switch {
	case !s.Exists() || next.Stream.Incarnation > s.Stream.Incarnation:
		return nil
	case next.Stream.Incarnation < s.Stream.Incarnation:
		return errors.New("control: an update would go back to an older incarnation")
	}
	h := s.HighestHorizon()
	for _, e := range append([]Since{{Since: 1}, {Since: h}}, append(s.Layouts, next.Layouts...)...) {
		if 0 < e.Since && e.Since <= h && s.LayoutAt(e.Since) != next.LayoutAt(e.Since) {
			return fmt.Errorf("control: an update would put sequence %d under layout %d, it may have been handed out under layout %d",
				e.Since, next.LayoutAt(e.Since), s.LayoutAt(e.Since))
		}
	}
	return nil
}
