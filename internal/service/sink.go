package service

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ossuary/internal/appendsink"
	"ossuary/internal/config"
	"ossuary/internal/event"
	"ossuary/internal/router"
)

// sink takes what the intake has routed to the set that appends it. Put belongs
// to the intake's goroutine.
type sink struct {
	set        *appendsink.Set
	specs      *specs
	deadLetter func(slot uint64) // told before the slot can be confirmed
}

// Put hands one event over. An event that its route cannot encode goes to the
// dead letters, like one for which the router could make no name.
func (s *sink) Put(ctx context.Context, layout int, t router.Target, e *event.Event, slot uint64) error {
	if t.Poison != "" {
		name := ""
		if t.Route != nil {
			name = t.Route.Name
		}
		s.deadLetter(slot)
		return s.set.AddDead(ctx, layout, e, t.Poison, name, slot)
	}
	spec, err := s.specs.of(layout, t)
	if err != nil {
		return err
	}
	if err = s.set.Add(ctx, spec, e, slot); err == nil {
		return nil
	}
	var poison *event.PoisonError
	if errors.As(err, &poison) {
		s.deadLetter(slot)
		return s.set.AddDead(ctx, layout, e, poison.Reason, spec.Route, slot)
	}
	return err
}

// Load loads what the ledger knows of the series.
func (s *sink) Load(ctx context.Context) error { return s.set.Load(ctx) }

// Run appends until ctx ends or the epoch cannot go on.
func (s *sink) Run(ctx context.Context) error { return s.set.Run(ctx) }

// Drain waits until all that was put is archived.
func (s *sink) Drain(ctx context.Context) error { return s.set.Drain(ctx) }

// specs makes the specification of each series once, since the set compares them
// by pointer. One dropped from the cache and made again costs a frame, no more.
// What an event looks like comes from the layout under which it was routed; when
// its batch is sent and its segment sealed comes from the route of that name in
// the configuration of today, or the defaults if there is none.
type specs struct {
	rules    map[string]timing // read-only
	defaults timing
	create   *creates
	cache    *simplelru.LRU[specKey, *appendsink.Spec]

	deadSeries string
	mu         sync.Mutex
	deads      map[int]*appendsink.Spec // by layout; guarded by mu
}

type timing struct {
	flush appendsink.Flush
	roll  appendsink.Roll
}

type specKey struct {
	layout        int
	route, series string
}

func newSpecs(cfg *config.Config, source *config.Source, deadSeries string) (*specs, error) {
	cache, err := simplelru.NewLRU[specKey, *appendsink.Spec](max(1024, cfg.Limits.OpenSeries), nil)
	if err != nil {
		return nil, fmt.Errorf("caching series: %w", err)
	}
	s := &specs{
		rules:    make(map[string]timing, len(source.Routes)),
		defaults: timingOf(cfg.Defaults.Flush, cfg.Defaults.Roll),
		create:   newCreates(cfg, source),
		cache:    cache,

		deadSeries: deadSeries,
		deads:      map[int]*appendsink.Spec{},
	}
	for _, r := range source.Routes {
		s.rules[r.Name] = timingOf(r.Flush, r.Roll)
	}
	return s, nil
}

func timingOf(f config.Flush, r config.Roll) timing {
	return timing{
		flush: appendsink.Flush{Size: f.Size, Events: f.Events, Linger: f.Linger},
		roll:  appendsink.Roll{Size: r.Size, Age: r.Age, Idle: r.Idle},
	}
}

func (s *specs) timing(route string) timing {
	if t, ok := s.rules[route]; ok {
		return t
	}
	return s.defaults
}

func (s *specs) of(layout int, t router.Target) (*appendsink.Spec, error) {
	key := specKey{layout, t.Route.Name, t.Series}
	if spec, ok := s.cache.Get(key); ok {
		return spec, nil
	}
	spec, err := s.build(layout, t)
	if err != nil {
		return nil, err
	}
	s.cache.Add(key, spec)
	return spec, nil
}

func (s *specs) build(layout int, t router.Target) (*appendsink.Spec, error) {
	r := t.Route
	spec := &appendsink.Spec{Series: t.Series, Route: r.Name, Audit: r.Audit, Layout: layout}
	// Layouts are checked before they are written, so these fail only where a
	// newer program wrote one, which must not be guessed at.
	var err error
	if spec.Encoder.Format, err = event.ParseFormat(r.Format); err == nil {
		if spec.Codec, err = event.ParseCodec(r.Codec); err == nil {
			if spec.Encoder.Payload, err = event.ParsePayload(r.Payload); err == nil {
				spec.Encoder.Newline, err = event.ParseNewline(r.Newline)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("layout %d, route %s: %w", layout, r.Name, err)
	}
	t2 := s.timing(r.Name)
	spec.Flush, spec.Roll = t2.flush, t2.roll
	spec.Create = s.create.of(r.Name, spec.Encoder.Format, spec.Codec)
	return spec, nil
}

// dead is the specification of a lane's dead letters of one layout. Unlike the
// others it is asked for by the sinks' workers too.
func (s *specs) dead(layout int) *appendsink.Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	spec := s.deads[layout]
	if spec == nil {
		spec = &appendsink.Spec{
			Series: s.deadSeries, Codec: event.Gzip, Layout: layout,
			Flush: s.defaults.flush, Roll: s.defaults.roll, Create: s.create.of("", event.Envelope, event.Gzip),
		}
		s.deads[layout] = spec
	}
	return spec
}
