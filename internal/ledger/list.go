package ledger

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Tails reads the tails of all series of a lane, by series. An unreadable entry
// is in it with a zero Tail; one of a newer version makes the whole call fail
// with ErrNewer.
func (l *Ledger) Tails(ctx context.Context, source, lane string) (map[string]TailEntry, error) {
	tails := make(map[string]TailEntry)
	err := l.scan(ctx, tailPrefix(source, lane)+"*", func(e jetstream.KeyValueEntry) error {
		_, _, series, tail, ok := parseKey(e.Key())
		if !ok || !tail {
			return nil // no entry of ours
		}
		t, err := parseTail(e.Value())
		if errors.Is(err, ErrNewer) {
			return fmt.Errorf("reading %s: %w", e.Key(), err)
		}
		if err != nil {
			l.unreadable(e.Key(), err)
		}
		tails[series] = TailEntry{Tail: t, Revision: e.Revision()}
		return nil
	}, func(key string) {
		if _, _, series, tail, ok := parseKey(key); ok && tail {
			delete(tails, series)
		}
	})
	if err != nil {
		return nil, err
	}
	return tails, nil
}

// Lanes reads the entries of all lanes, sorted by key.
func (l *Ledger) Lanes(ctx context.Context) ([]Entry, error) { return l.entries(ctx, "lane.>") }

// All reads all entries, sorted by key. Keys that are not of this program's form
// are left out. ErrNewer is in the entry, not returned.
func (l *Ledger) All(ctx context.Context) ([]Entry, error) { return l.entries(ctx, ">") }

func (l *Ledger) entries(ctx context.Context, pattern string) ([]Entry, error) {
	byKey := make(map[string]Entry)
	err := l.scan(ctx, pattern, func(kv jetstream.KeyValueEntry) error {
		e := Entry{Key: kv.Key(), Revision: kv.Revision(), Value: kv.Value()}
		var tail, ok bool
		if e.Source, e.LaneName, e.Series, tail, ok = parseKey(e.Key); !ok {
			return nil
		}
		if tail {
			t, err := parseTail(e.Value)
			if e.Err = err; err == nil {
				e.Tail = &t
			}
		} else {
			t, err := parseLane(e.Value)
			if e.Err = err; err == nil {
				e.Lane = &t
			}
		}
		byKey[e.Key] = e
		return nil
	}, func(key string) { delete(byKey, key) })
	if err != nil {
		return nil, err
	}
	all := make([]Entry, 0, len(byKey))
	for _, e := range byKey {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Key < all[j].Key })
	return all, nil
}

// scan calls put for every entry that matches pattern and was written before the
// call, and del for deletions. A key may come twice, the later one counts.
func (l *Ledger) scan(ctx context.Context, pattern string, put func(jetstream.KeyValueEntry) error, del func(key string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The context outlives the creation of the watch, which needs a bound of its own.
	timeout := time.AfterFunc(opTimeout, cancel)
	w, err := l.kv.Watch(ctx, pattern)
	if !timeout.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		if l.gone(context.WithoutCancel(ctx)) {
			return fmt.Errorf("reading %s: %w", pattern, ErrNoBucket)
		}
		return fmt.Errorf("ledger: reading %s: %w", pattern, err)
	}
	defer func() {
		// The watcher's goroutine may stand blocked on a full channel, and ends
		// only when somebody empties it.
		cancel()
		_ = w.Stop()
		go func() {
			for range w.Updates() {
			}
		}()
	}()
	silence := time.NewTimer(watchSilence)
	defer silence.Stop()
	for {
		select {
		case e, open := <-w.Updates():
			switch {
			case !open:
				if err := ctx.Err(); err != nil {
					return fmt.Errorf("ledger: reading %s: %w", pattern, err)
				}
				return fmt.Errorf("ledger: reading %s: the watch ended early", pattern)
			case e == nil:
				return nil
			case e.Operation() != jetstream.KeyValuePut:
				del(e.Key())
			default:
				if err := put(e); err != nil {
					return err
				}
			}
			silence.Reset(watchSilence)
		case <-silence.C:
			if l.gone(ctx) {
				return fmt.Errorf("reading %s: %w", pattern, ErrNoBucket)
			}
			return fmt.Errorf("ledger: reading %s: nothing came for %s", pattern, watchSilence)
		case <-ctx.Done():
			return fmt.Errorf("ledger: reading %s: %w", pattern, ctx.Err())
		}
	}
}

// Purge removes every entry, for a rebuild. Whoever still holds a revision gets
// ErrConflict.
func (l *Ledger) Purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	s, err := l.js.Stream(ctx, "KV_"+l.bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("emptying the ledger: %w", ErrNoBucket)
	}
	if err == nil {
		err = s.Purge(ctx)
	}
	if err != nil {
		return fmt.Errorf("ledger: emptying %s: %w", l.bucket, err)
	}
	return nil
}
