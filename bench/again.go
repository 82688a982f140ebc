//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"time"

	"ossuary/e2e/rig"
)

// restart begins with an archive of many series that were all written to, and a
// backlog for them, and takes the time from the start of the process to the
// arrival of its first append.
func restart(b *bench, t *trial, out *round) {
	const series = 10_000
	l := load{Series: series, Payload: 1024, Events: max(2*series, b.events/8), For: "-restart"}
	a, ok := b.kept["restart"]
	if !ok {
		a = b.archive(l, "plain")
		a.Linger = 0
		b.fill(t, l)
		b.archiveAll(t, a, b.sink.Process)
		b.kept["restart"] = a
	}
	if err := fill(t.Context(), b.nc, l); err != nil { // the backlog
		t.Fatal(err)
	}
	b.sink.ask(t, "reset")
	began := time.Now()
	s := b.start(t, a)
	s.poll(10*time.Millisecond, "the backlog is archived", func(st laneStatus) bool { return st.Archived >= l.Events })
	st := b.sink.ask(t, "stats")
	took := time.Unix(0, st.First).Sub(began)
	caught := time.Since(began)
	s.Stop()
	if st.Refused > 0 {
		t.Fatalf("the store refused %d appends after a clean stop", st.Refused)
	}
	out.Values["first append after, s"], out.Values["backlog archived after, s"] = took.Seconds(), caught.Seconds()
	b.say("  first append after %.0f ms, backlog of %d archived after %.1f s", float64(took.Milliseconds()), l.Events, caught.Seconds())
}

// replay has everything come again that is archived already. While it is archived the
// store refuses the stream's first event, which has a series of its own, so that the
// floor stays at the beginning; the service is killed, the store mended, and what the
// next one receives it finds in the series. The clock runs from its first delivery
// until all are recognised.
func replay(b *bench, t *trial, out *round) {
	l := load{Series: 16, Payload: 1024, Events: b.events * 5 / 2, For: "-replay", Alone: true}
	b.fill(t, l)
	out.Figures[bareExplicit] = b.client(t, l, ackExplicit, l.Events)
	b.say("  %s: %s", bareExplicit, out.Figures[bareExplicit])

	a := b.archive(l, "plain")
	defer b.dropLedger(t, a)
	a.More = "lease: {ttl: 1s}\n"     // a killed owner is waited for
	a.Linger = 100 * time.Millisecond // the clock runs until it is over for the last event
	b.sink.refuse(t, "/events/"+aloneSeries+".")
	defer b.sink.refuse(t, "")
	s := b.start(t, a)
	s.poll(50*time.Millisecond, "all but one event are archived", func(st laneStatus) bool { return st.Archived >= l.Events-1 })
	rig.Eventually(t, patience, "the ledger knows of all of them", func() (bool, string) {
		n := b.tailed(t, a)
		return n == l.Events-1, fmt.Sprint(n)
	})
	s.Kill()
	b.sink.refuse(t, "")

	s = b.start(t, a)
	f := figures{Events: l.Events}
	first := s.firstDelivery()
	before := b.usage(t, s, b.sink.Process)
	s.poll(50*time.Millisecond, "everything came again", func(st laneStatus) bool { return st.Delivered >= l.Events })
	rig.Eventually(t, patience, "everything is recognised", func() (bool, string) {
		n := s.metric("ossuary_redelivered_events_total")
		return n >= float64(l.Events-1), fmt.Sprint(n)
	})
	f.Seconds = time.Since(first).Seconds()
	f.spent(before, b.usage(t, s, b.sink.Process))
	_, peak, err := memory(s.PID())
	if err != nil {
		t.Fatal(err)
	}
	f.Peak = peak
	s.Stop()
	if _, floor := b.ledger(t, a); floor != uint64(l.Events) {
		t.Fatalf("the service stopped at floor %d of %d\n%s", floor, l.Events, s.LogTail(10))
	}
	out.Figures[plain] = f
	b.say("  %s: %s", plain, f)
}

// tailed is how many events the tails in the ledger count.
func (b *bench) tailed(t *trial, a archive) int {
	kv, err := b.js.KeyValue(t.Context(), "OSSUARY_"+a.Name)
	if err != nil {
		t.Fatalf("reading the ledger: %v", err)
	}
	keys, err := kv.ListKeysFiltered(t.Context(), "tail.>")
	if err != nil {
		t.Fatalf("reading the ledger: %v", err)
	}
	n := 0
	for key := range keys.Keys() {
		e, err := kv.Get(t.Context(), key)
		var tail struct{ Events int }
		if err == nil {
			err = json.Unmarshal(e.Value(), &tail)
		}
		if err != nil {
			t.Fatalf("reading %s in the ledger: %v", key, err)
		}
		n += tail.Events
	}
	return n
}
