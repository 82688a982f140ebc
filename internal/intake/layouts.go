package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/router"
)

// segment is a stretch of the stream under one layout.
type segment struct {
	since  uint64
	layout int
	router *router.Router // nil: the layout has no such lane, its events are another lane's
}

// plan says which layout holds at a sequence, for one epoch. It is used by one
// goroutine at a time.
type plan struct {
	segments []segment
	now      int // of the last answer
}

func (p *plan) at(seq uint64) *segment {
	for p.now > 0 && seq < p.segments[p.now].since {
		p.now--
	}
	for p.now+1 < len(p.segments) && seq >= p.segments[p.now+1].since {
		p.now++
	}
	return &p.segments[p.now]
}

// filters are the subjects that the lane's consumer has to take to see every
// event above the floor that is the lane's under one of the layouts; nil means
// all. With all set, layouts count that hold below the floor only.
func (p *plan) filters(floor uint64, all bool) []string {
	var subjects []string
	for i, s := range p.segments {
		if !all && i+1 < len(p.segments) && p.segments[i+1].since <= floor+1 {
			continue
		}
		if s.router != nil {
			subjects = append(subjects, s.router.Filters()...)
		}
	}
	set := router.Union(subjects)
	if slices.Contains(set, ">") {
		return nil
	}
	return set
}

// plan reads the layouts that the control log names.
func (l *Lane) plan(ctx context.Context, st control.State) (*plan, error) {
	p := new(plan)
	mine := false
	for _, s := range st.Layouts {
		r, err := l.routerOf(ctx, s.Layout)
		if err != nil {
			return nil, err
		}
		mine = mine || r != nil
		p.segments = append(p.segments, segment{since: s.Since, layout: s.Layout, router: r})
	}
	if !mine {
		return nil, &FatalError{What: fmt.Sprintf("no layout of source %s has a lane %q", l.opt.Source, l.opt.Lane),
			Mend: "run a lane that the configuration has"}
	}
	return p, nil
}

// routerOf compiles layout n for this lane; nil if the layout has no such lane.
func (l *Lane) routerOf(ctx context.Context, n int) (*router.Router, error) {
	if r, ok := l.routers[n]; ok {
		return r, nil
	}
	layout, err := l.loadLayout(ctx, n)
	if err != nil {
		return nil, err
	}
	var r *router.Router
	if slices.Contains(layout.LaneNames(), l.opt.Lane) {
		if r, err = router.NewLane(layout, l.opt.Lane); err != nil {
			return nil, fmt.Errorf("compiling layout %d: %w", n, err)
		}
	}
	l.routers[n], l.lanes[n] = r, len(layout.LaneNames())
	return r, nil
}

// resplit refuses another number of lanes where it would cost events. What an
// older layout gives to a lane is archived by that lane only: without it, what it
// has not come to stays behind. And where an acknowledgement deletes, a lane that
// is new would need its consumer before the first message that is its own, while
// the old lane, which takes that message too, acknowledges it for nobody; a work
// queue does not even allow the two.
func (l *Lane) resplit(ctx context.Context, st control.State, retention jetstream.RetentionPolicy) error {
	own := len(l.opt.Layout.LaneNames())
	for _, s := range st.Layouts {
		if _, err := l.routerOf(ctx, s.Layout); err != nil {
			return err
		}
		switch had := l.lanes[s.Layout]; {
		case own < had:
			return &FatalError{What: fmt.Sprintf("source %s was archived by %d lanes, and %d are configured: events of the others may be left", l.opt.Source, had, own),
				Mend: fmt.Sprintf("set lanes to %d again, a lane without events costs nothing; or begin anew with another oss.prefix and archive.name", had)}
		case own > had && retention != jetstream.LimitsPolicy:
			return &FatalError{What: fmt.Sprintf("source %s was archived by %d lanes, and %d are configured: the lanes of a stream without limits retention cannot become more", l.opt.Source, had, own),
				Mend: fmt.Sprintf("set lanes to %d again, or archive a stream that sources this one", had)}
		}
	}
	return nil
}

func (l *Lane) loadLayout(ctx context.Context, n int) (router.Layout, error) {
	body, err := control.LoadLayout(ctx, l.opt.Store, l.opt.Prefix, n)
	if object.KindOf(err) == object.NotFound {
		return router.Layout{}, &FatalError{What: fmt.Sprintf("layout %d is missing, and the control log refers to it", n), Err: err,
			Mend: "restore the object from a backup or from the bucket's versions"}
	}
	if err != nil {
		return router.Layout{}, fmt.Errorf("reading layout %d: %w", n, err)
	}
	layout, err := router.ParseLayout(body)
	if errors.Is(err, router.ErrNewer) {
		return layout, &FatalError{What: fmt.Sprintf("layout %d was written by a newer version of Ossuary", n), Err: err,
			Mend: "update this instance"}
	}
	if err != nil {
		return layout, fmt.Errorf("reading layout %d: %w", n, err)
	}
	return layout, nil
}

// strangeLayout looks for a stored layout of this source other than ours; 0 if
// there is none. Ours alone may be there without a control log: it is stored
// first, and a crash may come between the two.
func (l *Lane) strangeLayout(ctx context.Context) (int, error) {
	numbers, err := control.Layouts(ctx, l.opt.Store, l.opt.Prefix)
	if err != nil {
		return 0, err
	}
	for _, n := range numbers {
		layout, err := l.loadLayout(ctx, n)
		if err != nil {
			return 0, err
		}
		if layout.Source == l.opt.Source && string(layout.Canonical()) != string(l.canonical) {
			return n, nil
		}
	}
	return 0, nil
}

// anySegment is the key of some segment in the archive, "" if there is none.
func (l *Lane) anySegment(ctx context.Context) (string, error) {
	found := errors.New("found one")
	var segment string
	err := l.opt.Store.List(ctx, l.opt.Prefix, func(e object.Entry) error {
		if _, _, _, ok := event.ParseKey(l.opt.Prefix, e.Key); !ok {
			return nil
		}
		segment = e.Key
		return found
	})
	if err != nil && !errors.Is(err, found) {
		return "", fmt.Errorf("looking for segments: %w", err)
	}
	return segment, nil
}
