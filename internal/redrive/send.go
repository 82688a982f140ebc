package redrive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

const (
	// busyTries is how often one letter may be refused because others were quicker.
	busyTries = 500
	// mute is how many publishes of one letter may stay without an answer.
	mute = 10
)

// poll is the pause before the floor, or a stream that did not answer, is looked at
// again. Tests shorten it.
var poll = 200 * time.Millisecond

// publisher is the part of JetStream that messages go through.
type publisher interface {
	PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Options says where letters go. Fields without a remark are required.
type Options struct {
	Archive string
	Source  string   // the stream, to which they are published
	Lanes   int      // of the source; more than one: subjects begin with a partition that the stream may have put there
	Filters []string // what the routes take, partitions and all
	JS      jetstream.JetStream
	Publish publisher // nil: JS
	Log     *Log

	// Settled says whether events from this sequence on go by the configuration
	// that a letter was tried under; the error says why not.
	Settled func(ctx context.Context, sequence uint64) error
	// Floor is the sequence up to which everything of the source is archived.
	Floor func(ctx context.Context) (uint64, error)
	// Archived looks for letters that the archive holds again, among the events
	// behind the sequence after, or all of them if after is 0.
	Archived  func(ctx context.Context, after uint64) (map[Name]uint64, error)
	FloorWait time.Duration // how long the floor is waited for

	Logger zerolog.Logger
}

// Outcome says what became of a letter.
type Outcome struct {
	As      uint64 // where it stands in the stream; 0 if it does not, or nobody can say
	Sent    bool   // it stands there, or is archived
	Earlier bool   // it did so before
	Problem string // why it was not sent
}

// Sender publishes letters to one stream, each once. It is not safe for
// concurrent use; any number of processes may have one.
type Sender struct {
	o      Options
	stream jetstream.Stream
	subjs  subjects

	found   map[Name]uint64 // letters that were met in the stream or the archive
	scanned map[string]span // by subject
	proven  span            // the archive was looked through here
	life    time.Time       // of the stream, that proven belongs to
	report  []sent          // sent, and not yet in the log
}

// span is a stretch of the stream.
type span struct{ from, to uint64 }

// NewSender looks at the stream, which must take messages and acknowledge them.
func NewSender(ctx context.Context, o Options) (*Sender, error) {
	if o.Publish == nil {
		o.Publish = o.JS
	}
	st, err := o.JS.Stream(ctx, o.Source)
	if err != nil {
		return nil, fmt.Errorf("looking at stream %s: %w", o.Source, err)
	}
	cfg := st.CachedInfo().Config
	switch {
	case cfg.NoAck:
		return nil, fmt.Errorf("stream %s does not acknowledge what it is sent (no_ack), so nothing could be sent to it exactly once", o.Source)
	case cfg.Sealed || cfg.Mirror != nil || len(cfg.Subjects) == 0:
		return nil, fmt.Errorf("stream %s takes no messages itself (it is a mirror, has no subjects or is sealed): nothing can be sent to it", o.Source)
	}
	s := &Sender{o: o, stream: st, found: map[Name]uint64{}, scanned: map[string]span{}}
	if s.subjs, err = newSubjects(&cfg, o.Lanes); err != nil {
		return nil, fmt.Errorf("stream %s: %w", o.Source, err)
	}
	return s, nil
}

// Send publishes the letters, in this order. The error ends it: what then has no
// outcome may or may not have been sent, and the next Sender finds out.
func (s *Sender) Send(ctx context.Context, letters []*Letter) ([]Outcome, error) {
	out := make([]Outcome, len(letters))
	doubt, err := s.announce(ctx, letters)
	if err != nil {
		return nil, err
	}
	for i, l := range letters {
		if st := s.o.Log.Of(l.Name); st.Sent {
			out[i] = Outcome{As: st.As, Sent: true, Earlier: true}
			continue
		}
		as, earlier, err := s.one(ctx, l, doubt[l.Name])
		var no *letterError
		switch {
		case errors.As(err, &no):
			out[i].Problem = no.Error()
			continue
		case err != nil:
			return out[:i], err
		}
		s.report = append(s.report, sent{l.Name, as})
		out[i] = Outcome{As: as, Sent: true, Earlier: earlier}
	}
	return out, nil
}

// Close writes into the log what was sent. Without it the next Sender finds the
// same by looking through the stream.
func (s *Sender) Close(ctx context.Context) error {
	return s.o.Log.append(ctx, s.sentLine)
}

func (s *Sender) sentLine() entry {
	var e entry
	for _, r := range s.report {
		if !s.o.Log.Of(r.Name).Sent {
			e.Sent = append(e.Sent, r)
		}
	}
	return e
}

// announce writes into the log which letters may stand in the stream from here on,
// before any of them is published, and returns those that may already do so. A
// crash after it leaves letters that the next Sender looks for, behind the
// sequence that stands there.
func (s *Sender) announce(ctx context.Context, letters []*Letter) (doubt map[Name]bool, err error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking at stream %s: %w", s.o.Source, err)
	}
	err = s.o.Log.append(ctx, func() entry {
		e := s.sentLine()
		doubt = map[Name]bool{}
		for _, l := range letters {
			st := s.o.Log.Of(l.Name)
			if st.Sent {
				continue
			}
			// Also what was announced before: whoever did so and is still at it has to
			// learn that somebody else is.
			doubt[l.Name] = st.Tried()
			e.Sending = append(e.Sending, l.Name)
		}
		if len(e.Sending) > 0 {
			e.After, e.Created = info.State.LastSeq, info.Created
		}
		return e
	})
	if err == nil {
		s.report = s.report[:0]
	}
	return doubt, err
}

