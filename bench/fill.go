//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// load is what a stream is filled with.
type load struct {
	Series  int // a subject each
	Payload int // bytes
	Events  int
	For     string // tells streams of their own apart
	Alone   bool   // the first event is in a series of its own
}

// aloneSeries is that of the first event where it is alone.
const aloneSeries = "alone"

// stream is its name.
func (l load) stream() string {
	return fmt.Sprintf("S%d-B%d-N%d%s", l.Series, l.Payload, l.Events, l.For)
}

// subject of every event of a series; streams share no subjects.
func (l load) subject(series int) string { return l.stream() + "." + strconv.Itoa(series) }

// streamConfig is as a user would have it on one machine.
func (l load) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: l.stream(), Subjects: []string{l.stream() + ".*"}, Storage: jetstream.FileStorage, Replicas: 1}
}

const (
	publishAhead = 8192             // what the server may not have confirmed yet
	publishStall = 30 * time.Second // how long it may confirm nothing
)

// fill makes the load's stream if it is not there, and publishes its events, always
// the same ones.
func fill(ctx context.Context, nc *nats.Conn, l load) error {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(publishAhead))
	if err != nil {
		return err
	}
	s, err := js.CreateOrUpdateStream(ctx, l.streamConfig())
	if err != nil {
		return fmt.Errorf("making stream %s: %w", l.stream(), err)
	}
	had := s.CachedInfo().State.Msgs
	r := rand.New(rand.NewPCG(uint64(l.Series), uint64(l.Payload)))
	for i := range l.Events {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		subject := l.subject(r.IntN(l.Series))
		if i < l.Series {
			subject = l.subject(i) // so that the beginning has all of them
		}
		if l.Alone && i == 0 {
			subject = l.stream() + "." + aloneSeries
		}
		if _, err := js.PublishAsync(subject, payload(r, i, l.Payload), jetstream.WithStallWait(publishStall)); err != nil {
			return fmt.Errorf("filling stream %s: %w", l.stream(), err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return fmt.Errorf("filling stream %s: the server does not confirm", l.stream())
	}
	info, err := s.Info(ctx)
	if err == nil && info.State.Msgs != had+uint64(l.Events) {
		err = fmt.Errorf("stream %s holds %d events, it had %d and %d were published", l.stream(), info.State.Msgs, had, l.Events)
	}
	return err
}

var (
	names  = []string{"anna", "boris", "chen", "dalia", "emeka", "farah", "goran", "hana", "ivo", "jun"}
	states = []string{"created", "paid", "packed", "shipped", "delivered", "returned"}
	words  = []string{"blue", "lamp", "with", "shade", "oak", "table", "round", "small", "chair", "green", "shelf", "of", "steel", "glass", "box", "large", "for", "books", "kitchen", "garden"}
)

// payload is an order in JSON of just so many bytes: names and words that repeat,
// numbers that do not, a third or so of it random. gzip makes it three to four
// times smaller.
func payload(r *rand.Rand, i, size int) []byte {
	p := make([]byte, 0, size+64)
	p = append(p, `{"id":`...)
	p = strconv.AppendInt(p, int64(i), 10)
	p = append(p, `,"state":"`...)
	p = append(p, states[r.IntN(len(states))]...)
	p = append(p, `","customer":"`...)
	p = append(p, names[r.IntN(len(names))]...)
	p = append(p, `","trace":"`...)
	p = strconv.AppendUint(p, r.Uint64(), 16)
	p = append(p, `","note":"`...)
	end := size - len(`"}`)
	for len(p) < end {
		if r.IntN(4) == 0 {
			p = strconv.AppendUint(p, uint64(r.Uint32()), 10)
		} else {
			p = append(p, words[r.IntN(len(words))]...)
		}
		p = append(p, ' ')
	}
	return append(p[:end], `"}`...)
}
