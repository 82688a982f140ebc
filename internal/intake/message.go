package intake

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/event"
	"ossuary/internal/router"
)

// pinHeader is set by the server at delivery and differs from one delivery to
// the next, so it is no part of the event.
const pinHeader = "Nats-Pin-Id"

// header returns the headers that belong to the event; nil if there are none.
// It never changes h, which nats.go may still hold.
func header(h map[string][]string) map[string][]string {
	if len(h) == 0 {
		return nil
	}
	if _, ok := h[pinHeader]; !ok {
		return h
	}
	if len(h) == 1 {
		return nil
	}
	kept := make(map[string][]string, len(h)-1)
	for k, v := range h {
		if k != pinHeader {
			kept[k] = v
		}
	}
	return kept
}

// metadata is what the server says of a delivery: nats.Msg's Metadata without its
// allocation, and stricter, as numbers that are none are refused here. The reply is
//
//	$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>
//
// or has domain and account before the stream, and then perhaps more at its end.
func metadata(msg *nats.Msg) (m jetstream.MsgMetadata, r reply, err error) {
	fail := func(what string) (jetstream.MsgMetadata, reply, error) {
		return jetstream.MsgMetadata{}, reply{}, fmt.Errorf("subject %s, reply %s: %s", msg.Subject, msg.Reply, what)
	}
	rest, ok := strings.CutPrefix(msg.Reply, ackPrefix)
	if !ok {
		return fail("it is no delivery's")
	}
	switch n := strings.Count(rest, "."); {
	case n == 6:
	case n >= 8:
		m.Domain, rest, _ = strings.Cut(rest, ".")
		if m.Domain == "_" {
			m.Domain = ""
		}
		_, rest, _ = strings.Cut(rest, ".")
	default:
		return fail("it has not as many parts as a delivery's")
	}
	m.Stream, rest, _ = strings.Cut(rest, ".")
	m.Consumer, rest, _ = strings.Cut(rest, ".")
	r = reply{text: msg.Reply, from: len(msg.Reply) - len(rest), plain: true}
	var numbers [5]uint64
	for i := range numbers {
		r.plain = r.plain && (len(rest) < 2 || rest[0] != '0' || rest[1] == '.')
		if numbers[i], rest, ok = number(rest); !ok {
			return fail("one of its numbers is none")
		}
	}
	if r.to = len(msg.Reply) - len(rest); msg.Reply[r.to-1] == '.' {
		r.to--
	}
	r.delivered, r.consumer, r.pending = numbers[0], numbers[2], numbers[4]
	m.NumDelivered, m.Sequence.Stream, m.Sequence.Consumer = numbers[0], numbers[1], numbers[2]
	m.Timestamp, m.NumPending = time.Unix(0, int64(numbers[3])), numbers[4]
	return m, r, nil
}

// number reads the decimal number before the next dot.
func number(s string) (n uint64, rest string, ok bool) {
	i := 0
	for ; i < len(s) && s[i] != '.'; i++ {
		d := uint64(s[i] - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, "", false
		}
		n = 10*n + d
	}
	return n, s[min(i+1, len(s)):], i > 0
}

// fill makes e and m of msg. Both share its buffers: they are good until the
// consume callback returns.
func fill(e *event.Event, m *router.Message, msg *nats.Msg, meta *jetstream.MsgMetadata) {
	*e = event.Event{
		Sequence: meta.Sequence.Stream,
		Time:     meta.Timestamp.UTC(),
		Subject:  msg.Subject,
		Header:   header(msg.Header),
		Data:     msg.Data,
	}
	*m = router.Message{Subject: e.Subject, Header: e.Header, Data: e.Data, Time: e.Time, Sequence: e.Sequence}
}

// Breach says that a delivery did not follow the one before it: something was
// delivered again, left out, or out of order. It ends the epoch.
type Breach struct {
	What      string
	Consumer  uint64 // consumer sequence of the delivery
	Stream    uint64 // its stream sequence
	Delivered uint64 // how often it was delivered
	After     uint64 // consumer sequence of the last good delivery
}

func (b *Breach) Error() string {
	return fmt.Sprintf("delivery broke the order: %s (consumer sequence %d after %d, stream sequence %d, delivered %d times)",
		b.What, b.Consumer, b.After, b.Stream, b.Delivered)
}

// contiguity proves that deliveries come in order and without a hole. It starts
// as zero and belongs to the consume callback.
type contiguity struct {
	consumer, stream uint64 // of the last good delivery
}

func (c *contiguity) check(meta *jetstream.MsgMetadata) error {
	what := ""
	switch {
	case meta.Sequence.Consumer != c.consumer+1:
		what = "consumer sequence is not the next one"
	case meta.NumDelivered != 1:
		what = "delivered before"
	case meta.Sequence.Stream <= c.stream:
		what = "stream sequence did not rise"
	}
	if what != "" {
		return &Breach{What: what, Consumer: meta.Sequence.Consumer, Stream: meta.Sequence.Stream,
			Delivered: meta.NumDelivered, After: c.consumer}
	}
	c.consumer, c.stream = meta.Sequence.Consumer, meta.Sequence.Stream
	return nil
}

// slotOf is the tracker's slot for a delivery.
func slotOf(meta *jetstream.MsgMetadata) slot {
	return slot{sequence: meta.Sequence.Stream, at: meta.Timestamp.UnixNano()}
}