// letterError concerns one letter only; nothing was published of it.
type letterError struct{ What string }

func (e *letterError) Error() string { return e.What }

func refused(format string, a ...any) error { return &letterError{fmt.Sprintf(format, a...)} }

// one brings a letter into the stream, or finds it there. doubt says that it may
// be there.
//
// It is the archive's own way of appending: look where the stream ends, read what
// came since, and publish on the condition that nothing has come meanwhile. A
// publisher that knows less than the stream is refused, reads on, and finds the
// letter if somebody else has sent it.
//
// What a condition can be made on depends on what the stream keeps. Where nothing
// leaves it behind the announcement, the letter is there if it was ever published,
// and the last sequence of its subject is the condition: others publish on theirs
// all the while. Where messages leave (acknowledged on a work queue, only so many
// kept of a subject), the only number that never comes again is the stream's own
// last sequence, and what has left is in the archive, up to its floor.
func (s *Sender) one(ctx context.Context, l *Letter, doubt bool) (as uint64, earlier bool, err error) {
	subject, err := s.subjs.publish(l.Subject)
	if err != nil {
		return 0, false, err
	}
	m := l.Message(s.o.Archive, s.o.Source, subject)
	keeps := keepsAll(&s.stream.CachedInfo().Config)
	silent := 0
	for range busyTries {
		v, err := s.view(ctx, l, keeps)
		if err != nil {
			return 0, false, err
		}
		if as, ok := s.found[l.Name]; ok {
			return as, true, nil
		}
		if keeps && !v.whole {
			keeps = false // something left the stream: the other way
			continue
		}
		if !keeps {
			never, err := s.ruledOut(ctx, l, v, &doubt)
			if err != nil {
				return 0, false, err
			}
			if st := s.o.Log.Of(l.Name); st.Sent {
				return st.As, true, nil
			}
			if as, ok := s.found[l.Name]; ok {
				return as, true, nil
			}
			if !never {
				continue
			}
		}
		if err := s.o.Settled(ctx, v.end+1); err != nil {
			return 0, false, err
		}
		condition(m, keeps, v)
		// The commit point: the server takes it only if v still holds. A crash after it,
		// or an answer that is lost, leaves a letter that is found by looking.
		ack, err := s.o.Publish.PublishMsg(ctx, m)
		switch {
		case err == nil:
			if s.life.Equal(v.created) && s.proven.to >= v.end && !keeps && !ack.Duplicate {
				s.proven.to = max(s.proven.to, ack.Sequence) // it came right behind v
			}
			return ack.Sequence, ack.Duplicate, nil
		case ctx.Err() != nil:
			return 0, false, ctx.Err()
		case overtaken(err):
		case answered(err):
			return 0, false, refused("stream %s does not take it on %s: %v", s.o.Source, subject, err)
		default:
			s.o.Logger.Warn().Err(err).Str("letter", m.Header.Get(HeaderID)).Msg("no answer to a publish, looking whether it arrived")
			doubt = true
			if silent++; silent == mute {
				return 0, false, fmt.Errorf("publishing to stream %s: %w; try again: letters that arrived all the same are found", s.o.Source, err)
			}
			if err := pause(ctx, poll); err != nil {
				return 0, false, err
			}
		}
	}
	return 0, false, fmt.Errorf("stream %s: others publish faster than a letter can be placed (%d attempts); try again when there is less traffic: what was sent stays sent", s.o.Source, busyTries)
}

