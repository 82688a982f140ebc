package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/control"
	"ossuary/internal/event"
	"ossuary/internal/ledger"
)

// beginning says that a new life of the stream begins for the archive: its
// first, or the next because the stream was made anew or its sequences are used
// again.
type beginning struct {
	id   event.StreamID
	from uint64
	why  string
}

// identify compares the stream with what the archive knows of it; nil if it goes
// on as before.
//
// What tells a stream that was set back is in rewound.
func (l *Lane) identify(ctx context.Context, s jetstream.Stream, st control.State, e ledger.Lane, p checkpoint) (*beginning, error) {
	info := s.CachedInfo()
	created, first := info.Created.UTC(), max(info.State.FirstSeq, 1)
	if !st.Exists() {
		if err := l.orphaned(ctx, e); err != nil {
			return nil, err
		}
		from, err := l.opt.Start.resolve(ctx, l.opt.JS, s)
		if err != nil {
			return nil, err
		}
		return &beginning{event.StreamID{Name: l.opt.Source, Created: created}, from, "the first event of this archive"}, nil
	}
	if err := l.older(st, e); err != nil {
		return nil, err
	}
	next := event.StreamID{Name: l.opt.Source, Created: created, Incarnation: st.Stream.Incarnation + 1}
	switch {
	case !st.Stream.Created.Equal(created):
		return &beginning{next, 1, "the stream was made anew"}, nil
	case l.reused != nil && *l.reused == st.Stream.Incarnation:
		return &beginning{next, first, "a series has another event at a sequence"}, nil
	}
	why, err := l.rewound(ctx, info, p)
	if why == "" || err != nil {
		return nil, err
	}
	return &beginning{next, first, why}, nil
}

// clockSkew is by how much the clocks of a stream's leaders may differ: a message may
// be that much older than the one before it.
const clockSkew = time.Second

// rewound says why the stream cannot be the one that had its floor at p, although it
// was made at the same time; "" if it can. It may have been restored from a backup, or
// have lost its end when power failed, and have grown since.
//
// Where the message at the floor is gone, as it always is where acknowledging deletes,
// the one before it tells: it must not be younger. Where none is left up to the floor,
// what became of it does not matter any more.
func (l *Lane) rewound(ctx context.Context, info *jetstream.StreamInfo, p checkpoint) (why string, err error) {
	switch {
	case info.State.LastSeq < p.Floor && p.Floor >= p.Tally.From: // else nothing was archived yet, and the start lies ahead
		return fmt.Sprintf("the stream ends at sequence %d, before the floor %d", info.State.LastSeq, p.Floor), nil
	case p.Floor == 0 || p.Time.IsZero():
		return "", nil
	}
	why, there, err := l.another(ctx, p)
	if there || err != nil {
		return why, err
	}
	seq, at, err := l.lastBefore(ctx, max(info.State.FirstSeq, 1), p.Floor)
	switch {
	case err != nil:
		return "", fmt.Errorf("looking for a message before the floor %d: %w", p.Floor, err)
	case seq != 0 && at.After(p.Time.Add(clockSkew)):
		return fmt.Sprintf("message %d is of %s, and the one at the floor %d was of %s", seq,
			at.UTC().Format(time.RFC3339Nano), p.Floor, p.Time.Format(time.RFC3339Nano)), nil
	}
	return "", nil
}

// another says why the message at the floor is another one than was archived; "" if it
// is not, or if none is there.
func (l *Lane) another(ctx context.Context, p checkpoint) (why string, there bool, err error) {
	_, at, err := messageAt(ctx, l.opt.JS, l.opt.Source, p.Floor, false)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("looking at the message at the floor %d: %w", p.Floor, err)
	case !at.Equal(p.Time):
		return fmt.Sprintf("the message at the floor %d is of %s, it was of %s", p.Floor,
			at.UTC().Format(time.RFC3339Nano), p.Time.Format(time.RFC3339Nano)), true, nil
	}
	return "", true, nil
}

// lastBefore is the last message with a sequence from first on and below limit; 0 if
// there is none.
func (l *Lane) lastBefore(ctx context.Context, first, limit uint64) (found uint64, at time.Time, err error) {
	for first < limit {
		mid := first + (limit-first)/2
		seq, t, err := messageAt(ctx, l.opt.JS, l.opt.Source, mid, true)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound), err == nil && seq >= limit:
			limit = mid
		case err != nil:
			return 0, time.Time{}, err
		default:
			found, at, first = seq, t, seq+1
		}
	}
	return found, at, nil
}

// same ends the epoch if the stream, on which its consumer was made, is not the one
// that was looked at before: the control log may have kept us waiting between the two.
// The consumer was made by the stream's name, and would begin behind the floor of
// another one, whose first events nobody would archive.
func (l *Lane) same(ctx context.Context, s jetstream.Stream, id event.StreamID, p checkpoint) error {
	before := s.CachedInfo()
	now, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("looking at stream %s again: %w", l.opt.Source, err)
	}
	var why string
	switch {
	case !now.Created.Equal(id.Created):
		why = "it was made anew"
	case now.Config.Retention != before.Config.Retention:
		why = "its retention was changed"
	case now.State.LastSeq < before.State.LastSeq:
		why = fmt.Sprintf("it ends at sequence %d, and ended at %d", now.State.LastSeq, before.State.LastSeq)
	default:
		if why, err = l.rewound(ctx, now, p); err != nil {
			return err
		}
	}
	if why != "" {
		return ended("stream", fmt.Errorf("stream %s has changed since it was looked at: %s", l.opt.Source, why))
	}
	return nil
}

