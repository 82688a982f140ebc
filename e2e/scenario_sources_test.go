//go:build unix

package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/reader"
	"ossuary/e2e/rig"
)

// source is the YAML of a further source, behind settings.routes.
func source(stream, start, subjects, series string) string {
	return fmt.Sprintf(`  - stream: %s
    start: %s
    routes:
      - subjects: ["%s"]
        series: "%s"
        flush: {events: 100, linger: 20ms}
`, stream, start, subjects, series)
}

// Two sources at once, whose streams let go what is acknowledged: one with
// Interest, one a work queue. The archive is killed again and again with events
// in its hands. Every event is archived once, and the streams end up empty.
func TestInterestAndWorkQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.js.DeleteStream(ctx, rig.StreamName); err != nil {
		t.Fatal(err)
	}
	w.createStream(jetstream.StreamConfig{Name: rig.StreamName, Subjects: []string{"ev.>"}, Retention: jetstream.InterestPolicy})
	w.createStream(jetstream.StreamConfig{Name: "QUEUE", Subjects: []string{"q.>"}, Retention: jetstream.WorkQueuePolicy})
	a := w.instance("a", settings{routes: plainRoutes + source("QUEUE", "all", "q.>", "queue/{{token(2)}}")})
	n := sized(t, size{events: 400, rounds: 4}, size{events: 2000, rounds: 6}, size{events: 10000, rounds: 10})

	queued := w.put(n.events, numbered("q", "before anybody reads", 3)) // a work queue keeps it
	interest := map[uint64]rig.Entry{}
	for round := range n.rounds {
		if round == 0 {
			a.startAll() // from now on somebody has an interest
		} else {
			a.Process.Start()
		}
		maps.Copy(interest, w.put(n.events, numbered("ev.x", fmt.Sprint("round ", round), 3)))
		maps.Copy(queued, w.put(n.events, numbered("q", fmt.Sprint("round ", round), 3)))
		if round < n.rounds-1 {
			if round%2 == 1 {
				a.waitLanes("something was archived", func(l map[string]rig.Status) bool { return l[rig.StreamName].Archived > 0 && l["QUEUE"].Archived > 0 })
			}
			a.Process.Kill()
		}
	}
	last := func(m map[uint64]rig.Entry) (q uint64) {
		for seq := range m {
			q = max(q, seq)
		}
		return q
	}
	a.waitLanes("all is archived", func(l map[string]rig.Status) bool {
		return l[rig.StreamName].Floor == last(interest) && l["QUEUE"].Floor == last(queued)
	})
	rig.Eventually(t, patience, "the streams are empty", func() (bool, string) {
		x, y := w.stream(rig.StreamName).CachedInfo().State, w.stream("QUEUE").CachedInfo().State
		return x.Msgs == 0 && y.Msgs == 0, fmt.Sprintf("%+v %+v", x, y)
	})
	a.Process.Stop()
	a.clean(len(interest) + len(queued))

	all := w.read(w.objects())
	for prefix, journal := range map[string]map[uint64]rig.Entry{"ev.": interest, "q.": queued} {
		part := only(all, func(l reader.Line) bool { return strings.HasPrefix(l.Subject, prefix) })
		want := map[uint64]reader.Expected{}
		for seq, e := range journal {
			series := "queue/" + strings.TrimPrefix(e.Subject, "q.")
			if prefix == "ev." {
				series = plainSeries(e.Subject, seq)
			}
			want[seq] = reader.Expected{Series: series, Subject: e.Subject, Payload: e.Payload}
		}
		for _, lines := range part.Series { // the streams cannot be asked for times any more
			for _, l := range lines {
				if e, ok := want[l.Seq]; ok {
					e.Time = l.Time
					want[l.Seq] = e
				}
			}
		}
		w.same(prefix, part, want)
	}
}

// Where a source begins holds for its first start only.
func TestStartOfSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := sized(t, size{events: 500}, size{events: 5000}, size{events: 20000}).events
	w.createStream(jetstream.StreamConfig{Name: "BYSEQ", Subjects: []string{"seq.>"}})
	w.createStream(jetstream.StreamConfig{Name: "BYTIME", Subjects: []string{"time.>"}})
	put := func(text string) {
		for _, p := range []string{"ev.x", "seq.x", "time.x"} {
			w.put(n, numbered(p, text, 3))
		}
	}
	put("before the archive")
	m, err := w.stream("BYTIME").GetMsg(t.Context(), uint64(n/2))
	if err != nil {
		t.Fatal(err)
	}
	from := uint64(n / 3)
	a := w.instance("a", settings{routes: strings.TrimSuffix(plainRoutes, "\n") + "\n    start: new\n" +
		source("BYSEQ", fmt.Sprint(from), "seq.>", "seq/{{token(3)}}") +
		source("BYTIME", m.Time.UTC().Format(time.RFC3339Nano), "time.>", "time/{{token(3)}}")})
	a.startAll()
	put("while it runs")
	a.waitLanes("something was archived", func(l map[string]rig.Status) bool { return l[rig.StreamName].Archived > 0 })
	a.Process.Kill()
	put("while it is dead")
	a.Process.Start()
	a.waitLanes("all is archived", func(l map[string]rig.Status) bool {
		return l[rig.StreamName].Floor == uint64(3*n) && l["BYSEQ"].Floor == uint64(3*n) && l["BYTIME"].Floor == uint64(3*n)
	})
	a.Process.Stop()

	all, total := w.read(w.objects()), 0
	for stream, c := range map[string]struct {
		subjects, series string
		in               func(seq uint64, e reader.Expected) bool
	}{
		rig.StreamName: {"ev.", "all/", func(seq uint64, _ reader.Expected) bool { return seq > uint64(n) }},
		"BYSEQ":        {"seq.", "seq/", func(seq uint64, _ reader.Expected) bool { return seq >= from }},
		"BYTIME":       {"time.", "time/", func(_ uint64, e reader.Expected) bool { return !e.Time.Before(m.Time) }},
	} {
		want := w.messages(stream, func(subject string, _ uint64) string { return c.series + strings.Split(subject, ".")[2] })
		maps.DeleteFunc(want, func(seq uint64, e reader.Expected) bool { return !c.in(seq, e) })
		w.same(stream, only(all, func(l reader.Line) bool { return strings.HasPrefix(l.Subject, c.subjects) }), want)
		total += len(want)
	}
	a.clean(total)
}
