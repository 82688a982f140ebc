package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"ossuary/internal/control"
	"ossuary/internal/object"
	"ossuary/internal/router"
)

// reader is a store for the package control, which also writes elsewhere: here
// every append is refused before it leaves the process.
type reader struct{ store }

// Append refuses.
func (reader) Append(_ context.Context, key string, _ int64, _ object.Body, _ *object.Create) (object.Appended, error) {
	return object.Appended{}, &object.Error{Op: "append", Key: key, Kind: object.Refused, Err: errors.ErrUnsupported, Message: "the archive is being read only"}
}

// layouts holds the archive's layouts, and routers made of them for reuse: a
// router belongs to one goroutine at a time.
type layouts struct {
	st     store
	prefix string
	col    *collector

	mu     sync.Mutex
	known  map[int]*router.Layout // nil: there is none that can be used; named
	idle   map[routerKey][]*router.Router
	unfits map[routerKey]bool // no router can be made; named
}

type routerKey struct {
	layout int
	lane   string
}

func newLayouts(st store, prefix string, col *collector) *layouts {
	return &layouts{st: st, prefix: prefix, col: col, known: map[int]*router.Layout{},
		idle: map[routerKey][]*router.Router{}, unfits: map[routerKey]bool{}}
}

func (l *layouts) key(n int) string { return fmt.Sprintf("%s%s%d.json", l.prefix, layoutDir, n) }

// loadAll reads the layouts that were listed.
func (l *layouts) loadAll(ctx context.Context, entries []object.Entry) error {
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e.Key[len(l.prefix)+len(layoutDir):], "%d.json", &n); err != nil || l.key(n) != e.Key {
			l.col.note(Finding{Key: e.Key, What: "not an object of this archive; it was not looked at"})
			continue
		}
		if _, err := l.layout(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// layout reads layout n; nil, once named, if it cannot be used.
func (l *layouts) layout(ctx context.Context, n int) (*router.Layout, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := l.known[n]; ok {
		return have, nil
	}
	p, err := control.LoadLayout(ctx, reader{l.st}, l.prefix, n)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	l.known[n] = nil
	const mend = "restore the layout from a version or a copy; without it nobody can tell where events belong"
	if err != nil {
		l.col.problem(Finding{Key: l.key(n), What: fmt.Sprintf("layout %d cannot be read: %v", n, err), Mend: mend})
		return nil, nil
	}
	l.col.update(func(r *Report) { r.Objects++ })
	l.col.read(int64(len(p)))
	made, err := router.ParseLayout(p)
	switch {
	case errors.Is(err, router.ErrNewer):
		l.col.problem(Finding{Key: l.key(n), What: err.Error(), Mend: "verify with a newer version of this program"})
		return nil, nil
	case err != nil:
		l.col.problem(Finding{Key: l.key(n), What: err.Error(), Mend: mend})
		return nil, nil
	case !bytes.Equal(bytes.TrimSpace(made.Canonical()), bytes.TrimSpace(p)):
		l.col.problem(Finding{Source: made.Source, Key: l.key(n), What: "the layout is not in its canonical form: it was changed", Mend: mend})
	}
	l.known[n] = &made
	return &made, nil
}

// get is a router for layout n and the lane; nil, once named, if there is none.
func (l *layouts) get(ctx context.Context, n int, source, lane string) (*router.Router, error) {
	layout, err := l.layout(ctx, n)
	if err != nil || layout == nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := routerKey{n, lane}
	if idle := l.idle[k]; len(idle) > 0 {
		l.idle[k] = idle[:len(idle)-1]
		return idle[len(idle)-1], nil
	}
	if l.unfits[k] {
		return nil, nil
	}
	r, err := router.NewLane(*layout, lane)
	if err == nil && layout.Source != source {
		err = fmt.Errorf("it is of source %q", layout.Source)
	}
	if err != nil {
		l.unfits[k] = true
		l.col.problem(Finding{Source: source, Key: l.key(n), What: fmt.Sprintf("layout %d says nothing of lane %q of source %q: %v", n, lane, source, err)})
		return nil, nil
	}
	return r, nil
}

// put gives a router back.
func (l *layouts) put(n int, lane string, r *router.Router) {
	if r == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := routerKey{n, lane}
	l.idle[k] = append(l.idle[k], r)
}

// anySharded reports whether a layout of the archive puts shards before the names
// of series. One that cannot be read may do so.
func anySharded(ctx context.Context, st store, prefix string) (sharded bool, err error) {
	err = eachLayout(ctx, st, prefix, func(l *router.Layout) {
		sharded = sharded || l == nil || l.Shard > 0
	})
	return sharded, err
}

// Subjects is the filters of all routes by which the source was ever archived.
func (r *Reader) Subjects(ctx context.Context, source string) (filters []string, err error) {
	err = eachLayout(ctx, r.Store, r.Prefix, func(l *router.Layout) {
		if l == nil || l.Source != source {
			return
		}
		for i := range l.Routes {
			if !l.Routes[i].Skip {
				filters = append(filters, l.Routes[i].Subjects...)
			}
		}
	})
	return filters, err
}

// eachLayout reads the archive's layouts; one that cannot be read is nil, and told
// elsewhere.
func eachLayout(ctx context.Context, st store, prefix string, fn func(*router.Layout)) error {
	inv, err := walkBelow(ctx, st, prefix, layoutDir)
	if err != nil {
		return err
	}
	for _, e := range inv.Layouts {
		var n int
		if _, err := fmt.Sscanf(e.Key[len(prefix)+len(layoutDir):], "%d.json", &n); err != nil {
			continue // not ours
		}
		var l router.Layout
		p, err := control.LoadLayout(ctx, reader{st}, prefix, n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			l, err = router.ParseLayout(p)
		}
		if err != nil {
			fn(nil)
			continue
		}
		fn(&l)
	}
	return nil
}
