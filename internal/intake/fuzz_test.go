package intake

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// FuzzReply reads the reply subject of a delivery, in which the server says what
// it is. What is accepted as the next delivery says so in the subject itself.
func FuzzReply(f *testing.F) {
	f.Add("$JS.ACK.ORDERS.c.1.17.1.1795341600000000000.5", uint64(0), uint64(16))
	f.Add("$JS.ACK._.hash.ORDERS.c.1.18.3.1795341600000000000.0.token", uint64(2), uint64(17))
	f.Add("$JS.ACK.hub.hash.S.c.2.18.3.0.0", uint64(2), uint64(17))
	f.Add("$JS.ACK.S.c.1.18446744073709551617.1.0.0", uint64(0), uint64(0))
	f.Add("$JS.ACK.a.b", uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, reply string, consumer, stream uint64) {
		msg := &nats.Msg{Subject: "s", Reply: reply, Sub: &nats.Subscription{}}
		meta, r, err := metadata(msg)
		theirs, theirErr := msg.Metadata()
		if err != nil {
			if theirErr == nil && numbers(reply) {
				t.Fatalf("%q is refused: %v", reply, err)
			}
			return
		}
		if theirErr != nil || meta.Sequence.Stream != theirs.Sequence.Stream || meta.Sequence.Consumer != theirs.Sequence.Consumer ||
			meta.NumDelivered != theirs.NumDelivered || meta.NumPending != theirs.NumPending || !meta.Timestamp.Equal(theirs.Timestamp) ||
			meta.Stream != theirs.Stream || meta.Consumer != theirs.Consumer || meta.Domain != theirs.Domain {
			t.Fatalf("%q is %+v, the client library reads %+v, %v", reply, meta, theirs, theirErr)
		}
		if !strings.HasPrefix(reply, ackPrefix) {
			t.Fatalf("%q is taken for a delivery", reply)
		}
		checkReply(t, &meta, &r)
		c := contiguity{consumer, stream}
		if err := c.check(&meta); err != nil {
			var b *Breach
			if !errors.As(err, &b) || c != (contiguity{consumer, stream}) {
				t.Fatalf("%v leaves %+v", err, c)
			}
			return
		}
		if c.consumer != consumer+1 || c.stream <= stream || meta.NumDelivered != 1 {
			t.Fatalf("%+v is taken for the next after %d, %d", meta, consumer, stream)
		}
		tokens := strings.Split(reply, ".")
		at := 2 // where stream and consumer stand
		if len(tokens) > 9 {
			at = 4
		}
		want := fmt.Sprintf("%s.%s.1.%d.%d.", meta.Stream, meta.Consumer, c.stream, c.consumer)
		if got := strings.Join(tokens[at:], ".") + "."; !strings.HasPrefix(plainNumbers(got, 2), want) {
			t.Fatalf("%q is taken for %q", reply, want)
		}
	})
}

// checkReply has a tracker acknowledge a delivery, alone and behind another one of its
// epoch, which it has to do by the reply as it came.
func checkReply(t *testing.T, meta *jetstream.MsgMetadata, r *reply) {
	t.Helper()
	for _, before := range []string{"", r.text, r.text + ".more", "$JS.ACK.S.c.1.1.1.0.0"} {
		tr := newTracker(ackFreely, 100, checkpoint{})
		if before != "" {
			if m, b, err := metadata(&nats.Msg{Reply: before}); err == nil {
				tr.next, tr.low = m.Sequence.Consumer, m.Sequence.Consumer
				tr.add(slotOf(&m), &b)
			}
		}
		tr.next, tr.low = meta.Sequence.Consumer, meta.Sequence.Consumer
		if tr.next == 0 || tr.next+1 == 0 {
			return // no consumer counts so
		}
		n, ok := tr.add(slotOf(meta), r)
		if !ok {
			t.Fatal("it is not taken")
		}
		tr.Confirm([]uint64{n})
		if acks := tr.takeAcks(nil); len(acks) != 1 || acks[0] != r.text {
			t.Fatalf("%q is acknowledged by %q", r.text, acks)
		}
	}
}

