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
	Series  int // subjects ev.0, ev.1, ...; a series each
	Payload int // bytes
	Events  int
}

func (l load) stream() string { return fmt.Sprintf("S%d-B%d-N%d", l.Series, l.Payload, l.Events) }

// subject of every event of a series; streams share no subjects.
func (l load) subject(series int) string { return l.stream() + "." + strconv.Itoa(series) }

// streamConfig is as a user would have it on one machine.
func (l load) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: l.stream(), Subjects: []string{l.stream() + ".*"}, Storage: jetstream.FileStorage, Replicas: 1}
}

// publishAhead bounds what the server has not confirmed yet.
const publishAhead = 8192

// fill makes the load's stream and publishes its events, always the same ones.
func fill(ctx context.Context, nc *nats.Conn, l load) error {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(publishAhead))
	if err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, l.streamConfig()); err != nil {
		return fmt.Errorf("making stream %s: %w", l.stream(), err)
	}
	r := rand.New(rand.NewPCG(uint64(l.Series), uint64(l.Payload)))
	for i := range l.Events {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := js.PublishAsync(l.subject(r.IntN(l.Series)), payload(r, i, l.Payload)); err != nil {
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
	s, err := js.Stream(ctx, l.stream())
	if err != nil {
		return err
	}
	if n := s.CachedInfo().State.Msgs; n != uint64(l.Events) {
		return fmt.Errorf("stream %s holds %d events, %d were published", l.stream(), n, l.Events)
	}
	return nil
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
