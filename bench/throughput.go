//go:build unix

package main

import "time"

// Contenders, as the tables name them.
const (
	bareNone     = "bare, AckNone"
	bareAll      = "bare, AckAll"
	bareExplicit = "bare, AckExplicit"
	hand500      = "by hand, 500 an append"
	hand1        = "by hand, one an append"
	hand500Slow  = "by hand, 500 an append of 20 ms"
	hand1Slow    = "by hand, one an append of 20 ms"
	plain        = "Ossuary"
	plainSlow    = "Ossuary, appends of 20 ms"
	gzipped      = "Ossuary, gzip"
	zstandard    = "Ossuary, zstd"
)

// slowAppend is how long an append takes where it takes long.
const slowAppend = 20 * time.Millisecond

// The hand-written consumers are given what they can do in a second or two.
const (
	handEvents     = 50_000
	handSlowEvents = 20_000
	singleEvents   = 3_000
	singleSlow     = 60
)

// race is a scenario of pace: contenders that take the same stream one after the
// other.
type race struct {
	series, payload int
	events          float64 // in terms of --events
	linger          time.Duration
	contenders      []string
}

func (r race) run(b *bench, t *trial, out *round) {
	l := load{Series: r.series, Payload: r.payload, Events: int(r.events * float64(b.events))}
	b.fill(t, l)
	for _, c := range r.contenders {
		out.Figures[c] = b.contend(t, r, l, c)
		b.say("  %s: %s", c, out.Figures[c])
	}
}

func (b *bench) contend(t *trial, r race, l load, contender string) figures {
	switch contender {
	case bareNone:
		return b.client(t, l, ackNone, l.Events)
	case bareAll:
		return b.client(t, l, ackAll, l.Events)
	case bareExplicit:
		return b.client(t, l, ackExplicit, l.Events)
	case hand500:
		return b.client(t, l, handBatch, handEvents)
	case hand1:
		return b.client(t, l, handSingle, singleEvents)
	case hand500Slow, hand1Slow, plainSlow:
		b.sink.slow(t, slowAppend)
		defer b.sink.slow(t, 0)
	}
	switch contender {
	case hand500Slow:
		return b.client(t, l, handBatch, handSlowEvents)
	case hand1Slow:
		return b.client(t, l, handSingle, singleSlow)
	}
	a := b.archive(l, map[string]string{gzipped: "gzip", zstandard: "zstd"}[contender])
	if a.Codec == "" {
		a.Codec = "plain"
	}
	a.Linger = r.linger
	defer b.dropLedger(t, a)
	b.sink.ask(t, "reset")
	f := b.archiveAll(t, a)
	st := b.sink.ask(t, "stats")
	f.Appends = float64(st.Appends) / float64(l.Events) * 1e6
	f.Bytes = float64(st.Bytes) / float64(l.Events)
	if st.Refused > 0 {
		t.Fatalf("the store refused %d appends of a single writer", st.Refused)
	}
	return f
}
