package appendsink

import (
	"errors"
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

// archived tells that events of a route are in the archive: so many appended just
// now, or found there (0).
func (t *Set) archived(route string, appended, bytes int, newest time.Time) {
	if f := t.m.ObserveArchived; f != nil {
		f(route, appended, bytes, newest)
	}
}
