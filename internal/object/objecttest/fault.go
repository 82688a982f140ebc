package objecttest

import (
	"context"
	"errors"

	"ossuary/internal/object"
)

// Fault says how one operation goes wrong; the zero Fault lets it go right.
//
// An *object.Error given here needs no Op and Key: they are filled in. Its Kind
// decides how the caller takes it, and the zero Kind is InDoubt.
type Fault struct {
	// Before is returned and nothing is applied.
	Before error
	// After is returned although the operation was applied. For a read with
	// Cut it is what the reader fails with.
	After error
	// Late, for an append: the caller gets After (or an InDoubt error), the
	// object stays as it is until the next operation of anybody has been
	// answered, and then the append arrives at the store and is applied if its
	// position still fits. See also Store.Arrive.
	Late bool
	// Later, with Late: so many more operations are answered first.
	Later int
	// Garble, for an append that was applied: changes what is returned.
	Garble func(*object.Appended)
	// Wait blocks the operation before it does anything, until the channel is
	// closed or the caller's context is done (then it is not applied).
	Wait <-chan struct{}
	// Cut, for a read: the reader fails after that many bytes.
	Cut int
}

func (f *Fault) none() bool {
	return f.Before == nil && f.After == nil && !f.Late && f.Garble == nil && f.Wait == nil && f.Cut == 0
}

type planted struct{}

// Plant has the operation that is called with the returned context meet f,
// whatever the hook says: for a test that knows who calls, as the hook does not.
func Plant(ctx context.Context, f Fault) context.Context {
	return context.WithValue(ctx, planted{}, f)
}

// Planted is the fault that was planted in ctx, the zero Fault if none was.
func Planted(ctx context.Context) Fault {
	f, _ := ctx.Value(planted{}).(Fault)
	return f
}

// NotApplied: the caller cannot know, but nothing happened.
func NotApplied() Fault {
	return Fault{Before: &object.Error{Status: 500, Code: "InternalError", Message: "planted: not applied"}}
}

// Lost: it happened, and the response was lost.
func Lost() Fault {
	return Fault{After: &object.Error{Err: errors.New("response lost (planted)")}}
}

// Late: the request is still on its way when the caller gives up on it.
func Late() Fault { return Fault{Late: true} }

// Throttled: nothing happened and the store wants to be left alone.
func Throttled() Fault {
	return Fault{Before: &object.Error{Kind: object.Throttled, Status: 503, Code: "TotalQpsLimitExceeded", Message: "planted"}}
}

// Hold: the store refuses the caller.
func Hold() Fault {
	return Fault{Before: &object.Error{Kind: object.Refused, Status: 403, Code: "AccessDenied", Message: "planted: refused"}}
}

// GarbledNext: applied and confirmed, but the next position is not what it
// should be.
func GarbledNext() Fault { return Fault{Garble: func(a *object.Appended) { a.Next++ }} }

// GarbledCRC: applied and confirmed, but with another checksum.
func GarbledCRC() Fault { return Fault{Garble: func(a *object.Appended) { a.CRC64 ^= 1 << 17 }} }

// OnNth plants f at the n-th operation (from 1) and nowhere else.
func OnNth(n int, f Fault) func(op, key string, i int) Fault {
	return func(_, _ string, i int) Fault {
		if i == n {
			return f
		}
		return Fault{}
	}
}

// fill completes a planted error.
func fill(err error, op, key string) error {
	var e *object.Error
	if !errors.As(err, &e) {
		return err
	}
	c := *e
	if c.Op == "" {
		c.Op = op
	}
	if c.Key == "" {
		c.Key = key
	}
	return &c
}
