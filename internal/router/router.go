// Package router decides where an event goes: which route takes its subject, and
// the name of the series that the route's template makes of it.
//
// The decision is a pure function of the message (subject, headers, payload,
// stream timestamp) under one Layout. No clock, no I/O, no import of another
// package of this module. Writers that share a layout therefore agree on every
// event, and verify can ask again years later.
//
// What a series name cannot do: leave the archive's prefix, enter `_ossuary/`,
// hold an empty, `.` or `..` segment, or make a key that the store refuses. An
// event for which no such name can be made is poison, with the reason; it is
// never renamed, truncated or dropped here.
package router

import (
	"time"
)

// Message is what the decision may depend on.
type Message struct {
	Subject  string
	Header   map[string][]string
	Data     []byte
	Time     time.Time // stream timestamp
	Sequence uint64    // stream sequence
}

// Target says where a message goes.
type Target struct {
	Route  *Route // nil: no route takes the subject; Skip is set then
	Series string // "" if Skip or Poison
	Skip   bool   // not to be archived
	Poison string // why the event must go to the dead letters; "" if it need not
}

// Router resolves messages of one lane under one layout. It caches, so one
// goroutine may use it at a time.
type Router struct {
	layout Layout
	lane   string
	dead   string
}

// New compiles the layout for its first lane (the only one of most archives).
func New(l Layout) (*Router, error) { return NewLane(l, FirstLane) }

// NewLane compiles the layout for the lane of that name.
func NewLane(l Layout, lane string) (*Router, error) {
	return &Router{layout: l, lane: lane}, nil
}

// Resolve says where m goes. A subject it has seen before costs no template
// work, and no allocation unless its route looks into headers or payload.
func (r *Router) Resolve(m *Message) Target { return Target{Skip: true} }

// Filters is the smallest set of subjects, none overlapping another, that
// contains all that the routes of this lane take: the filters of its consumer.
func (r *Router) Filters() []string { return nil }

// DeadSeries is the series of this lane's dead letters.
func (r *Router) DeadSeries() string { return r.dead }

// Layout is the layout the router was made of.
func (r *Router) Layout() Layout { return r.layout }

// Lane is the lane the router resolves for.
func (r *Router) Lane() string { return r.lane }
