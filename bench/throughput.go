//go:build unix

package main

import (
	"path/filepath"
	"strings"
	"time"
)

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
	known        = "Ossuary, series known"
	knownSmall   = "Ossuary, series known, limits.memory 256 MiB" // the default, where others have more
	emulated     = "Ossuary, store: the emulator"
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
	more            string // configuration of Ossuary besides, as archive.More; not of knownSmall
	contenders      []string
}

func (r race) run(b *bench, t *trial, out *round) {
	l := load{Series: r.series, Payload: r.payload, Events: int(r.events * float64(b.events))}
	b.fill(t, l)
	for _, c := range r.contenders {
		if b.only != nil && !b.only.MatchString(c) {
			continue
		}
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
	f := b.archived(t, r, l, contender, "")
	if b.profile != "" {
		// Once more, since watching costs time.
		b.archived(t, r, l, contender, filepath.Join(b.profile, l.stream()+"-"+slug(contender)))
	}
	return f
}

// slug makes a part of a file's name of a contender's.
func slug(contender string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(contender), func(r rune) bool { return r == ' ' || r == ',' || r == ':' }), "-")
}

// archived has a contender that is Ossuary archive the stream.
func (b *bench) archived(t *trial, r race, l load, contender, profile string) figures {
	a := b.archive(l, "plain")
	a.Linger, a.More, a.Profile = r.linger, r.more, profile
	switch contender {
	case knownSmall:
		a.More = ""
	case gzipped:
		a.Codec = "gzip"
	case zstandard:
		a.Codec = "zstd"
	}
	defer b.dropLedger(t, a)
	if contender == emulated {
		e := b.emulator(t, "")
		defer e.Kill()
		a.Store = e.addr
		return b.archiveAll(t, a, e.Process)
	}
	from := uint64(0)
	if contender == known || contender == knownSmall {
		from = b.archiveBeginning(t, a)
	}
	b.sink.ask(t, "reset")
	f := b.archiveFrom(t, a, b.sink.Process, from)
	st := b.sink.ask(t, "stats")
	f.Appends = float64(st.Appends) / float64(f.Events) * 1e6
	f.Bytes = float64(st.Bytes) / float64(f.Events)
	if st.Refused > 0 {
		t.Fatalf("the store refused %d appends of a single writer", st.Refused)
	}
	return f
}