// Replies of every form that servers send are made anew, not kept, and are then as they
// came.
func TestRepliesAreMadeAnew(t *testing.T) {
	for name, form := range map[string]string{
		"old":                   "$JS.ACK.ORDERS.c-1-nonce.1.%d.%d.%d.%d",
		"account":               "$JS.ACK._.hash.ORDERS.c-1-nonce.1.%d.%d.%d.%d.token",
		"domain":                "$JS.ACK.hub.hash.ORDERS.c-1-nonce.1.%d.%d.%d.%d.token",
		"without a last token":  "$JS.ACK.hub.hash.ORDERS.c-1-nonce.1.%d.%d.%d.%d",
		"with two more":         "$JS.ACK.hub.hash.ORDERS.c-1-nonce.1.%d.%d.%d.%d.a.b",
		"with a dot at the end": "$JS.ACK.hub.hash.ORDERS.c-1-nonce.1.%d.%d.%d.%d.",
	} {
		for _, mode := range []acking{ackFreely, ackEach} {
			tr := newTracker(mode, 1<<20, checkpoint{})
			at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
			var want []string
			for n := range 300 {
				numbers := []any{uint64(n*n + 1), n + 1, at.UnixNano() + int64(n), (300 - n) * 1000}
				switch n {
				case 7: // before 1970, and as far as numbers go
					numbers = []any{uint64(n*n + 1), n + 1, uint64(1<<64 - 1), uint64(1<<32 - 1)}
				case 8:
					numbers = []any{uint64(n*n + 1), n + 1, 0, 0}
				}
				want = append(want, fmt.Sprintf(form, numbers...))
				m, r, err := metadata(&nats.Msg{Reply: want[n]})
				if err != nil {
					t.Fatal(err)
				}
				tr.add(slotOf(&m), &r)
			}
			if tr.odd != nil {
				t.Errorf("%s: replies are kept", name)
			}
			var got []string
			for n := range want {
				tr.Confirm([]uint64{uint64(n + 1)})
				got = tr.takeAcks(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, mode %d: acknowledged by %q", name, mode, got)
			}
		}
	}
}

// numbers says that the numbers in a reply are some, of 64 bits at most. The client
// library takes others too, for 0 or whatever is left of them.
func numbers(reply string) bool {
	tokens := strings.Split(reply, ".")
	at := 4
	if len(tokens) > 9 {
		at = 6
	}
	for _, s := range tokens[at : at+5] {
		if _, err := strconv.ParseUint(s, 10, 64); err != nil {
			return false
		}
	}
	return true
}

// plainNumbers takes leading zeros from the tokens behind the first ones.
func plainNumbers(s string, skip int) string {
	tokens := strings.Split(s, ".")
	for i := skip; i < len(tokens); i++ {
		if n, err := strconv.ParseUint(tokens[i], 10, 64); err == nil {
			tokens[i] = strconv.FormatUint(n, 10)
		}
	}
	return strings.Join(tokens, ".")
}

// FuzzPullStatus hears what the server says of pulls. What was asked for stays
// within a pull, so that there always is a next one, and only two words end it
// all.
func FuzzPullStatus(f *testing.F) {
	f.Add("408", "Request Timeout", "2048", "8454144", uint16(100))
	f.Add("409", "Message Size Exceeds MaxBytes", "2000", "8454144", uint16(2048))
	f.Add("409", "Consumer Deleted", "", "", uint16(7))
	f.Add("100", "Idle Heartbeat", "5", "", uint16(7))
	f.Add("400", "Bad Request", "x", "", uint16(7))
	f.Add("408", "Request Timeout", "-9223372036854775808", "9223372036854775807", uint16(7))
	f.Add("408", "Request Timeout", "-5000", "", uint16(7))
	f.Add("409", "Leadership Change", "2048", "8454144", uint16(7))
	f.Fuzz(func(t *testing.T, code, what, messages, bytes string, left uint16) {
		var gone error
		reason := ""
		p := &puller{nc: &nats.Conn{}, stopped: true, batch: pullMessages, bytes: pullBytes, left: min(int(left), pullMessages), log: zerolog.Nop(),
			gone: func(why string, err error) { reason, gone = why, err }}
		h := nats.Header{"Status": {code}, "Description": {what}, "Nats-Pending-Messages": {messages}, "Nats-Pending-Bytes": {bytes}}
		for range 2 {
			p.mu.Lock()
			p.status(h)
			p.mu.Unlock()
			if p.left < 0 || p.left > p.batch || p.bytes < pullBytes || p.bytes > pullMost {
				t.Fatalf("%v leaves %d of %d messages, %d bytes", h, p.left, p.batch, p.bytes)
			}
		}
		want := "interrupted"
		switch {
		case code == "100":
			want = ""
		case code == "400", strings.EqualFold(what, "Consumer Deleted"):
			want = "consumer_gone"
		case code == "404", code == "408", code == "409" && (strings.EqualFold(what, "Message Size Exceeds MaxBytes") || strings.EqualFold(what, "Batch Completed")):
			want = ""
		}
		if reason != want || (gone != nil) != (want != "") {
			t.Fatalf("%v: %q, %v, want %q", h, reason, gone, want)
		}
		p.receive(&nats.Msg{Header: h}) // not a delivery: it has no reply
		p.look(time.Now())
		if time.Since(p.heard) > time.Minute {
			t.Fatal("not heard")
		}
	})
}
