package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// Every operation on the store fails in every way, and pairs of them do, while one
// or two writers open the log, begin an incarnation, take up layouts, raise their
// horizons, and hand out what they were granted. In the end all read the same;
// each update that was confirmed stands there once, any other at most once; no
// sequence was handed out under two layouts.
func TestNthOperation(t *testing.T) {
	var trials []objecttest.Trial
	for _, c := range []struct {
		name    string
		writers int
		roll    int64
		before  string // foreign bytes
	}{
		{"one writer", 1, 0, ""},
		{"several objects", 1, 1100, ""},
		{"two writers", 2, 0, ""},
		{"two writers, several objects", 2, 1100, ""},
		{"foreign bytes", 1, 0, "{\"v\":1"},
	} {
		trials = append(trials, objecttest.Trial{Name: c.name, Run: func(t *testing.T, p *objecttest.Plan) (found int64) {
			synctest.Test(t, func(t *testing.T) {
				n := &nth{t: t, store: objecttest.New(), plan: p, seen: handed{}, sure: map[string]bool{}, options: options()}
				n.options.Roll = c.roll
				if c.before != "" {
					n.store.AppendRaw(firstKey, []byte(c.before))
				}
				var wg sync.WaitGroup
				for i := range c.writers {
					w := &nthWriter{nth: n, name: string(rune('a' + i)), pause: time.Duration(i+c.writers-1) * 2 * time.Millisecond}
					wg.Go(w.run)
				}
				wg.Wait()
				p.End()
				found = n.check()
			})
			return found
		}})
	}
	objecttest.NthOperation(t, trials, "append head read list", time.Second)
}

// nth is one run.
type nth struct {
	t       *testing.T
	store   *objecttest.Store
	plan    *objecttest.Plan
	options Options

	mu        sync.Mutex
	seen      handed
	sure      map[string]bool // updates that were confirmed
	confirmed int64           // appends of lines that were
	logs      []*Log
}

// nthWriter goes through its steps, however often it dies.
type nthWriter struct {
	*nth
	name   string
	pause  time.Duration
	life   int
	tries  int
	handed uint64
	layout int // the newest that it knows

	// Of this life.
	log  *Log
	mine State // what it hands out by
}

// nthStore is the store as a writer sees it, which counts what was confirmed.
type nthStore struct {
	*objecttest.Gate
	n *nth
}

func (s nthStore) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	a, err := s.Gate.Append(ctx, key, position, body, c)
	if end := position + int64(body.Len()); err == nil && strings.Contains(key, "/control/") && a.Next == end &&
		a.CRC64 == object.CRC64(0, s.n.store.Bytes(key)[:end]) {
		s.n.mu.Lock()
		s.n.confirmed++
		s.n.mu.Unlock()
	}
	return a, err
}

func (w *nthWriter) run() {
	steps := []func(context.Context) error{
		func(ctx context.Context) error {
			err := w.update(ctx, begin)
			if errors.Is(err, ErrNewerIncarnation) {
				return nil // another was quicker, or we were before we died
			}
			return err
		},
		w.raise, w.raise, w.switchLayout, w.raise, w.refresh, w.raise,
		func(ctx context.Context) error {
			return w.update(ctx, func(s State) (State, error) { return s.Done(w.id(), 0, w.handed), nil })
		},
	}
	step := 0
	for step < len(steps) {
		// Of virtual time.
		ctx, kill := context.WithTimeout(w.t.Context(), time.Hour)
		g := objecttest.NewGate(w.plan, w.store, kill)
		g.Pause = w.pause
		w.life++
		err := w.live(ctx, nthStore{g, w.nth}, steps, &step)
		death := g.Death()
		late := ctx.Err() != nil
		kill()
		switch {
		case death != nil && death.Other:
			step, w.handed = 0, 0 // all is handed out again
		case death != nil:
		case err != nil || late || w.tries > 50:
			w.t.Errorf("writer %s got no further than step %d: %v", w.id(), step, err)
			return
		}
	}
}

func (w *nthWriter) id() string { return fmt.Sprint(w.name, w.life) }

func (w *nthWriter) live(ctx context.Context, s store, steps []func(context.Context) error, step *int) error {
	err := w.insist(ctx, func(ctx context.Context) (err error) {
		w.log, err = Open(ctx, s, w.options)
		return err
	})
	if err != nil {
		return err
	}
	w.mine, w.layout = State{}, w.log.State().Layout()
	w.mu.Lock()
	w.logs = append(w.logs, w.log)
	w.mu.Unlock()
	for ; *step < len(steps); *step++ {
		if err := w.insist(ctx, steps[*step]); err != nil {
			return err
		}
		w.hand()
	}
	return nil
}

