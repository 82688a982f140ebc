package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/router"
)

const (
	// Up to so many messages the target is read one by one, from its leader.
	readSingly = 64
	// How long an answer of the server may take.
	answerTimeout = 10 * time.Second
)

// target is the stream that is replayed into.
type target struct {
	js   jetstream.JetStream
	name string
	info *jetstream.StreamInfo
}

// stored is a message of the target.
type stored struct {
	sequence uint64
	subject  string
	header   nats.Header
	data     []byte // nil if only headers were asked for
}

// openTarget looks at the stream; jetstream.ErrStreamNotFound if there is none.
func openTarget(ctx context.Context, js jetstream.JetStream, name string) (*target, error) {
	t := &target{js: js, name: name}
	return t, t.look(ctx)
}

func (t *target) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	s, err := t.js.Stream(ctx, t.name)
	if err != nil {
		return fmt.Errorf("looking at stream %s: %w", t.name, err)
	}
	t.info = s.CachedInfo()
	return nil
}

// check says why nothing can be replayed into the stream.
func (t *target) check() error {
	c := &t.info.Config
	switch {
	case c.Mirror != nil:
		return fmt.Errorf("stream %s is a mirror: nobody can publish to it; replay into the stream that it mirrors, or another", t.name)
	case c.Sealed:
		return fmt.Errorf("stream %s is sealed: replay into another", t.name)
	case c.NoAck:
		return fmt.Errorf("stream %s does not acknowledge messages (no_ack): nothing can be proven of it; change that, or replay into another", t.name)
	}
	return nil
}

// takes reports whether a message to the subject would be the stream's.
func (t *target) takes(subject string) bool {
	for _, f := range t.info.Config.Subjects {
		if router.Contains(f, subject) {
			return true
		}
	}
	return false
}

// keeps reports whether messages stay when they are consumed.
func (t *target) keeps() bool { return t.info.Config.Retention == jetstream.LimitsPolicy }

// next asks the stream's leader for the first message from the sequence on; nil if
// there is none. Other replicas, which answer direct gets, may lag.
func (t *target) next(ctx context.Context, from uint64) (*stored, error) {
	o := t.js.Options()
	prefix := "$JS.API."
	switch {
	case o.APIPrefix != "":
		prefix = strings.TrimSuffix(o.APIPrefix, ".") + "."
	case o.Domain != "":
		prefix = "$JS." + o.Domain + ".API."
	}
	request, err := json.Marshal(map[string]any{"seq": max(from, 1), "next_by_subj": ">"})
	if err != nil {
		return nil, fmt.Errorf("asking for a message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := t.js.Conn().RequestWithContext(ctx, prefix+"STREAM.MSG.GET."+t.name, request)
	if err != nil {
		return nil, fmt.Errorf("reading stream %s at %d: %w", t.name, from, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string `json:"subject"`
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	err = json.Unmarshal(m.Data, &answer)
	switch {
	case err != nil:
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil
	case answer.Error != nil:
		err = answer.Error
	case answer.Message == nil:
		err = errors.New("an answer without a message")
	default:
		a := answer.Message
		s := &stored{sequence: a.Sequence, subject: a.Subject, data: a.Data}
		if len(a.Header) > 0 {
			s.header, err = nats.DecodeHeadersMsg(a.Header)
		}
		if err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("reading stream %s at %d: %w", t.name, from, err)
}

// read calls fn for every message from the sequence on, in order, to the end that
// the stream's leader knows of. It returns what the stream's last sequence is at
// least. Errors of fn end it.
func (t *target) read(ctx context.Context, from uint64, headersOnly bool, fn func(*stored) error) (last uint64, err error) {
	if err := t.look(ctx); err != nil {
		return 0, err
	}
	last = t.info.State.LastSeq
	from = max(from, t.info.State.FirstSeq, 1)
	if t.keeps() && last >= from && last-from >= readSingly {
		if from, err = t.readMany(ctx, from, headersOnly, fn); err != nil {
			return 0, err
		}
	}
	for {
		s, err := t.next(ctx, from)
		if err != nil || s == nil {
			return max(last, from-1), err
		}
		if err := fn(s); err != nil {
			return 0, err
		}
		from = s.sequence + 1
	}
}

// readMany reads by a consumer, as far as that gets. It returns where to go on.
func (t *target) readMany(ctx context.Context, from uint64, headersOnly bool, fn func(*stored) error) (uint64, error) {
	// A consumer that has nothing to give does not say so.
	if s, err := t.next(ctx, from); err != nil || s == nil {
		return from, err
	}
	c, err := t.js.OrderedConsumer(ctx, t.name, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, HeadersOnly: headersOnly,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return from, fmt.Errorf("reading stream %s: %w", t.name, err)
	}
	messages, err := c.Messages()
	if err != nil {
		return from, fmt.Errorf("reading stream %s: %w", t.name, err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				return from, ctx.Err()
			}
			return from, fmt.Errorf("reading stream %s at %d: %w", t.name, from, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return from, fmt.Errorf("reading stream %s at %d: %w", t.name, from, err)
		}
		header := m.Headers()
		if headersOnly {
			header.Del("Nats-Msg-Size")
		}
		if err := fn(&stored{meta.Sequence.Stream, m.Subject(), header, m.Data()}); err != nil {
			return from, err
		}
		from = meta.Sequence.Stream + 1
		if meta.NumPending == 0 {
			return from, nil
		}
	}
}
