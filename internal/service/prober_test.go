package service

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/embedded/embeddedtest"
)

// Reading ahead finds what asking one by one finds, with few consumers and none
// left behind.
func TestProberReadsAhead(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	js := embeddedtest.JetStream(t)
	ctx := t.Context()
	for _, tt := range []struct {
		retention jetstream.RetentionPolicy
		alone     bool
	}{{jetstream.LimitsPolicy, false}, {jetstream.WorkQueuePolicy, true}, {jetstream.InterestPolicy, true}} {
		t.Run(tt.retention.String(), func(t *testing.T) {
			s, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Retention: tt.retention})
			if err != nil {
				t.Fatal(err)
			}
			defer js.DeleteStream(ctx, "S")
			if tt.retention == jetstream.InterestPolicy {
				if _, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "keep"}); err != nil {
					t.Fatal(err)
				}
			}
			const n = 1500
			for i := range n {
				if _, err := js.Publish(ctx, fmt.Sprintf("s.%d.x", r.IntN(4)), []byte(fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.DeleteMsg(ctx, 40); err != nil {
				t.Fatal(err)
			}
			filters := []string{"s.1.>", "s.3.>"}
			p, ref := newProber(s), &prober{stream: s, alone: true}
			look := func(from uint64) {
				t.Helper()
				got, err := p.Next(ctx, filters, from)
				if err != nil {
					t.Fatal(err)
				}
				want, err := ref.Next(ctx, filters, from)
				if err != nil {
					t.Fatal(err)
				}
				if want == nil || got == nil {
					if got != want {
						t.Fatalf("from %d: %v, want %v", from, got, want)
					}
					return
				}
				if got.Sequence != want.Sequence || got.Subject != want.Subject || !got.Time.Equal(want.Time) ||
					string(got.Data) != string(want.Data) || len(got.Header) != len(want.Header) {
					t.Fatalf("from %d: %+v, want %+v", from, got, want)
				}
			}
			for at := uint64(0); at < n+5; at += uint64(r.IntN(9)) { // 0 asks again
				look(at)
			}
			if p.alone != tt.alone || !tt.alone && p.ahead == nil {
				t.Errorf("alone %v, want %v", p.alone, tt.alone)
			}
			for range 20 { // back and forth
				look(uint64(r.IntN(n + 5)))
			}
			filters = []string{"s.0.>"}
			look(3)
			p.close(ctx)
			names := []string{}
			for name := range s.ConsumerNames(ctx).Name() {
				if name != "keep" {
					names = append(names, name)
				}
			}
			if !reflect.DeepEqual(names, []string{}) {
				t.Errorf("consumers were left: %v", names)
			}
		})
	}
}
