package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// Three writers on one log whose store fails in every way at any time. They
// start, switch layouts, stand still for as long as it takes to become zombies,
// go on from what they remember, crash and stop. No sequence is handed out under
// two layouts, every line follows the one before, and in the end all see the
// same.
func TestWritersOnAFaultyStore(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	switches, grants, foreign := 0, 0, 0
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, uint64(seed))
			var writers sync.WaitGroup
			for i := range 3 {
				writers.Go(func() { w.lives(i) })
			}
			writers.Wait()
			// Requests still on the wire arrive; nothing else happens.
			st := agree(t, w.store)
			switches += len(st.Layouts) - 1
			grants += w.grants
			foreign += w.foreign
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d grants, %d switches that lasted, %d times foreign bytes", grants, switches, foreign)
	if grants < seeds || switches < seeds/4 {
		t.Error("hardly anything happened")
	}
}

type world struct {
	t     *testing.T
	store *objecttest.Store

	mu      sync.Mutex // guards what follows
	rnd     *rand.Rand
	seen    handed
	grants  int
	foreign int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, store: objecttest.New(), rnd: rand.New(rand.NewPCG(seed, 7)), seen: handed{}}
	faults := []func() objecttest.Fault{
		objecttest.NotApplied, objecttest.Lost, objecttest.Late, objecttest.Throttled, objecttest.GarbledNext, objecttest.GarbledCRC,
	}
	w.store.Fault = func(op, key string, _ int) objecttest.Fault {
		if op == "append" && w.n(25) == 0 {
			junk := []string{"junk", "junk\n", "{\"v\":1", "\n"}
			w.store.AppendRaw(key, []byte(junk[w.n(len(junk))]))
			w.mu.Lock()
			w.foreign++
			w.mu.Unlock()
		}
		if w.n(4) > 0 {
			return objecttest.Fault{}
		}
		if op == "append" && w.n(3) == 0 {
			// On the wire for a while, and the caller's patience may end.
			c := make(chan struct{})
			time.AfterFunc(time.Duration(w.n(3000))*time.Millisecond, func() { close(c) })
			return objecttest.Fault{Wait: c}
		}
		return faults[w.n(len(faults))]()
	}
	return w
}

func (w *world) n(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

func (w *world) lives(i int) {
	for life := range 3 {
		w.life(fmt.Sprintf("w%d.%d", i, life))
		time.Sleep(time.Duration(w.n(2000)) * time.Millisecond)
	}
}

func (w *world) life(name string) {
	o := options()
	o.Roll = 2500
	ctx := w.t.Context()
	log, err := Open(ctx, w.store, o)
	if err != nil {
		w.t.Errorf("%s: %v", name, err)
		return
	}
	st, err := log.Update(ctx, begin)
	if err != nil && !errors.Is(err, ErrNewerIncarnation) {
		w.t.Errorf("%s: %v", name, err)
		return
	}
	if w.n(2) == 0 { // a new configuration
		if st, err = log.Update(ctx, func(s State) (State, error) { return s.SwitchLayout(s.Layout() + 1) }); err != nil {
			w.t.Errorf("%s: %v", name, err)
			return
		}
	}
	believed := st.Layout()
	mine := st // what it hands out by; only ever replaced by a state that Update returned
	var handed, next uint64
	for range 12 {
		switch w.n(6) {
		case 0: // raise, with more or less patience
			some, cancel := context.WithTimeout(ctx, time.Duration(1+w.n(8))*time.Second)
			h := max(handed, mine.Base) + uint64(1+w.n(6))
			got, err := log.Update(some, func(s State) (State, error) {
				return s.WithHorizon(Grant{Writer: name, Layout: believed, Horizon: h, Handed: handed, Time: time.Now()})
			})
			cancel()
			switch {
			case err == nil:
				mine = got
				w.mu.Lock()
				w.grants++
				w.mu.Unlock()
			case errors.Is(err, ErrNewerLayout):
				// It goes on to what it has, and is of no more use then.
			case !errors.Is(err, context.DeadlineExceeded):
				w.t.Errorf("%s: %v", name, err)
			}
		case 1: // a pause, or a long one
			time.Sleep(time.Duration(w.n(20)) * time.Second)
		default:
			if next = max(next, 1); next <= mine.Horizon(name) {
				w.mu.Lock()
				err := w.seen.out(mine, name, next)
				w.mu.Unlock()
				if err != nil {
					w.t.Error(err)
				}
				handed = next
				next++
			}
		}
	}
	if w.n(2) == 0 { // a clean stop; otherwise a crash
		some, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := log.Update(some, func(s State) (State, error) { return s.Done(name, 0, handed), nil }); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			w.t.Errorf("%s: %v", name, err)
		}
	}
}

// pretender answers the first append as a redirected request is answered by the
// SDK: no error, and nothing done.
type pretender struct {
	*objecttest.Store
	pretended bool
}

func (p *pretender) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	if !p.pretended {
		p.pretended = true
		return object.Appended{}, nil
	}
	return p.Store.Append(ctx, key, position, body, c)
}

func TestConfirmationIsChecked(t *testing.T) {
	p := &pretender{Store: objecttest.New()}
	a := open(t, p, options())
	update(t, a, begin)
	if st := agree(t, p.Store, a); !p.pretended || st.Number != 1 {
		t.Fatalf("%+v", st)
	}
	// Right length, other bytes before: what is written is not what was read.
	p.Flip(firstKey, 20)
	var blocked *BlockedError
	synctest.Test(t, func(t *testing.T) {
		if _, err := a.Update(t.Context(), raise("a", 5)); !errors.As(err, &blocked) {
			t.Fatal(err)
		}
	})
}

// Either of the two that the store says of an append is reason enough to look.
func TestEitherConfirmationIsChecked(t *testing.T) {
	for name, fault := range map[string]objecttest.Fault{"next position": objecttest.GarbledNext(), "CRC-64": objecttest.GarbledCRC()} {
		s := objecttest.New()
		a := open(t, s, options())
		update(t, a, begin)
		before := s.Operations()
		s.SetFault(objecttest.OnNth(before+1, fault))
		update(t, a, raise("a", 5))
		if n := s.Operations() - before; n < 3 {
			t.Errorf("%s: %d operations: the line was not read back", name, n)
		}
		if st := agree(t, s, a); st.Number != 2 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// A line whose answer was lost stands there, and is not written once more behind
// itself.
func TestLostLineIsRecognised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := objecttest.New()
		a := open(t, s, options())
		update(t, a, begin)
		s.SetFault(objecttest.OnNth(s.Operations()+1, objecttest.Lost()))
		update(t, a, func(s State) (State, error) { s.Base++; return s, nil })
		if st := agree(t, s, a); st.Number != 2 || st.Base != 1 {
			t.Errorf("line %d, written %d times", st.Number, st.Base)
		}
	})
}