// insist repeats what the store refuses, as somebody would who has mended it.
func (w *nthWriter) insist(ctx context.Context, do func(context.Context) error) error {
	for {
		w.tries++
		err := do(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || w.tries > 50 || object.KindOf(err) != object.Refused {
			return err
		}
	}
}

// update counts itself in the state, so that it shows whether it was applied.
func (w *nthWriter) update(ctx context.Context, fn func(State) (State, error)) error {
	id := fmt.Sprintf("%s.%d", w.id(), w.tries)
	got, err := w.log.Update(ctx, func(s State) (State, error) {
		n, err := fn(s)
		if err != nil {
			return n, err
		}
		tally, _ := n.Tally(id)
		tally.Events++
		return n.WithTally(id, tally), nil
	})
	if err != nil {
		return err
	}
	w.mine = got
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sure[id] = true
	return nil
}

func (w *nthWriter) raise(ctx context.Context) error {
	err := w.update(ctx, func(s State) (State, error) {
		return s.WithHorizon(Grant{Writer: w.id(), Layout: w.layout, Horizon: max(w.handed, s.Base) + 3, Handed: w.handed, Time: time.Now()})
	})
	if errors.Is(err, ErrNewerLayout) {
		w.layout = w.log.State().Layout()
		return w.raise(ctx)
	}
	return err
}

// switchLayout takes up a layout of the writer's own.
func (w *nthWriter) switchLayout(ctx context.Context) error {
	content := []byte("layout of " + w.name)
	n, err := SaveLayout(ctx, w.log.store, w.options.Prefix, content, w.log.State().Layout())
	if err != nil {
		return err
	}
	if p, err := LoadLayout(ctx, w.log.store, w.options.Prefix, n); err != nil || !bytes.Equal(p, content) {
		if err == nil {
			w.t.Errorf("layout %d is %q, want %q", n, p, content)
		}
		return err
	}
	err = w.update(ctx, func(s State) (State, error) { return s.SwitchLayout(n) })
	if errors.Is(err, ErrNewerLayout) {
		err = nil // another has a newer one, which holds
	}
	w.layout = w.log.State().Layout()
	return err
}

func (w *nthWriter) refresh(ctx context.Context) error {
	_, err := w.log.Refresh(ctx)
	return err
}

// hand hands out all that was granted.
func (w *nthWriter) hand() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.mine.Exists() && w.handed < w.mine.Horizon(w.id()) {
		w.handed++
		if err := w.seen.out(w.mine, w.id(), w.handed); err != nil {
			w.t.Error(err)
		}
	}
}

// check reads the log as it stands in the store, and returns how many lines there
// are that nobody was told of.
func (n *nth) check() (found int64) {
	last := agree(n.t, n.store, n.logs...)
	var before State
	ids := map[string]bool{}
	for _, s := range n.lines() {
		if err := before.follows(s); err != nil {
			n.t.Errorf("line %d: %v", s.Number, err)
		}
		if s.Number != before.Number+1 || ids[s.ID] {
			n.t.Errorf("line %d (%s) comes after %d", s.Number, s.ID, before.Number)
		}
		if s.Base < before.Base || s.Layout() < before.Layout() {
			n.t.Errorf("line %d goes back: base %d, layout %d after %d, %d", s.Number, s.Base, s.Layout(), before.Base, before.Layout())
		}
		for name, w := range s.Writers {
			if w.Horizon < before.Writers[name].Horizon {
				n.t.Errorf("line %d takes back what %s was granted", s.Number, name)
			}
		}
		ids[s.ID], before = true, s
	}
	for id := range n.sure {
		if last.Tallies[id].Events != 1 {
			n.t.Errorf("update %s was confirmed and stands there %d times", id, last.Tallies[id].Events)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(last.Tallies)) {
		if last.Tallies[id].Events > 1 {
			n.t.Errorf("update %s stands there %d times", id, last.Tallies[id].Events)
		}
	}
	return int64(len(ids)) - n.confirmed
}

// lines are those of all objects, as a plain reader finds them.
func (n *nth) lines() (out []State) {
	for _, key := range n.store.Keys() {
		if !strings.Contains(key, "/control/") {
			continue
		}
		at := int64(0)
		for p := range bytes.Lines(n.store.Bytes(key)) {
			var s State
			if bytes.HasSuffix(p, []byte("\n")) && json.Unmarshal(p, &s) == nil && s.Position == at && s.ID != "" {
				out = append(out, s)
			}
			at += int64(len(p))
		}
	}
	return out
}
