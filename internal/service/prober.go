package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/router"
)

const (
	// probeBatch is how many messages are read ahead at once, payloads and all.
	probeBatch = 128
	// probeFar is a distance that is skipped rather than read.
	probeFar = 20_000
	// probeIdle removes the consumer of a process that was killed.
	probeIdle = 30 * time.Second
	// probeTimeout bounds a request.
	probeTimeout = 10 * time.Second
)

// prober looks into a stream for what the archive lacks. It is asked for one
// message after the other, upwards, and where many are skipped on purpose there
// are many to ask for: one request for each and for each filter would take hours.
// So it reads ahead through a consumer of its own, where that does not touch the
// stream: not on a work queue, and not where interest decides what is kept.
// Without the right to make consumers it asks one by one.
type prober struct {
	stream jetstream.Stream
	alone  bool // no reading ahead
	ahead  *readAhead
}

// readAhead is a consumer and what it has brought.
type readAhead struct {
	cons    jetstream.Consumer
	filters []string
	asked   uint64            // for nothing below this any more
	end     uint64            // last sequence that was brought
	count   uint64            // messages brought
	pending uint64            // behind end
	batch   []*router.Message // brought and not passed yet
}

func newProber(s jetstream.Stream) *prober {
	return &prober{stream: s, alone: s.CachedInfo().Config.Retention != jetstream.LimitsPolicy}
}

// Next implements archive.Prober.
func (p *prober) Next(ctx context.Context, filters []string, from uint64) (*router.Message, error) {
	if !p.alone {
		m, err := p.read(ctx, filters, from)
		if err == nil || ctx.Err() != nil {
			return m, err
		}
		p.close(ctx)
		p.alone = true
	}
	return p.get(ctx, filters, from)
}

// read takes the message from what the consumer brings.
func (p *prober) read(ctx context.Context, filters []string, from uint64) (*router.Message, error) {
	if r := p.ahead; r == nil || from < r.asked || from > r.end+probeFar || !slices.Equal(filters, r.filters) {
		p.close(ctx)
		if err := p.open(ctx, filters, from); err != nil {
			return nil, err
		}
	}
	r := p.ahead
	r.asked = from
	for {
		for len(r.batch) > 0 && r.batch[0].Sequence < from {
			r.batch = r.batch[1:]
		}
		if len(r.batch) > 0 {
			return r.batch[0], nil
		}
		if r.pending == 0 {
			return nil, nil
		}
		if err := r.fetch(); err != nil {
			return nil, err
		}
	}
}

func (p *prober) open(ctx context.Context, filters []string, from uint64) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	from = max(from, 1)
	cons, err := p.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Description: "ossuary verify", FilterSubjects: filters,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: probeIdle, MemoryStorage: true,
	})
	if err != nil {
		return fmt.Errorf("making a consumer to look for messages from sequence %d on: %w", from, err)
	}
	p.ahead = &readAhead{cons: cons, filters: slices.Clone(filters), end: from - 1, pending: cons.CachedInfo().NumPending}
	return nil
}

// fetch brings the next messages, all of them in order, or fails.
func (r *readAhead) fetch() error {
	got, err := r.cons.FetchNoWait(probeBatch)
	if err != nil {
		return fmt.Errorf("reading on from sequence %d: %w", r.end, err)
	}
	r.batch = r.batch[:0]
	for m := range got.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("reading on from sequence %d: %w", r.end, err)
		}
		if r.count++; meta.Sequence.Consumer != r.count {
			return fmt.Errorf("reading on from sequence %d: a message was lost on its way", r.end)
		}
		r.end, r.pending = meta.Sequence.Stream, meta.NumPending
		r.batch = append(r.batch, &router.Message{
			Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Time: meta.Timestamp, Sequence: meta.Sequence.Stream,
		})
	}
	if err := got.Error(); err != nil {
		return fmt.Errorf("reading on from sequence %d: %w", r.end, err)
	}
	if len(r.batch) == 0 {
		return fmt.Errorf("reading on from sequence %d: %d messages are pending and none came", r.end, r.pending)
	}
	return nil
}

// close removes the consumer; if that fails, the server does after probeIdle.
func (p *prober) close(ctx context.Context) {
	if p.ahead == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	_ = p.stream.DeleteConsumer(ctx, p.ahead.cons.CachedInfo().Name) // see above
	p.ahead = nil
}

// get asks for the message by a request for each filter.
func (p *prober) get(ctx context.Context, filters []string, from uint64) (*router.Message, error) {
	var found *jetstream.RawStreamMsg
	for _, f := range filters {
		m, err := p.stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(f))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for a message from sequence %d on: %w", from, err)
		}
		if found == nil || m.Sequence < found.Sequence {
			found = m
		}
	}
	if found == nil {
		return nil, nil
	}
	return &router.Message{
		Subject: found.Subject, Header: found.Header, Data: found.Data, Time: found.Time, Sequence: found.Sequence,
	}, nil
}
