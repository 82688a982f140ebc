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
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/nats-io/nats-server/v2/server/gsl"
)

const (
	cachedSubjects = 1 << 14 // per router; a miss costs a few microseconds
	internedNames  = 1 << 13
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
	layout  Layout
	lane    string
	dead    string
	routes  []*template // by route, nil for one that skips
	index   *gsl.GenericSublist[int]
	filters []filterOf // what index's values mean, in the order of the layout
	maxName int

	cache  *simplelru.LRU[string, *known]
	names  map[string]string // series by what dynamic templates make, so that repeated ones are not allocated again
	buf    []byte
	tokens []string
}

type filterOf struct {
	route   int
	subject string
}

// known is what was found out about a subject.
type known struct {
	route  int    // -1: none
	filter string // of the route, the one that matched
	target Target // for templates without headers and payload, in this bucket
	bucket int64
	made   bool
}

// New compiles the layout for its first lane (the only one of most archives).
func New(l Layout) (*Router, error) { return NewLane(l, FirstLane) }

// NewLane compiles the layout for the lane of that name. The error holds every
// reason why the layout cannot be worked with.
func NewLane(l Layout, lane string) (*Router, error) {
	l.Routes = slices.Clone(l.Routes)
	r := &Router{
		layout: l, lane: lane,
		dead:    reserved + "dead/" + Escape(l.Source) + "/" + lane,
		routes:  make([]*template, len(l.Routes)),
		index:   gsl.NewSublist[int](),
		maxName: MaxKey - keySuffix - len(l.Prefix) - l.room(),
		names:   map[string]string{},
	}
	var errs []error
	for _, p := range compileAll(l, lane, r.routes) {
		errs = append(errs, p)
	}
	if !slices.Contains(l.LaneNames(), lane) {
		errs = append(errs, fmt.Errorf("the source %s has no lane %q", l.Source, lane))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i, rt := range l.Routes {
		for _, s := range rt.Subjects {
			if err := r.index.Insert(s, len(r.filters)); err != nil {
				return nil, fmt.Errorf("route %q, subject %q: %w", rt.Name, s, err)
			}
			r.filters = append(r.filters, filterOf{i, s})
		}
	}
	var err error
	r.cache, err = simplelru.NewLRU[string, *known](cachedSubjects, nil)
	return r, err
}

// Resolve says where m goes. A subject it has seen before costs no template
// work, and no allocation unless its route looks into the payload.
func (r *Router) Resolve(m *Message) Target {
	k, ok := r.cache.Get(m.Subject)
	if !ok {
		k = r.look(m.Subject)
		r.cache.Add(strings.Clone(m.Subject), k)
	}
	if k.route < 0 {
		return Target{Skip: true}
	}
	route, tmpl := &r.layout.Routes[k.route], r.routes[k.route]
	if route.Skip {
		return Target{Route: route, Skip: true}
	}
	if limit := r.layout.MaxEvent; limit > 0 && len(m.Data) > limit {
		return Target{Route: route, Poison: fmt.Sprintf("the payload has %d bytes, the archive takes %d", len(m.Data), limit)}
	}
	if tmpl.dynamic {
		return r.name(m, k)
	}
	var b int64
	if tmpl.unit > 0 {
		b = bucket(m.Time, tmpl.unit)
	}
	if !k.made || b != k.bucket {
		k.target, k.bucket, k.made = r.name(m, k), b, true
	}
	return k.target
}

// look finds the first route, and in it the first filter, that takes the subject.
func (r *Router) look(subj string) *known {
	k := &known{route: -1}
	inner, ok := r.strip(subj)
	if !ok {
		return k
	}
	first := len(r.filters)
	r.index.Match(inner, func(i int) { first = min(first, i) })
	if first < len(r.filters) {
		k.route, k.filter = r.filters[first].route, r.filters[first].subject
	}
	return k
}

// strip takes the partition number off a subject of a source with several
// lanes; false if the subject is none of this lane's.
func (r *Router) strip(subj string) (string, bool) {
	if r.layout.Lanes <= 1 {
		return subj, true
	}
	lane, rest, ok := strings.Cut(subj, ".")
	return rest, ok && lane == r.lane
}

// name runs the template.
func (r *Router) name(m *Message, k *known) Target {
	t := Target{Route: &r.layout.Routes[k.route]}
	subj, _ := r.strip(m.Subject)
	r.tokens = split(r.tokens[:0], subj)
	var reason string
	r.buf, reason = r.routes[k.route].append(r.buf[:0], m, subj, k.filter, r.tokens)
	if reason == "" {
		reason = r.checkName(r.buf)
	}
	if reason != "" {
		t.Poison = reason
		return t
	}
	if s, ok := r.names[string(r.buf)]; ok {
		t.Series = s
		return t
	}
	t.Series = Sharded(string(r.buf), r.layout.Shard)
	if r.routes[k.route].dynamic {
		if len(r.names) >= internedNames {
			clear(r.names)
		}
		r.names[string(r.buf)] = t.Series
	}
	return t
}

// checkName refuses what only the values can bring about; the template's own
// text was checked when it was compiled.
func (r *Router) checkName(name []byte) string {
	if len(name) > r.maxName {
		return fmt.Sprintf("the series name has %d bytes, %d fit into a key", len(name), r.maxName)
	}
	if strings.HasPrefix(string(name[:min(len(name), len(reserved))]), reserved) {
		return "the series name begins with " + reserved + ", which holds the archive's own objects"
	}
	return ""
}

func split(dst []string, subj string) []string {
	for t := range strings.SplitSeq(subj, ".") {
		dst = append(dst, t)
	}
	return dst
}

// Filters is a small set of subjects, none overlapping another, that contains
// all that the routes of this lane take, those that skip included: the filters
// of its consumer. Overlapping subjects are widened to a common one, and so are
// more than MaxFilters, so a message may come that no route takes.
func (r *Router) Filters() []string {
	var all []string
	for _, f := range r.filters {
		all = append(all, f.subject)
	}
	out := Union(all)
	if r.layout.Lanes > 1 {
		for i, f := range out {
			out[i] = r.lane + "." + f
		}
	}
	return out
}

// DeadSeries is the series of this lane's dead letters.
func (r *Router) DeadSeries() string { return r.dead }

// Layout is the layout the router was made of.
func (r *Router) Layout() Layout { return r.layout }

// Lane is the lane the router resolves for.
func (r *Router) Lane() string { return r.lane }
