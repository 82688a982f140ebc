package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/archive"
	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/event"
)

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)

// sampleEvents is n events of the stream ORDERS with all that a message can have.
func sampleEvents(n int) []event.Event {
	out := make([]event.Event, n)
	for i := range out {
		e := &out[i]
		*e = event.Event{Sequence: uint64(3*i + 1), Time: epoch.Add(time.Duration(i) * time.Millisecond),
			Subject: fmt.Sprintf("orders.r%d.created", i%3), Data: fmt.Appendf(nil, `{"n":%d}`, i)}
		switch i % 8 {
		case 1:
			e.Header = map[string][]string{"Nats-Msg-Id": {fmt.Sprintf("id-%d", i)}, "X": {"a", "b"}}
		case 2: // the same id again and again
			e.Header = map[string][]string{"Nats-Msg-Id": {"same"}}
		case 3: // what a server obeys
			e.Header = map[string][]string{"Nats-Rollup": {"all"}, "Nats-TTL": {"1s"}, "Nats-Expected-Last-Sequence": {"7"}, "nats-expected-stream": {"OTHER"}}
		case 4: // a replay that was archived
			e.Header = map[string][]string{HeaderArchive: {"arch"}, HeaderStream: {"ORDERS"}, HeaderIncarnation: {"0"}, HeaderSequence: {"1"}, HeaderKept + "Nats-TTL": {"1s"}}
		case 5:
			e.Data = nil
		case 6:
			e.Data = []byte{0, 1, 0xff, '\n'}
			e.Header = map[string][]string{"empty": {""}, "lower case": {"v: w", ""}, "end": {"space "}}
		}
	}
	return out
}

