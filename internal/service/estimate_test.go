package service

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ossuary/internal/appendsink"
	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

// slowStore takes its time for appends, and counts requests.
type slowStore struct {
	*objecttest.Store
	takes                         time.Duration
	appends, reads, lists, stored atomic.Int64 // series append side by side
}

func (s *slowStore) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error) {
	s.appends.Add(1)
	s.stored.Add(int64(body.Len()))
	time.Sleep(s.takes) // simulated
	return s.Store.Append(ctx, key, position, body, c)
}

func (s *slowStore) Head(ctx context.Context, key string) (object.Info, error) {
	s.reads.Add(1)
	return s.Store.Head(ctx, key)
}

func (s *slowStore) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	s.reads.Add(1)
	return s.Store.Read(ctx, key, from, to)
}

func (s *slowStore) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	s.lists.Add(1)
	return s.Store.List(ctx, prefix, fn)
}

// What is estimated is what the sinks then do, on simulated time.
func TestEstimate(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		flush  appendsink.Flush
		roll   appendsink.Roll
		rate   float64
		size   int
		bucket time.Duration // of the series' names; 0: one series
		during time.Duration
		by     string
		rolled string
	}{
		"linger":            {appendsink.Flush{Size: 1 << 20, Events: 10000, Linger: 2 * time.Second}, appendsink.Roll{Size: 1 << 30, Idle: time.Hour}, 5, 100, 0, 10 * time.Minute, "linger", "frames"},
		"size":              {appendsink.Flush{Size: 10_000, Events: 10000, Linger: time.Minute}, appendsink.Roll{Size: 200_000}, 10, 1000, 0, 10 * time.Minute, "size", "size"},
		"events":            {appendsink.Flush{Size: 1 << 20, Events: 25, Linger: time.Minute}, appendsink.Roll{Size: 1 << 30, Age: 10 * time.Minute}, 10, 100, 0, 15 * time.Minute, "events", "age"},
		"the line is taken": {appendsink.Flush{Size: 1 << 20, Events: 10000}, appendsink.Roll{Size: 1 << 30, Age: time.Minute}, 100, 50, 0, time.Minute, "the append before", "age"},
		"it grows":          {appendsink.Flush{Size: 2000, Events: 10000, Linger: time.Minute}, appendsink.Roll{Size: 1 << 30, Idle: time.Minute}, 500, 50, 0, time.Minute, "the append before", "frames"},
		"seldom":            {appendsink.Flush{Size: 1 << 20, Events: 10000, Linger: time.Second}, appendsink.Roll{Size: 1 << 30, Idle: time.Minute}, 1.0 / 120, 100, 0, 6 * time.Hour, "linger", "idle"},
		"named by the hour": {appendsink.Flush{Size: 1 << 20, Events: 10000, Linger: 10 * time.Second}, appendsink.Roll{Size: 1 << 30, Idle: 10 * time.Minute}, 1, 100, time.Hour, 4 * time.Hour, "linger", "idle"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := &slowStore{Store: objecttest.New(), takes: 50 * time.Millisecond}
				confirmed := 0
				dead := &appendsink.Spec{Series: "dead"}
				set := appendsink.NewSet(appendsink.Options{Archive: "a", Source: "S", Lane: "0", Stream: event.StreamID{Name: "S", Created: time.Now()}, Store: st,
					Budget: appendsink.NewBudget(64 << 20), Dead: func(int) *appendsink.Spec { return dead },
					RouteRoll: func(string) appendsink.Roll { return tt.roll },
					Confirm:   func(slots []uint64) { confirmed += len(slots) }, Forget: func(uint64) {}})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- set.Run(ctx) }()

				data := []byte(`"` + strings.Repeat("x", tt.size-2) + `"`)
				began, n, line := time.Now(), 0, 0
				specs := map[string]*appendsink.Spec{}
				for time.Since(began) < tt.during {
					n++
					now := time.Now().UTC()
					series := "x"
					if tt.bucket > 0 {
						series = fmt.Sprint("x/", now.Unix()/int64(tt.bucket.Seconds()))
					}
					if specs[series] == nil {
						specs[series] = &appendsink.Spec{Series: series, Codec: event.Plain, Flush: tt.flush, Roll: tt.roll, Layout: 1}
					}
					e := &event.Event{Sequence: uint64(n), Time: now, Subject: "a.b", Data: data}
					l, _ := event.Encoder{}.Append(nil, e)
					line = len(l)
					if err := set.Add(ctx, specs[series], e, uint64(n)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Duration(float64(time.Second) / tt.rate))
				}
				time.Sleep(2 * time.Hour) // the last segments end, if something ends them
				cancel()
				if err := <-done; err != nil || confirmed != n {
					t.Fatalf("%v: %d of %d events confirmed", err, confirmed, n)
				}

				perDay := 0.0
				if tt.bucket > 0 {
					perDay = day / tt.bucket.Seconds()
				}
				got := estimate(timing{tt.flush, tt.roll}, line, perDay, Traffic{Rate: tt.rate, Append: st.takes, Ratio: 1})
				days := tt.during.Hours() / 24
				near := func(what string, estimated float64, counted int) {
					t.Helper()
					if math.Abs(estimated*days-float64(counted)) > 3+0.05*float64(counted) {
						t.Errorf("%s: %.1f estimated, %d counted", what, estimated*days, counted)
					}
				}
				objects := len(st.Keys())
				seals := objects
				if tt.roll.Idle+tt.roll.Age == 0 {
					seals-- // the last one stays open
				}
				near("appends", got.Appends, int(st.appends.Load())-seals)
				near("objects", got.Objects, objects)
				near("put requests", got.Writes, int(st.appends.Load()+st.lists.Load()))
				near("get requests", got.Reads, int(st.reads.Load()))
				if got.FlushedBy != tt.by || got.Rolled != tt.rolled || got.TooMuch {
					t.Errorf("flushed by %s, rolled by %s, too much %v", got.FlushedBy, got.Rolled, got.TooMuch)
				}
				if s, stored := got.Stored*days, float64(st.stored.Load()); math.Abs(s-stored) > 0.1*stored+4000 {
					t.Errorf("%.0f bytes estimated, %.0f counted", s, stored)
				}
			})
		})
	}
	if e := estimate(timing{flush: appendsink.Flush{Size: 1000, Events: 10}}, 100, 0, Traffic{Rate: 1000, Append: 50 * time.Millisecond, Ratio: 1}); !e.TooMuch {
		t.Errorf("1000 events a second with batches of 10 and appends of 50 ms: %+v", e)
	}
}
