package redrive

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/event"
)

func TestMessage(t *testing.T) {
	l := &Letter{Name: Name{2, 17}, Reason: "two\nlines", Event: event.Event{Sequence: 17, Time: time.Unix(1, 2).UTC(), Subject: "a.b",
		Header: map[string][]string{"K": {"v", "w"}, "Nats-Rollup": {"sub"}, "Nats-Expected-Last-Sequence": {"9"}, "Nats-Msg-Id": {"x"}}, Data: []byte("d")}}
	m := l.Message("arch", "S", "a.b")
	want := nats.Header{"K": {"v", "w"}, HeaderID: {"arch/S/2/17"}, HeaderReason: {"two lines"}, HeaderStream: {"S"}, HeaderSequence: {"17"},
		HeaderTime: {"1970-01-01T00:00:01.000000002Z"}, "Nats-Msg-Id": {"ossuary-redrive:arch/S/2/17"}}
	for k := range want {
		if !slices.Equal(m.Header[k], want[k]) {
			t.Errorf("%s: %q, want %q", k, m.Header[k], want[k])
		}
	}
	if len(m.Header) != len(want) || string(m.Data) != "d" || m.Subject != "a.b" {
		t.Errorf("%+v", m)
	}
	if len(l.Header["Nats-Rollup"]) == 0 || l.Header[HeaderID] != nil {
		t.Error("the letter's own headers were changed")
	}
	// Dead once more: the origin stays.
	again := &Letter{Name: Name{2, 40}, Reason: "still", Event: event.Event{Sequence: 40, Header: m.Header}}
	h := again.Message("arch", "S", "a.b").Header
	if h.Get(HeaderSequence) != "17" || h.Get(HeaderReason) != "still" || h.Get(HeaderID) != "arch/S/2/40" {
		t.Errorf("%v", h)
	}
	for id, ok := range map[string]bool{"arch/S/2/17": true, "arch/S/2/017": false, "arch/T/2/17": false, "arch/S/2": false, "": false, "arch/S/2/17/": false} {
		if n, got := ParseID(id, "arch", "S"); got != ok || ok && n != l.Name {
			t.Errorf("%q: %v %v", id, n, got)
		}
	}
}

// A letter is published on what the stream turns into the subject that is archived.
func TestSubjects(t *testing.T) {
	partitions := &jetstream.SubjectTransformConfig{Source: "orders.*", Destination: "{{partition(4,1)}}.orders.{{wildcard(1)}}"}
	tr, err := newSubjects(&jetstream.StreamConfig{Subjects: []string{"orders.*"}, SubjectTransform: partitions}, 4)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := tr.transform.Match("orders.a")
	if err != nil {
		t.Fatal(err)
	}
	other := "0.orders.a"
	if stored == other {
		other = "1.orders.a"
	}
	renamed := &jetstream.SubjectTransformConfig{Source: "in.>", Destination: "out.>"}
	for _, tt := range []struct {
		name, letter, want string
		lanes              int
		cfg                jetstream.StreamConfig
	}{
		{"as it is", "orders.a", "orders.a", 1, jetstream.StreamConfig{Subjects: []string{"orders.>"}}},
		{"the partition comes from the stream", stored, "orders.a", 4, jetstream.StreamConfig{Subjects: []string{"orders.*"}, SubjectTransform: partitions}},
		{"another partition now", other, "", 4, jetstream.StreamConfig{Subjects: []string{"orders.*"}, SubjectTransform: partitions}},
		{"the partition comes from the producers", "3.orders.a", "3.orders.a", 4, jetstream.StreamConfig{Subjects: []string{"*.orders.>"}}},
		{"the stream takes it no more", "orders.a", "", 1, jetstream.StreamConfig{Subjects: []string{"other.>"}}},
		{"it would get another name", "in.a", "", 1, jetstream.StreamConfig{Subjects: []string{"in.>"}, SubjectTransform: renamed}},
		{"it was renamed", "out.a", "", 1, jetstream.StreamConfig{Subjects: []string{"in.>"}, SubjectTransform: renamed}},
	} {
		s, err := newSubjects(&tt.cfg, tt.lanes)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.publish(tt.letter); got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %q %v, want %q", tt.name, got, err, tt.want)
		}
	}
}
