package appendsink

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// A set that nobody traces or watches does nothing for it.
func TestWatchingCostsNothingWhenOff(t *testing.T) {
	set := NewSet(Options{})
	b := &batch{spec: &Spec{Series: "s", Route: "r"}, seqs: []uint64{1}}
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		ctx, done := set.trace(context.Background(), b)
		if done != nil || ctx != context.Background() {
			t.Error("something is traced")
		}
		set.archived("r", 1, 1, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCauses(t *testing.T) {
	refused := func(status int, code string) error {
		return fmt.Errorf("key: %w", &object.Error{Kind: object.Refused, Status: status, Code: code})
	}
	for _, tt := range []struct {
		err  error
		want Cause
	}{
		{refused(403, "AccessDenied"), CauseDenied},
		{refused(403, "UserDisable"), CauseDenied},
		{refused(403, "SignatureDoesNotMatch"), CauseCredentials},
		{refused(403, "RequestTimeTooSkewed"), CauseCredentials},
		{refused(0, ""), CauseCredentials},
		{refused(404, "NoSuchBucket"), CauseBucket},
		{&object.Error{Kind: object.Invalid, Status: 400}, CauseInvalid},
		{fmt.Errorf("for long: %w", &object.Error{Kind: object.InDoubt}), CauseUnanswered},
		{&object.Error{Kind: object.Throttled, Status: 503}, CauseThrottled},
		{&object.Error{Kind: object.Mismatch, Status: 409}, CauseOther},
		{fmt.Errorf("key: %w", &event.ForeignError{}), CauseFrames},
		{fmt.Errorf("key: %w", &event.UnknownError{}), CauseFrames},
		{errors.New("something else"), CauseOther},
	} {
		if got := causeOf(tt.err); got != tt.want {
			t.Errorf("%v is %s, want %s", tt.err, got, tt.want)
		}
	}
	words := map[string]bool{}
	for _, c := range Causes {
		words[c.String()] = true
	}
	if len(words) != int(causes) || len(Causes) != int(causes) {
		t.Errorf("%d causes with %d words, %d are listed", causes, len(words), len(Causes))
	}
}