// ruledOut says whether a letter that is not in the stream was never there, as of
// the view v, where messages leave the stream.
func (s *Sender) ruledOut(ctx context.Context, l *Letter, v view, doubt *bool) (never bool, err error) {
	if !*doubt {
		// Nobody else has published it as of now unless he has said so in the log. Should
		// he do it from here on, the stream moves beyond v.
		same, err := s.o.Log.unmoved(ctx)
		if err != nil || same {
			return same, err
		}
		if _, err := s.o.Log.forward(ctx, ""); err != nil {
			return false, err
		}
		*doubt = true
		return false, nil
	}
	if l.Raw {
		return false, refused("whether it was sent before cannot be told: it would be archived in the raw form, which keeps no headers, and stream %s does not keep what is acknowledged; "+
			"look for its payload behind sequence %d, and publish it yourself if it is not there", s.o.Source, v.after)
	}
	if s.life.Equal(v.created) && s.proven.from <= v.after && v.end <= s.proven.to {
		return true, nil
	}
	if err := s.archivedUpTo(ctx, v); err != nil {
		return false, err
	}
	after := v.after
	if s.life.Equal(v.created) && s.proven.from <= v.after {
		after = max(after, s.proven.to)
	} else {
		s.proven, s.life = span{from: v.after}, v.created
	}
	found, err := s.o.Archived(ctx, after)
	if err != nil {
		return false, fmt.Errorf("looking for letters in the archive: %w", err)
	}
	for n, as := range found {
		s.found[n] = as
	}
	s.proven.to = v.end
	return true, nil
}

// archivedUpTo waits until the archive has what the stream had at the view v.
// What was acknowledged has left a work queue, and was archived before; but what a
// limit of the stream removed may still be in the service's hands.
func (s *Sender) archivedUpTo(ctx context.Context, v view) error {
	var last uint64
	for _, f := range s.o.Filters {
		seq, _, err := s.messageAt(ctx, query{Last: f})
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return err
		}
		last = max(last, seq)
	}
	last = min(last, v.end)
	limit := time.Now().Add(s.o.FloorWait)
	for {
		floor, err := s.o.Floor(ctx)
		if err != nil || floor >= last {
			return err
		}
		if time.Now().After(limit) {
			return refused("whether it was sent before cannot be told until everything up to sequence %d of stream %s is archived, and that is so up to %d; see that the service runs, and try again", last, s.o.Source, floor)
		}
		if err := pause(ctx, poll); err != nil {
			return err
		}
	}
}
