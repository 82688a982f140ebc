package event

import (
	"fmt"
	"time"
)

// Chain is what must hold from one frame of a series to the next. Writers,
// verification and rebuild share it, so that there is one notion of a valid next
// frame. The zero Segment is invalid; a new series starts at Segment 1, Frame 0,
// Anchored true.
type Chain struct {
	Archive, Source, Lane, Series string

	Segment int  // the segment in which the next frame stands
	Frame   int  // the last frame's number in it; 0: none yet
	Prev    Hash // the last frame's hash
	// Anchored says that what came before is known. Otherwise the next frame's
	// prev, last sequence and times are taken as they are.
	Anchored bool

	Incarnation int
	Last        uint64    // the series' last sequence, within Incarnation
	Greatest    time.Time // the series' greatest timestamp
	Created     time.Time // the stream's creation time in Incarnation; zero: not known
}

// Check says whether f may stand next: nil, *ForeignError for a frame of another
// archive, source or lane, *CorruptError otherwise. That f stands where it says
// and that its body holds is the Scanner's check.
func (c *Chain) Check(f *Frame) error {
	n := &f.Content
	switch {
	case n.Archive != c.Archive:
		return &ForeignError{f.Place.Position, fmt.Sprintf("it belongs to archive %q, not %q", n.Archive, c.Archive)}
	case n.Source != c.Source:
		return &ForeignError{f.Place.Position, fmt.Sprintf("it belongs to source %q, not %q", n.Source, c.Source)}
	case n.Lane != c.Lane:
		return &ForeignError{f.Place.Position, fmt.Sprintf("it belongs to lane %q, not %q", n.Lane, c.Lane)}
	}
	if what := c.wrong(f); what != "" {
		return &CorruptError{f.Place.Position, what}
	}
	return nil
}

// wrong says in words why f cannot be next, "" if it can.
func (c *Chain) wrong(f *Frame) string {
	n := &f.Content
	switch {
	case n.Series != c.Series:
		return fmt.Sprintf("it belongs to series %q, not %q", n.Series, c.Series)
	case n.Segment != c.Segment:
		return fmt.Sprintf("it says segment %d, this is segment %d", n.Segment, c.Segment)
	case n.Frame != c.Frame+1:
		return fmt.Sprintf("it says frame %d, frame %d must follow", n.Frame, c.Frame+1)
	case c.anew(f):
		return ""
	case c.Anchored && n.Prev != c.Prev:
		return fmt.Sprintf("its prev is %s, the frame before has %s", n.Prev, c.Prev)
	case !c.Anchored:
		return ""
	case n.Stream.Incarnation < c.Incarnation:
		return fmt.Sprintf("incarnation %d after %d", n.Stream.Incarnation, c.Incarnation)
	case n.Stream.Incarnation == c.Incarnation && !c.Created.IsZero() && !n.Stream.Created.Equal(c.Created):
		return fmt.Sprintf("the stream's creation time changed within incarnation %d", c.Incarnation)
	}
	if n.Kind != KindData {
		switch {
		case n.Last != c.Last:
			return fmt.Sprintf("it says that the series' last sequence is %d, it is %d", n.Last, c.Last)
		case !n.Greatest.Equal(c.Greatest):
			return "its greatest timestamp is not the series'"
		}
		return ""
	}
	greatest := c.Greatest
	if n.MaxTime.After(greatest) {
		greatest = n.MaxTime
	}
	switch {
	case n.Stream.Incarnation == c.Incarnation && n.First <= c.Last:
		return fmt.Sprintf("its first sequence %d does not come after %d", n.First, c.Last)
	case !n.Greatest.Equal(greatest):
		return "its greatest timestamp is not the greater of its own and the series'"
	}
	return ""
}

// anew reports whether f is a break with no valid frame of its segment before
// it. What stood there is gone, and with it what the break's writer knew it by:
// the break itself says where the series was, and cannot be held against more.
func (c *Chain) anew(f *Frame) bool {
	return f.Content.Kind == KindBreak && f.Content.Valid == 0 && c.Frame == 0
}

// Advance moves the chain behind f, which Check has accepted. Behind a seal or a
// break the next frame is the first of the next segment.
func (c *Chain) Advance(f *Frame) {
	n := &f.Content
	// A seal or a break holds no events: the incarnation of the last event stays,
	// since Last is a sequence of that one.
	if n.Kind == KindData || !c.Anchored || c.anew(f) {
		c.Incarnation, c.Created = n.Stream.Incarnation, n.Stream.Created
		c.Last, c.Greatest = n.Last, n.Greatest
	}
	c.Prev, c.Anchored = f.Hash, true
	if n.Kind == KindData {
		c.Frame = n.Frame
		return
	}
	c.Segment, c.Frame = n.Segment+1, 0
}
