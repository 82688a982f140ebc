package intake

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// The consumer's metadata, which say whose it is. The nonce stands in the name too:
// epochs are counted anew when the ledger is lost, and an older owner whose consumer
// was deleted must not find another of the same name. It would pull from that, and
// its counts might even fit.
const (
	metaArchive = "ossuary_archive"
	metaSource  = "ossuary_source"
	metaLane    = "ossuary_lane"
	metaEpoch   = "ossuary_epoch"
	metaOwner   = "ossuary_owner"
	metaNonce   = "ossuary_nonce"
)

// ackWait is far beyond any outage that an epoch survives: a redelivery would
// come out of order and end the epoch.
const ackWait = 24 * time.Hour

// consumer makes the epoch's consumer, deletes the lane's older ones and returns
// the epoch's number, which is above all that the ledger and the consumers know.
//
// Order matters. On Interest the new one is created first, because messages in
// which no consumer has an interest are deleted. A work queue refuses a second
// one, so the old one goes first; its unacknowledged messages are what is left
// in the stream, and the new one delivers them first. On Limits either would do.
func (l *Lane) consumer(ctx context.Context, s jetstream.Stream, p *plan, epoch uint64, point checkpoint) (jetstream.Consumer, uint64, error) {
	older, highest, err := l.consumers(ctx, s, math.MaxUint64)
	if err != nil {
		return nil, 0, err
	}
	if highest >= epoch {
		epoch = highest + 1
		if err := l.lease.raiseEpoch(ctx, epoch); err != nil {
			return nil, 0, err
		}
		l.board.change(func(s *Status) { s.Epoch = epoch })
	}
	retention := s.CachedInfo().Config.Retention
	queue := retention == jetstream.WorkQueuePolicy
	number := strconv.FormatUint(epoch, 10)
	nonce := nuid.Next()
	name := l.consumerName(number + "-" + nonce)
	cfg := jetstream.ConsumerConfig{
		Name: name, Durable: name,
		Description:   "Ossuary: made for one epoch, deleted by the next; do not edit",
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   point.Floor + 1,
		AckPolicy:     jetstream.AckAllPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1,
		MaxAckPending: l.opt.MaxAckPending,
		Metadata: map[string]string{metaArchive: l.opt.Archive, metaSource: l.opt.Source, metaLane: l.opt.Lane,
			metaEpoch: number, metaOwner: l.opt.Owner, metaNonce: nonce},
	}
	// On Limits retention its state is of no use to anybody behind a restart of the
	// server, which ends the epoch; writing it costs the server a tenth of what an event
	// does. Elsewhere the stream's messages are kept for it.
	cfg.MemoryStorage = retention == jetstream.LimitsPolicy
	if queue {
		cfg.DeliverPolicy, cfg.OptStartSeq, cfg.AckPolicy = jetstream.DeliverAllPolicy, 0, jetstream.AckExplicitPolicy
	}
	switch filters := p.filters(point.Floor, queue); len(filters) {
	case 0:
	case 1:
		cfg.FilterSubject = filters[0]
	default:
		cfg.FilterSubjects = filters
	}
	if queue {
		if err := l.deleteConsumers(ctx, s, older); err != nil {
			return nil, 0, err
		}
	}
	cons, err := s.CreateConsumer(ctx, cfg)
	if err != nil {
		return nil, 0, fmt.Errorf("creating consumer %s: %w", name, err)
	}
	if !queue {
		if err := l.deleteConsumers(ctx, s, older); err != nil {
			l.log.Warn().Err(err).Msg("cannot delete the consumers of older epochs; the next epoch tries again")
		}
	}
	return cons, epoch, nil
}

// consumers lists this lane's consumers of epochs up to limit, and the highest epoch
// among them. With LeaseOff the consumers of other instances are theirs.
func (l *Lane) consumers(ctx context.Context, s jetstream.Stream, limit uint64) (names []string, highest uint64, err error) {
	list := s.ListConsumers(ctx)
	for c := range list.Info() {
		m := c.Config.Metadata
		if m[metaArchive] != l.opt.Archive || m[metaSource] != l.opt.Source || m[metaLane] != l.opt.Lane ||
			l.opt.LeaseOff && m[metaOwner] != l.opt.Owner {
			continue
		}
		n, err := strconv.ParseUint(m[metaEpoch], 10, 64)
		if err != nil {
			n = 0
		}
		if n <= limit {
			names, highest = append(names, c.Name), max(highest, n)
		}
	}
	if err := list.Err(); err != nil {
		return nil, 0, fmt.Errorf("listing the consumers of stream %s: %w", l.opt.Source, err)
	}
	return names, highest, nil
}

// tidy deletes the lane's consumers of lower epochs. An older owner that was paused may
// make its consumer behind ours, and then learn that it has lost the lease: until the
// next epoch, every message would wait for that consumer's acknowledgement too.
//
// Of two owners at most one has the lower epoch, so they never delete each other's, and
// a consumer is left in which the stream's messages have an interest.
func (e *epoch) tidy(ctx context.Context) error {
	older, _, err := e.l.consumers(ctx, e.stream, e.number-1)
	if err != nil {
		return err
	}
	for _, name := range older {
		e.log.Warn().Str("consumer", name).Msg("an older owner of this lane has left a consumer behind; deleting it")
	}
	return e.l.deleteConsumers(ctx, e.stream, older)
}

func (l *Lane) deleteConsumers(ctx context.Context, s jetstream.Stream, names []string) error {
	for _, name := range names {
		err := s.DeleteConsumer(ctx, name)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("deleting consumer %s: %w", name, err)
		}
	}
	return nil
}

// expired tells loudly that messages behind the floor are gone. On Interest and
// WorkQueue retention that is what acknowledging does.
func (l *Lane) expired(info *jetstream.StreamInfo, p checkpoint) {
	if info.Config.Retention != jetstream.LimitsPolicy || info.State.FirstSeq <= p.Floor+1 {
		return
	}
	l.lost(p.Floor+1, info.State.FirstSeq-1, info.State.FirstSeq-1-p.Floor)
}

func (l *Lane) lost(first, last, n uint64) {
	l.opt.Metrics.expired(n)
	l.log.Error().Uint64("first", first).Uint64("last", last).Uint64("at_most", n).
		Msg("messages expired or were deleted before they were archived; archiving goes on behind them")
}