// orphaned refuses to begin an archive that has begun before but has lost its
// control log: under another layout events would be archived twice.
func (l *Lane) orphaned(ctx context.Context, e ledger.Lane) error {
	var what string
	if e.Floor > 0 || e.Tally.From > 0 {
		what = fmt.Sprintf("the ledger says that it was archived up to sequence %d", e.Floor)
	} else if n, err := l.strangeLayout(ctx); err != nil {
		return err
	} else if n != 0 {
		// Whoever stored it may have died before it wrote the log. It archived
		// nothing then.
		segment, err := l.anySegment(ctx)
		if err != nil {
			return err
		}
		if segment != "" {
			what = fmt.Sprintf("layout %d of it and %s are stored", n, segment)
		}
	}
	if what == "" {
		return nil
	}
	// Another instance may have begun the log since we looked.
	switch st, err := l.opt.Control.Refresh(ctx); {
	case err != nil && !errors.Is(err, control.ErrNoLog):
		return fmt.Errorf("looking for the control log again: %w", err)
	case err == nil && st.Exists():
		return errMoved
	}
	mend := fmt.Sprintf("restore %s_ossuary/control/ from a backup or from the bucket's versions; if the archive shall really begin anew, give it another oss.prefix and archive.name", l.opt.Prefix)
	return &FatalError{What: fmt.Sprintf("the control log of source %s is missing, and %s", l.opt.Source, what), Mend: mend}
}

// older refuses a control log of an older time than the ledger, which was read before:
// one restored from an old backup, or whose last object is gone. It has forgotten
// layouts and horizons that were granted, and perhaps incarnations, whose numbers would
// come again; events would be archived a second time, elsewhere.
//
// Nothing is archived above what the log grants, so a floor never lies above that.
func (l *Lane) older(st control.State, e ledger.Lane) error {
	t, _ := st.Tally(l.opt.Lane)
	var what string
	switch granted := max(st.HighestHorizon(), t.Floor); {
	case e.Incarnation > st.Stream.Incarnation:
		what = fmt.Sprintf("it ends with incarnation %d of the stream, the ledger knows of %d", st.Stream.Incarnation, e.Incarnation)
	case e.Incarnation == st.Stream.Incarnation && e.Floor > granted:
		what = fmt.Sprintf("it grants sequences up to %d, the ledger says that those up to %d are archived", granted, e.Floor)
	default:
		return nil
	}
	return &FatalError{What: fmt.Sprintf("the control log of source %s is older than the ledger: %s", l.opt.Source, what),
		Mend: fmt.Sprintf("restore %s_ossuary/control/ to its newest version", l.opt.Prefix)}
}

// messageAt is the sequence and the timestamp of a message, or of the next one
// if that is wanted; ErrMsgNotFound if there is none.
//
// It asks the leader, since a replica may lag, and reads no more of the answer
// than it needs: the client library's GetMsg fails for headers that are none, and
// for a message without payload that has a header named Status.
func messageAt(ctx context.Context, js jetstream.JetStream, stream string, seq uint64, next bool) (uint64, time.Time, error) {
	request := struct {
		Seq  uint64 `json:"seq"`
		Next string `json:"next_by_subj,omitempty"`
	}{Seq: seq}
	if next {
		request.Next = ">"
	}
	body, err := json.Marshal(request)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("asking for a message: %w", err)
	}
	o := js.Options()
	ctx, cancel := context.WithTimeout(ctx, o.DefaultTimeout)
	defer cancel()
	m, err := js.Conn().RequestWithContext(ctx, apiPrefix(o)+"STREAM.MSG.GET."+stream, body)
	if err != nil {
		return 0, time.Time{}, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Seq  uint64    `json:"seq"`
			Time time.Time `json:"time"`
		} `json:"message"`
	}
	err = json.Unmarshal(m.Data, &answer)
	switch {
	case err != nil:
		return 0, time.Time{}, fmt.Errorf("reading the server's answer: %w", err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return 0, time.Time{}, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return 0, time.Time{}, answer.Error
	case answer.Message == nil:
		return 0, time.Time{}, jetstream.ErrInvalidJetStreamResponse
	}
	return answer.Message.Seq, answer.Message.Time, nil
}

// resolve makes a sequence of where to start.
func (s Start) resolve(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream) (uint64, error) {
	state := stream.CachedInfo().State
	switch {
	case s.New:
		return state.LastSeq + 1, nil
	case s.Sequence > 0:
		return s.Sequence, nil
	case s.Time.IsZero():
		return max(state.FirstSeq, 1), nil
	}
	// By bisection rather than by a consumer: deleting the only consumer of an
	// interest stream deletes its messages.
	low, high := max(state.FirstSeq, 1), state.LastSeq+1
	for low < high {
		mid := low + (high-low)/2
		seq, at, err := messageAt(ctx, js, stream.CachedInfo().Config.Name, mid, true)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			high = mid
		case err != nil:
			return 0, fmt.Errorf("looking for the first message since %s: %w", s.Time, err)
		case at.Before(s.Time):
			low = seq + 1
		default:
			high = mid
		}
	}
	return low, nil
}

// position is the floor to start from: the highest that anything knows of this
// incarnation.
func (l *Lane) position(st control.State, e ledger.Lane) checkpoint {
	t, _ := st.Tally(l.opt.Lane)
	p := checkpoint{Floor: t.Floor, Time: t.FloorTime, Tally: t.Tally}
	if e.Incarnation == st.Stream.Incarnation && e.Floor > p.Floor {
		p = checkpoint{Floor: e.Floor, Time: e.FloorTime, Tally: e.Tally}
	}
	if l.known && l.incarnation == st.Stream.Incarnation && l.point.Floor > p.Floor {
		p = l.point
	}
	return p
}
