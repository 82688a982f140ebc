package appendsink

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// Cause is the kind of trouble that a series is held for, one of a fixed set.
type Cause uint8

// What a person has to look at.
const (
	CauseOther       Cause = iota
	CauseDenied            // the store denies access
	CauseCredentials       // the store does not take the keys, or the clock that they were used with
	CauseBucket            // there is no such bucket
	CauseInvalid           // the store takes no request like this one
	CauseUnanswered        // the store has not answered well for long
	CauseThrottled         // the store wants to be left alone
	CauseFrames            // the object holds frames that are not ours to write behind
	causes
)

// Causes are all of them.
var Causes = []Cause{
	CauseOther, CauseDenied, CauseCredentials, CauseBucket, CauseInvalid, CauseUnanswered, CauseThrottled, CauseFrames,
}

func (c Cause) String() string {
	switch c {
	case CauseDenied:
		return "denied"
	case CauseCredentials:
		return "credentials"
	case CauseBucket:
		return "bucket"
	case CauseInvalid:
		return "invalid"
	case CauseUnanswered:
		return "unanswered"
	case CauseThrottled:
		return "throttled"
	case CauseFrames:
		return "frames"
	}
	return "other"
}

func causeOf(err error) Cause {
	var oe *object.Error
	var foreign *event.ForeignError
	var unknown *event.UnknownError
	switch {
	case errors.As(err, &foreign), errors.As(err, &unknown):
		return CauseFrames
	case !errors.As(err, &oe):
		return CauseOther
	}
	switch oe.Kind {
	case object.InDoubt:
		return CauseUnanswered
	case object.Throttled:
		return CauseThrottled
	case object.Invalid:
		return CauseInvalid
	case object.Refused:
	default:
		return CauseOther
	}
	switch oe.Code {
	case "NoSuchBucket":
		return CauseBucket
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurityToken", "SecurityTokenExpired", "RequestTimeTooSkewed":
		return CauseCredentials
	}
	if oe.Status == 0 { // nothing was sent: there are no keys
		return CauseCredentials
	}
	return CauseDenied
}

// ByCause counts holds.
type ByCause [causes]atomic.Int64

// Total is over all causes.
func (b *ByCause) Total() (n int64) {
	for i := range b {
		n += b[i].Load()
	}
	return n
}

// Tracer follows batches on their way into the archive. It only looks: what it is
// told and when never depends on it. A nil Tracer costs nothing.
type Tracer interface {
	// Batch is called when a batch is taken to be appended. Requests for it are made
	// with the context that is returned, and done is called when its events are
	// confirmed (nil), or will not be in this epoch.
	Batch(ctx context.Context, b BatchInfo) (traced context.Context, done func(error))
}

// BatchInfo is what is known of a batch before its first append.
type BatchInfo struct {
	Source, Lane, Route, Series string
	Began                       time.Time // when its first event came
	Events, Bytes               int       // bytes of encoded lines
	First, Last                 uint64    // sequences
}

// trace tells the tracer of b, which may be nil.
func (t *Set) trace(ctx context.Context, b *batch) (context.Context, func(error)) {
	if t.opt.Tracer == nil || b == nil || b.len() == 0 {
		return ctx, nil
	}
	return t.opt.Tracer.Batch(ctx, BatchInfo{
		Source: t.opt.Source, Lane: t.opt.Lane, Route: b.spec.Route, Series: b.spec.Series,
		Began: b.due.Add(-b.spec.Flush.Linger), Events: b.len(), Bytes: b.body.size, First: b.seqs[0], Last: b.seqs[b.len()-1],
	})
}

// archived tells that events of a route are in the archive: so many appended just
// now, or found there (0).
func (t *Set) archived(route string, appended, bytes int, newest time.Time) {
	if f := t.m.ObserveArchived; f != nil {
		f(route, appended, bytes, newest)
	}
}

func (t *Set) heldWords() string {
	held := t.Held()
	if len(held) == 0 {
		return ""
	}
	var w []string
	for i, h := range held {
		if i == 3 {
			w = append(w, "…")
			break
		}
		w = append(w, h.Series+": "+h.Reason)
	}
	return " (held: " + strings.Join(w, "; ") + ")"
}

// Held returns the series that are held, with the reasons. It is asked every second
// and oftener, so that it looks at no series where none is.
func (t *Set) Held() []Hold {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holds == 0 {
		return nil
	}
	out := make([]Hold, 0, t.holds)
	for _, s := range t.series {
		if s.hold != nil {
			out = append(out, *s.hold)
		}
	}
	return out
}