// archived is the events as a reader of the archive gives them.
func archived(t testing.TB, events []event.Event) Events {
	t.Helper()
	lines := make([][]byte, len(events))
	for i := range events {
		var err error
		if lines[i], err = (event.Encoder{}).Append(nil, &events[i]); err != nil {
			t.Fatal(err)
		}
	}
	return func(context.Context) iter.Seq2[*archive.Record, error] {
		return func(yield func(*archive.Record, error) bool) {
			for i := range lines {
				r := &archive.Record{Archive: "arch", Source: "ORDERS", Sequence: events[i].Sequence, Time: events[i].Time, Line: lines[i]}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

func mapper(t testing.TB, rules ...string) *Mapper {
	t.Helper()
	m, err := NewMapper(rules)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newTarget(t testing.TB, js jetstream.JetStream, change func(*jetstream.StreamConfig)) {
	t.Helper()
	c := jetstream.StreamConfig{Name: "T", Subjects: []string{"back.>", "else.>"}, AllowDirect: true, AllowRollup: true, AllowMsgTTL: true}
	if change != nil {
		change(&c)
	}
	embeddedtest.CreateStream(t, js, c)
}

func options(t testing.TB, js jetstream.JetStream, events []event.Event) Options {
	return Options{Archive: "arch", Source: "ORDERS", Events: archived(t, events), JS: js, Target: "T", Mapper: mapper(t, "orders.>=back.>")}
}

// contents is every message of the target.
func contents(t testing.TB, js jetstream.JetStream) (out []*stored) {
	t.Helper()
	target, err := openTarget(t.Context(), js, "T")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = target.read(t.Context(), 1, false, func(s *stored) error { out = append(out, s); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// wantReplayed checks by the bytes that the target holds the events, each once and
// in order, besides others.
func wantReplayed(t testing.TB, js jetstream.JetStream, events []event.Event) {
	t.Helper()
	i := 0
	for _, m := range contents(t, js) {
		if strings.HasPrefix(m.subject, "else.") {
			continue
		}
		if i == len(events) {
			t.Fatalf("more than the %d events: %v", len(events), m.header)
		}
		e := &events[i]
		if got := one(m.header, HeaderSequence); got != fmt.Sprint(e.Sequence) {
			t.Fatalf("message %d is sequence %s, want %d", i, got, e.Sequence)
		}
		if m.subject != "back."+strings.TrimPrefix(e.Subject, "orders.") || string(m.data) != string(e.Data) || one(m.header, HeaderSubject) != e.Subject {
			t.Errorf("sequence %d: %s %q %v", e.Sequence, m.subject, m.data, m.header)
		}
		for name, values := range e.Header {
			if strings.HasPrefix(strings.ToLower(name), "nats-") || strings.HasPrefix(name, "Ossuary-") {
				name = HeaderKept + name
			}
			if name == "lower case" || name == "end" {
				continue // coded, the proof decodes it
			}
			if !slices.Equal(m.header[name], values) {
				t.Errorf("sequence %d: header %s is %q, want %q", e.Sequence, name, m.header[name], values)
			}
		}
		if p, err := time.Parse(time.RFC3339Nano, one(m.header, HeaderTime)); err != nil || !p.Equal(e.Time) {
			t.Errorf("sequence %d: time %s", e.Sequence, one(m.header, HeaderTime))
		}
		i++
	}
	if i != len(events) {
		t.Fatalf("%d of %d events", i, len(events))
	}
}

func wantProven(t testing.TB, o Options, events int) *Proof {
	t.Helper()
	p, err := Prove(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Holds() || p.Equal != uint64(events) {
		t.Fatalf("%+v", p)
	}
	return p
}

func TestReplay(t *testing.T) {
	js := embeddedtest.JetStream(t)
	// So short that it never helps: a second replay comes when it is over.
	newTarget(t, js, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	events := sampleEvents(200)
	o := options(t, js, events)
	dry := o
	dry.DryRun = true
	r, err := Run(t.Context(), dry)
	if err != nil || r.Published != 200 || r.Mapped != "back.r0.created" || len(contents(t, js)) != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	if r, err = Run(t.Context(), o); err != nil || r.Selected != 200 || r.Published != 200 || r.Already != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	wantReplayed(t, js, events)
	wantProven(t, o, 200)

	// Another message moves the window's memory on and the target's end.
	if _, err := js.Publish(t.Context(), "else.x", nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(110 * time.Millisecond) // the window passes, which no condition shows
	if r, err = Run(t.Context(), o); err != nil || r.Published != 0 || r.Already != 200 {
		t.Fatalf("the second replay: %+v %v", r, err)
	}
	wantReplayed(t, js, events)
	if p := wantProven(t, o, 200); p.Others != 1 {
		t.Errorf("%+v", p)
	}
}

// What was deleted from the target is replayed again, although the server remembers
// its id.
func TestReplayAfterAPurge(t *testing.T) {
	js := embeddedtest.JetStream(t)
	newTarget(t, js, nil)
	events := sampleEvents(10)
	o := options(t, js, events)
	for range 3 {
		s, err := js.Stream(t.Context(), "T")
		if err == nil {
			err = s.Purge(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Run(t.Context(), o); err != nil || r.Published != 10 {
			t.Fatalf("%+v %v", r, err)
		}
		wantProven(t, o, 10)
	}
}

// Parts of a stream, replayed one after the other and over each other, come once.
func TestReplayOfParts(t *testing.T) {
	js := embeddedtest.JetStream(t)
	newTarget(t, js, nil)
	events := sampleEvents(90)
	for _, part := range [][2]int{{0, 30}, {10, 50}, {60, 90}, {55, 70}, {0, 90}} {
		o := options(t, js, events[part[0]:part[1]])
		if _, err := Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	for _, m := range contents(t, js) {
		seen[one(m.header, HeaderSequence)]++
	}
	for _, e := range events {
		if seen[fmt.Sprint(e.Sequence)] != 1 {
			t.Errorf("sequence %d is there %d times", e.Sequence, seen[fmt.Sprint(e.Sequence)])
		}
	}
	// The order is lost, and a proof must say so.
	p, err := Prove(t.Context(), options(t, js, events), nil)
	if err != nil || p.Disordered == 0 || p.Holds() {
		t.Errorf("%+v %v", p, err)
	}
}

// unreliable is a JetStream whose publishes go wrong.
type unreliable struct {
	jetstream.JetStream
	t    testing.TB
	rand *rand.Rand
	held []*nats.Msg // to arrive later
	hits map[string]int
	stop func() bool
}

type future struct {
	ok  chan *jetstream.PubAck
	err chan error
}

func (f future) Ok() <-chan *jetstream.PubAck { return f.ok }
func (f future) Err() <-chan error            { return f.err }
func (f future) Msg() *nats.Msg               { return nil }

var errLost = errors.New("lost on the way")

func lost() (jetstream.PubAckFuture, error) {
	f := future{make(chan *jetstream.PubAck), make(chan error, 1)}
	f.err <- errLost
	return f, nil
}

func (u *unreliable) PublishMsgAsync(m *nats.Msg, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	if u.stop != nil && u.stop() {
		return nil, context.Canceled
	}
	fault := []string{"lost", "ack lost", "twice", "late", "foreign", "foreign with an id"}
	if u.rand.IntN(12) > 0 {
		return u.JetStream.PublishMsgAsync(m, opts...)
	}
	what := fault[u.rand.IntN(len(fault))]
	u.hits[what]++
	copied := &nats.Msg{Subject: m.Subject, Header: nats.Header(maps.Clone(map[string][]string(m.Header))), Data: m.Data}
	nc := u.JetStream.Conn()
	switch what {
	case "lost":
		return lost()
	case "ack lost":
		_ = nc.PublishMsg(copied)
		return lost()
	case "twice":
		_ = nc.PublishMsg(copied)
		return u.JetStream.PublishMsgAsync(m, opts...)
	case "late":
		u.held = append(u.held, copied)
		return lost()
	case "foreign":
		_, _ = u.JetStream.Publish(u.t.Context(), "else.x", []byte("foreign"))
		for _, h := range u.held {
			_ = nc.PublishMsg(h)
		}
		u.held = nil
	case "foreign with an id":
		_, _ = u.JetStream.PublishMsg(u.t.Context(), &nats.Msg{Subject: "else.x", Header: nats.Header{"Nats-Msg-Id": {"id-1"}}})
	}
	return u.JetStream.PublishMsgAsync(m, opts...)
}

// Whatever happens on the way, each event lands once and in order.
func TestReplayOverTrouble(t *testing.T) {
	js := embeddedtest.JetStream(t)
	hits := map[string]int{}
	for seed := range uint64(12) {
		newTarget(t, js, nil)
		events := sampleEvents(150)
		u := &unreliable{JetStream: js, t: t, rand: rand.New(rand.NewPCG(seed, 1)), hits: hits}
		o := options(t, u, events)
		r, err := Run(t.Context(), o)
		if err != nil || r.Published != 150 {
			t.Fatalf("seed %d: %+v %v", seed, r, err)
		}
		for _, h := range u.held {
			_ = js.Conn().PublishMsg(h)
		}
		if err := js.Conn().Flush(); err != nil {
			t.Fatal(err)
		}
		o.JS = js
		wantReplayed(t, js, events)
		wantProven(t, o, 150)
		if r, err := Run(t.Context(), o); err != nil || r.Published != 0 {
			t.Fatalf("seed %d: a second replay: %+v %v", seed, r, err)
		}
		if err := js.DeleteStream(t.Context(), "T"); err != nil {
			t.Fatal(err)
		}
	}
	if len(hits) != 6 {
		t.Errorf("only %v happened", hits)
	}
}

// A replay that was stopped anywhere goes on from there, also one that ran on a
// machine that is gone.
func TestReplayResumes(t *testing.T) {
	for _, state := range []bool{false, true} {
		js := embeddedtest.JetStream(t)
		newTarget(t, js, nil)
		events := sampleEvents(300)
		file := ""
		if state {
			file = filepath.Join(t.TempDir(), "state")
		}
		published := uint64(0)
		for stop := 40; ; stop += 70 {
			ctx, cancel := context.WithCancel(t.Context())
			sent := 0
			u := &unreliable{JetStream: js, t: t, rand: rand.New(rand.NewPCG(uint64(stop), 2)), hits: map[string]int{}, stop: func() bool {
				if sent++; sent > stop {
					cancel()
				}
				return sent > stop
			}}
			o := options(t, u, events)
			o.State = file
			r, err := Run(ctx, o)
			cancel()
			if published += r.Published; err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		if published > 300 {
			t.Errorf("%d were published", published)
		}
		wantReplayed(t, js, events)
		wantProven(t, options(t, js, events), 300)
	}
}

// Where the target forgets, the state file remembers.
func TestReplayIntoAWorkQueue(t *testing.T) {
	js := embeddedtest.JetStream(t)
	newTarget(t, js, func(c *jetstream.StreamConfig) {
		c.Retention, c.AllowRollup, c.AllowMsgTTL = jetstream.WorkQueuePolicy, false, false
	})
	events := sampleEvents(40)
	o := options(t, js, events)
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "state file") {
		t.Fatalf("without a state file: %v", err)
	}
	o.State = filepath.Join(t.TempDir(), "state")
	part := o
	part.Events = archived(t, events[:25])
	if r, err := Run(t.Context(), part); err != nil || r.Published != 25 {
		t.Fatalf("%+v %v", r, err)
	}
	s, err := js.Stream(t.Context(), "T")
	if err == nil {
		err = s.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Run(t.Context(), o); err != nil || r.Published != 15 || r.Already != 25 {
		t.Fatalf("%+v %v", r, err)
	}
	// A state file is of one target only.
	if err := js.DeleteStream(t.Context(), "T"); err != nil {
		t.Fatal(err)
	}
	newTarget(t, js, nil)
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "created") {
		t.Errorf("a state file of an earlier stream: %v", err)
	}
	other := o
	other.Source = "USERS"
	if _, err := Run(t.Context(), other); err == nil || !strings.Contains(err.Error(), "is of a replay of") {
		t.Errorf("a state file of another stream: %v", err)
	}
}

// A proof must see everything that can be wrong.
func TestProofFindsDifferences(t *testing.T) {
	js := embeddedtest.JetStream(t)
	newTarget(t, js, nil)
	events := sampleEvents(20)
	from := origin{"arch", "ORDERS"}
	put := func(i int, change func(*nats.Msg)) {
		for r := range archived(t, events[i:i+1])(t.Context()) {
			m, err := from.message(r, mapper(t, "orders.>=back.>"))
			if err != nil {
				t.Fatal(err)
			}
			if change != nil {
				change(m)
			}
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, nil)
	put(1, func(m *nats.Msg) { m.Data = []byte("other") })
	put(2, func(m *nats.Msg) { m.Header.Set("Extra", "1") })
	put(3, func(m *nats.Msg) { delete(m.Header, HeaderKept+"Nats-TTL") })
	put(4, func(m *nats.Msg) { m.Subject = "back.elsewhere" })
	put(5, func(m *nats.Msg) { m.Header.Set(HeaderTime, "2026-11-22T10:00:00Z") })
	put(7, nil)
	put(6, nil) // out of order, and missing where it should be
	put(7, func(m *nats.Msg) { m.Header.Set("Nats-Msg-Id", "again") })
	for i := 8; i < 19; i++ {
		put(i, nil)
	}
	p, err := Prove(t.Context(), options(t, js, events), nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Differences = nil
	want := Proof{Equal: 13, Missing: 2, Different: 5, Doubled: 1, Disordered: 1}
	if fmt.Sprint(*p) != fmt.Sprint(want) || p.Holds() {
		t.Errorf("got %+v, want %+v", *p, want)
	}
}

func TestReplaySaysWhatIsWrong(t *testing.T) {
	js := embeddedtest.JetStream(t)
	events := sampleEvents(3)
	o := options(t, js, events)
	if _, err := Run(t.Context(), o); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("no stream: %v", err)
	}
	newTarget(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 2, jetstream.DiscardNew })
	if r, err := Run(t.Context(), o); err == nil || r.Published != 2 || !strings.Contains(err.Error(), "maximum messages") {
		t.Errorf("a full stream: %+v %v", r, err)
	}
	o.Mapper = nil
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "does not take") {
		t.Errorf("a subject that is not the stream's: %v", err)
	}
	// One that is too large for the server, behind some that are not.
	large := sampleEvents(5)
	large[3].Data = make([]byte, 2<<20)
	if err := js.DeleteStream(t.Context(), "T"); err != nil {
		t.Fatal(err)
	}
	newTarget(t, js, nil)
	if r, err := Run(t.Context(), options(t, js, large)); err == nil || r.Published != 3 || !strings.Contains(err.Error(), "sequence 10 ") || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("a large event: %+v %v", r, err)
	}
	damage := &archive.DamageError{Finding: archive.Finding{Key: "k", What: "broken"}}
	o = options(t, js, events)
	whole := o.Events
	o.Events = func(ctx context.Context) iter.Seq2[*archive.Record, error] {
		return func(yield func(*archive.Record, error) bool) {
			n := 0
			for r, err := range whole(ctx) {
				if n++; n == 3 && !yield(nil, damage) || !yield(r, err) {
					return
				}
			}
		}
	}
	var met *archive.DamageError
	if r, err := Run(t.Context(), o); !errors.As(err, &met) || r.Selected != 2 {
		t.Errorf("damage: %+v %v", r, err)
	}
}

func TestMapper(t *testing.T) {
	m := mapper(t, "orders.eu.*=eu.{{wildcard(1)}}", "orders.>=restored.orders.>", "a.*.*=b.{{wildcard(2)}}.{{wildcard(1)}}")
	for from, want := range map[string]string{
		"orders.eu.paid": "eu.paid", "orders.us.paid": "restored.orders.us.paid", "a.x.y": "b.y.x", "users.x": "users.x",
	} {
		if got := m.Map(from); got != want {
			t.Errorf("%s: got %s, want %s", from, got, want)
		}
	}
	for _, tt := range []struct{ rule, filters, want string }{
		{"orders.>=restored.orders.>", "orders.*.>", "restored.orders.*.>"},
		{"orders.>=restored.orders.>", "orders.>", "restored.orders.>"},
		{"orders.eu.>=eu.>", "orders.>", "eu.>,orders.>"},
		{"users.>=x.>", "orders.eu.*,orders.>", "orders.>"},
		{"a.*.*=b.{{wildcard(2)}}.{{wildcard(1)}}", "a.*.*", "b.*.*"},
	} {
		got := strings.Join(mapper(t, tt.rule).Filters(strings.Split(tt.filters, ",")), ",")
		if got != tt.want {
			t.Errorf("%s of %s: got %s, want %s", tt.rule, tt.filters, got, tt.want)
		}
	}
	for _, bad := range []string{"", "orders", "orders.>=", "orders.>=x", "orders.*=x.{{wildcard(2)}}", "a..b=c", "a.*=b.{{random(3)}}"} {
		if _, err := NewMapper([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
