// Package backoff makes pauses between attempts that grow up to a limit, with
// jitter, so that writers who met once do not meet again and again.
//
// The jitter is drawn from the clock's nanoseconds, which are as good as random
// where nobody decides at which one a request fails. So a test on simulated time
// can be run again and meets the same pauses.
package backoff

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Backoff is the pauses of one caller. It is not safe for concurrent use.
type Backoff struct{ b *backoff.ExponentialBackOff }

// New returns pauses from first to most, each longer than the one before by
// factor, before a jitter of half of it up or down.
func New(first, most time.Duration, factor float64) Backoff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = first, most, factor, 0
	b.Reset()
	return Backoff{b}
}

// Next is the next pause.
func (b Backoff) Next() time.Duration {
	return jitter(b.b.NextBackOff(), uint64(time.Now().UnixNano()))
}

// Reset begins anew with the shortest pause.
func (b Backoff) Reset() { b.b.Reset() }

func jitter(d time.Duration, nanos uint64) time.Duration {
	// The finalizer of splitmix64: neighbours come out far apart.
	z := nanos + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return d/2 + time.Duration(float64(d)*(float64(z>>11)/(1<<53)))
}
