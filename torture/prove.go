//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"os"
	"strings"
	"time"

	"ossuary/e2e/reader"
	"ossuary/e2e/rig"
)

// prove compares what lies in the objects with what the stream holds and the
// publishers were told is stored: by `consumer verify`, and by the independent
// reader. Whatever the stream itself has lost is told apart.
func (w *world) prove() {
	began := time.Now()
	defer func() { w.proofTook = time.Since(began) }()
	w.readLogs()
	series, err := w.seriesNow()
	if err != nil {
		w.Fatalf("the layouts: %v", err)
	}
	ctx, cancel := context.WithTimeout(w.ctx, 2*time.Minute)
	defer cancel()
	want, err := rig.Messages(ctx, w.js, rig.StreamName, series)
	if err != nil {
		w.Fatalf("reading the stream: %v", err)
	}
	w.Logf("read the stream after %.1fs", time.Since(began).Seconds())
	lostByStream := w.compareJournals(want)
	for seq, e := range want {
		if e.Series == "" {
			delete(want, seq)
			w.tally.add("events/skipped by a route", 1)
		}
	}
	w.verify(len(want), len(lostByStream) > 0)
	w.Logf("verified after %.1fs", time.Since(began).Seconds())
	a, err := reader.Read(w.store.Objects())
	if err != nil {
		w.Fatalf("the independent reader: %v", err)
	}
	w.tally.add(archived, int64(a.Lines))
	w.tally.add("archive/series", int64(len(a.Series)))
	w.tally.add("archive/segments", int64(a.Segments))
	w.tally.add(streamBeyond, takeOutLost(a, lostByStream))
	d := a.Compare(want)
	for _, s := range d.Words {
		w.Errorf("the independent reader: %s", s)
	}
	w.tally.add(lost, int64(d.Missing))
	w.tally.add(doubled, int64(d.Twice))
	w.tally.add(outOfOrder, int64(d.Order))
	w.tally.add(otherwise, int64(d.Unknown+d.Other))
}

// verify runs `consumer verify` with a configuration of its own, past the proxies.
func (w *world) verify(events int, streamLost bool) {
	v := rig.NewInstance(w, w.program, w.dir, "verifier", rig.Settings{NATS: w.natsURLs(), Store: w.store.Addr,
		OSSTimeout: time.Minute, Routes: routes(w.variant)})
	code, r := v.Verify()
	w.tally.add("archive/dead letters", int64(r.DeadLetters))
	if code == 0 && r.Result == "ok" && r.Duplicates == 0 && r.Missing == 0 && (r.Events == uint64(events) || streamLost) {
		return
	}
	w.tally.add("wrong/worlds in which verify found something", 1)
	w.Errorf("verify: exit %d for %d events: %+v", code, events, r)
}

// version is a message that a sequence once stood for.
type version struct {
	sequence uint64
	payload  [sha256.Size]byte
}

// compareJournals returns the messages that the stream has acknowledged and does
// not hold: no archive can be asked for them.
func (w *world) compareJournals(want map[uint64]reader.Expected) map[version]bool {
	gone := map[version]bool{}
	for _, p := range w.publishers {
		w.tally.add(published, int64(p.Acked()))
		w.tally.add("events/published more than once for want of an answer", p.Retried())
		notHeld(gone, want, p.Journal(), p.Clashes())
	}
	if len(gone) > 0 {
		w.tally.add(streamLost, int64(len(gone)))
		w.Logf("the stream has lost %d messages that it had acknowledged", len(gone))
	}
	return gone
}

// notHeld adds to gone what a journal has and the stream has not.
func notHeld(gone map[version]bool, want map[uint64]reader.Expected, journal map[uint64]rig.Entry, clashes []rig.Clash) {
	for seq, e := range journal {
		if got, ok := want[seq]; !ok || got.Payload != e.Payload || got.Subject != e.Subject {
			gone[version{seq, e.Payload}] = true
		}
	}
	for _, c := range clashes {
		gone[version{c.Sequence, c.A.Payload}] = true
	}
}

// takeOutLost takes out of a what was archived before the stream lost it, and
// returns how much that was.
func takeOutLost(a *reader.Archive, gone map[version]bool) (n int64) {
	if len(gone) == 0 {
		return 0
	}
	for name, lines := range a.Series {
		kept := lines[:0]
		for _, l := range lines {
			if v := (version{l.Seq, l.Payload}); gone[v] {
				delete(gone, v) // a second one would be too many
				n++
				continue
			}
			kept = append(kept, l)
		}
		a.Series[name] = kept
	}
	return n
}

// What the instances' logs are searched for, and what is counted by it. Unlike
// their metrics, a log survives a kill.
var logged = map[string]string{
	"adopted a frame found in the object":       adoptions,
	"epoch runs":                                "seen/epochs begun",
	"the lease was not renewed, taking it over": "seen/leases taken over",
	"the ledger is gone, making it again; the objects hold all that it held":                  "seen/ledgers made again",
	"the outcome of a request is unknown; looking again":                                      "seen/outcomes unknown, looked again",
	"the stream's sequences are used again: a new incarnation begins, and nothing is dropped": "seen/incarnations",
	"segment sealed": "seen/segments sealed",
	"segment left by a break frame; run verify, and find out who else writes to the bucket":                         "seen/segments broken off",
	"the store confirmed an append with a position or CRC-64 other than computed; reading it back":                  "seen/confirmations that were garbled",
	"event was overtaken by another writer; it goes to the dead letters":                                            "seen/events overtaken",
	"append to the control log was confirmed with another length or checksum than it should have; reading it again": "seen/confirmations that were garbled",
	"NATS connection lost": "seen/NATS connections lost",
}

// readLogs counts what the instances have told.
func (w *world) readLogs() {
	for _, s := range w.slots {
		f, err := os.Open(s.LogFile)
		if err != nil {
			w.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			w.readLine(s, lines.Bytes())
		}
		_ = f.Close()
		if err := lines.Err(); err != nil {
			w.Fatalf("reading %s: %v", s.LogFile, err)
		}
		for metric, name := range looked {
			w.tally.add(name, int64(s.Noted(metric)))
		}
	}
}

func (w *world) readLine(s *slot, line []byte) {
	if !bytes.HasPrefix(line, []byte("{")) {
		for _, sign := range []string{"panic:", "fatal error:", "DATA RACE"} {
			if strings.Contains(string(line), sign) {
				w.Errorf("%s crashed: %s, see %s", s.Name, line, s.LogFile)
			}
		}
		return
	}
	var l struct {
		Level, Message, Reason string
		OwnFound               int64 `json:"own_found"`
	}
	if json.Unmarshal(line, &l) != nil {
		return // cut off by a kill
	}
	if name, ok := logged[l.Message]; ok {
		w.tally.add(name, 1)
	}
	switch {
	case l.Message == "epoch ended":
		w.tally.add("epoch ended/"+l.Reason, 1)
	case l.OwnFound > 0:
		w.tally.add("seen/waiting events found in adopted frames", l.OwnFound)
	case l.Level == "error":
		w.tally.add("error logged/"+l.Message, 1)
	}
}

// looked are the counters of which only what was seen before a kill is known, and
// the names for that.
var looked = map[string]string{
	"ossuary_appends_total":            "seen/appends confirmed, at least",
	"ossuary_append_refusals_total":    "seen/appends refused for their position, at least",
	"ossuary_append_doubts_total":      "seen/appends in doubt, at least",
	"ossuary_redelivered_events_total": "seen/events that came again and were archived already, at least",
	"ossuary_events_delivered_total":   "seen/events delivered, at least",
}
