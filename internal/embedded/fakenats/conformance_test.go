package fakenats_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/embedded/fakenats"
)

// The same script on the real server and on the fake: what a client sees must be
// the same, line by line.
func TestBehavesAsTheRealServer(t *testing.T) {
	t.Parallel()
	for _, retention := range []jetstream.RetentionPolicy{jetstream.LimitsPolicy, jetstream.InterestPolicy, jetstream.WorkQueuePolicy} {
		t.Run(retention.String(), func(t *testing.T) {
			t.Parallel()
			genuine := embeddedtest.Start(t)
			fake := fakenats.New(fakenats.Options{})
			want := script(t, retention, func(string) *nats.Conn { return connect(t, genuine.ClientURL()) })
			got := script(t, retention, func(name string) *nats.Conn {
				return connect(t, "nats://127.0.0.1:4222", nats.SetCustomDialer(fake.Link(name)))
			})
			for i := range max(len(want), len(got)) {
				var a, b string
				if i < len(want) {
					a = want[i]
				}
				if i < len(got) {
					b = got[i]
				}
				if a != b {
					t.Errorf("line %d\nreal %s\nfake %s", i, a, b)
				}
			}
			if len(want) < 60 {
				t.Errorf("the script has seen %d things only", len(want))
			}
		})
	}
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// patience is how long what is certain to come may take.
const patience = 30 * time.Second

// client does things and notes what it sees.
type client struct {
	t    *testing.T
	ctx  context.Context
	nc   *nats.Conn
	js   jetstream.JetStream
	seen []string
	acks []*nats.Msg // deliveries
	subs []*nats.Subscription
}

func (c *client) note(format string, args ...any) {
	c.seen = append(c.seen, fmt.Sprintf(format, args...))
}

// fail notes an error as a program tells it.
func (c *client) fail(what string, err error) {
	var api *jetstream.APIError
	switch {
	case err == nil:
		c.note("%s: well", what)
	case errors.As(err, &api):
		c.note("%s: %d %d", what, api.Code, api.ErrorCode)
	default:
		c.note("%s: %v", what, err)
	}
}

func script(t *testing.T, retention jetstream.RetentionPolicy, dial func(string) *nats.Conn) []string {
	c := &client{t: t, ctx: t.Context(), nc: dial("one")}
	var err error
	if c.js, err = jetstream.New(c.nc); err != nil {
		t.Fatal(err)
	}
	_, err = c.js.Stream(c.ctx, "S")
	c.note("no stream: %v", errors.Is(err, jetstream.ErrStreamNotFound))
	s, err := c.js.CreateStream(c.ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"e.>", "o.>"}, Retention: retention})
	if err != nil {
		t.Fatal(err)
	}
	c.stream("empty", s)
	c.publish("e.a", 1)
	c.stream("nobody has an interest yet", s)

	by := func(limits, interest, queue int) int {
		return map[jetstream.RetentionPolicy]int{jetstream.LimitsPolicy: limits, jetstream.InterestPolicy: interest, jetstream.WorkQueuePolicy: queue}[retention]
	}
	ackPolicy, deliver := jetstream.AckAllPolicy, jetstream.DeliverByStartSequencePolicy
	if retention == jetstream.WorkQueuePolicy {
		ackPolicy, deliver = jetstream.AckExplicitPolicy, jetstream.DeliverAllPolicy
	}
	config := func(name string, start uint64) jetstream.ConsumerConfig {
		cfg := jetstream.ConsumerConfig{Name: name, Durable: name, AckPolicy: ackPolicy, DeliverPolicy: deliver, AckWait: time.Hour,
			MaxDeliver: -1, MaxAckPending: 6, FilterSubjects: []string{"e.>"}, Metadata: map[string]string{"who": name}}
		if deliver == jetstream.DeliverByStartSequencePolicy {
			cfg.OptStartSeq = start
		}
		return cfg
	}
	cons, err := s.CreateConsumer(c.ctx, config("one", 1))
	c.fail("create", err)
	c.info("new", cons)
	same := config("one", 1)
	same.MaxAckPending++
	_, err = s.CreateConsumer(c.ctx, same)
	c.fail("create another of that name", err)
	_, err = s.CreateConsumer(c.ctx, config("two", 1))
	c.fail("create a second", err)
	if err == nil {
		c.fail("delete it", s.DeleteConsumer(c.ctx, "two"))
	}
	c.fail("delete none", s.DeleteConsumer(c.ctx, "none"))

	// Pulls.
	in := c.inbox()
	c.publish("e.b", 3)
	c.publish("o.x", 1)
	c.pull("one", in, `{"batch":3,"max_bytes":1,"expires":60000000000}`)
	c.receive(in, 1) // too large, all of them
	c.pull("one", in, `{"batch":2,"expires":60000000000}`)
	c.receive(in, 2)
	c.info("two of them", cons)
	c.pull("one", in, `{"batch":20,"expires":60000000000}`)
	c.receive(in, by(2, 1, 2))
	c.publish("e.c", 8) // up to MaxAckPending
	c.receive(in, by(2, 3, 2))
	c.info("full", cons)
	c.ack(2)
	c.receive(in, by(4, 4, 1))
	c.info("room again", cons)
	c.stream("some acknowledged", s)
	c.ack(0)
	c.receive(in, by(2, 1, 1))
	c.ack(0)
	c.receive(in, by(0, 0, 1))
	c.info("acknowledged", cons)
	c.stream("acknowledged", s)

	// Statuses.
	in2 := c.inbox()
	c.pull("none", in2, `{"batch":1}`)
	_, err = in2.NextMsg(patience)
	c.note("a pull of no consumer: %v", err)
	if cons, err = c.again(s, cons, retention, config("three", 14)); err != nil {
		t.Fatal(err)
	}
	c.receive(in, 1) // its pull has ended with it
	if retention == jetstream.WorkQueuePolicy {
		c.acks = nil
		c.pull("three", in2, `{"batch":9,"expires":60000000000}`) // what was not acknowledged
		c.receive(in2, 6)
		for n := range c.acks {
			c.ack(n)
		}
		c.receive(in2, 3)
		c.info("queue", cons)
	}
	in3 := c.inbox()
	c.pull("three", in3, `{"batch":5,"expires":150000000}`)
	c.receive(in3, 1) // its time is over
	c.pull("three", in3, `{"batch":5,"expires":400000000,"idle_heartbeat":150000000}`)
	c.heartbeats(in3)
	c.pull("three", in3, `{"batch":3,"no_wait":true}`)
	c.receive(in3, 1)

	// A connection that is gone takes its pulls and what was sent to it with it.
	other := &client{t: t, ctx: t.Context(), nc: dial("two")}
	oin := other.inbox()
	other.pull("three", oin, `{"batch":2,"expires":60000000000}`)
	other.settle()
	c.publish("e.d", 1)
	other.receive(oin, 1)
	c.publish("e.d", 1)
	other.receive(oin, 1)
	other.pull("three", oin, `{"batch":5,"expires":60000000000}`)
	other.settle()
	other.nc.Close()
	c.seen = append(c.seen, other.seen...)
	c.deserted(oin.Subject)
	c.publish("e.e", 2)
	c.pull("three", in3, `{"batch":10,"expires":60000000000}`)
	c.receive(in3, by(2, 2, 1))
	c.info("with a lost one", cons)
	c.answer(0, "-NAK")
	c.receive(in3, 1)
	c.info("delivered again", cons)
	c.fail("delete under a pull", s.DeleteConsumer(c.ctx, "three"))
	c.receive(in3, 1)
	_, err = cons.Info(c.ctx)
	c.note("gone: %v", errors.Is(err, jetstream.ErrConsumerNotFound))
	c.stream("without a consumer", s)

	// Reading single messages.
	for _, body := range []string{`{"seq":1}`, `{"seq":3}`, `{"seq":3,"next_by_subj":">"}`, `{"seq":99}`, `{"last_by_subj":"e.d"}`} {
		m, err := c.nc.Request("$JS.API.STREAM.MSG.GET.S", []byte(body), patience)
		if err != nil {
			t.Fatal(err)
		}
		text := string(m.Data)
		if i := strings.Index(text, `"time"`); i >= 0 {
			text = text[:i]
		}
		if i := strings.Index(text, `"seq":`); i >= 0 {
			c.note("message %s: %s", body, strings.SplitN(text[i+6:], ",", 2)[0])
		} else {
			c.note("message %s: none (%v)", body, strings.Contains(text, "10037"))
		}
	}
	c.keyValue()
	c.fail("delete the stream", c.js.DeleteStream(c.ctx, "S"))
	// The answer came over the same connection, behind all that was sent before.
	for _, sub := range c.subs {
		n, _, err := sub.Pending()
		c.note("%d messages were not expected, %v", n, err)
	}
	return c.seen
}

// again makes a consumer in the place of one, in the order that retention needs.
func (c *client) again(s jetstream.Stream, old jetstream.Consumer, retention jetstream.RetentionPolicy, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	if retention == jetstream.WorkQueuePolicy {
		c.fail("delete first", s.DeleteConsumer(c.ctx, old.CachedInfo().Name))
		return s.CreateConsumer(c.ctx, cfg)
	}
	cons, err := s.CreateConsumer(c.ctx, cfg)
	c.fail("delete behind", s.DeleteConsumer(c.ctx, old.CachedInfo().Name))
	return cons, err
}

func (c *client) inbox() *nats.Subscription {
	c.t.Helper()
	sub, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		c.t.Fatal(err)
	}
	c.settle()
	c.subs = append(c.subs, sub)
	return sub
}

// settle waits until the server has seen what was sent.
func (c *client) settle() {
	c.t.Helper()
	if c.nc.IsClosed() {
		return
	}
	if err := c.nc.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) publish(subject string, n int) {
	c.t.Helper()
	for i := range n {
		ack, err := c.js.Publish(c.ctx, subject, []byte(strconv.Itoa(i)))
		if err != nil {
			c.t.Fatal(err)
		}
		c.note("published %s: %d", subject, ack.Sequence)
	}
}

func (c *client) pull(consumer string, in *nats.Subscription, body string) {
	c.t.Helper()
	if err := c.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.S."+consumer, in.Subject, []byte(body)); err != nil {
		c.t.Fatal(err)
	}
}

// receive notes the next n messages. One more than that shows in what is received
// next, or in the end.
func (c *client) receive(in *nats.Subscription, n int) {
	c.t.Helper()
	for range n {
		m, err := in.NextMsg(patience)
		if err != nil {
			c.t.Fatalf("after %d lines: %v; seen:\n%s", len(c.seen), err, strings.Join(c.seen, "\n"))
		}
		c.note("%s", c.describe(m))
	}
}

// heartbeats notes a pull's end and that there were heartbeats before it; how many
// depends on the machine.
func (c *client) heartbeats(in *nats.Subscription) {
	c.t.Helper()
	before := ""
	for {
		m, err := in.NextMsg(patience)
		if err != nil {
			c.t.Fatalf("after %d lines: %v", len(c.seen), err)
		}
		if m.Header.Get("Status") != "100" {
			c.note("%s, then %s", before, c.describe(m))
			return
		}
		before = c.describe(m)
	}
}

// deserted waits until the server knows that nobody reads a subject any more.
func (c *client) deserted(subject string) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		_, err := c.nc.Request(subject, nil, 100*time.Millisecond)
		if errors.Is(err, nats.ErrNoResponders) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("somebody reads %s although the connection is gone: %v", subject, err)
		}
	}
}

// ack acknowledges the n-th last delivery.
func (c *client) ack(n int) { c.answer(n, "+ACK") }

func (c *client) answer(n int, what string) {
	c.t.Helper()
	if _, err := c.nc.Request(c.acks[len(c.acks)-1-n].Reply, []byte(what), patience); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) stream(when string, s jetstream.Stream) {
	c.t.Helper()
	i, err := s.Info(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	c.note("stream, %s: %d to %d, %d messages, %d consumers", when, i.State.FirstSeq, i.State.LastSeq, i.State.Msgs, i.State.Consumers)
}

func (c *client) info(when string, cons jetstream.Consumer) {
	c.t.Helper()
	i, err := cons.Info(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	c.note("consumer, %s: delivered %d/%d, floor %d/%d, %d unacknowledged, %d again, %d pending", when, i.Delivered.Consumer, i.Delivered.Stream,
		i.AckFloor.Consumer, i.AckFloor.Stream, i.NumAckPending, i.NumRedelivered, i.NumPending)
}

// keyValue does what the ledger does.
func (c *client) keyValue() {
	c.t.Helper()
	_, err := c.js.KeyValue(c.ctx, "B")
	c.fail("no bucket", err)
	kv, err := c.js.CreateKeyValue(c.ctx, jetstream.KeyValueConfig{Bucket: "B", History: 1})
	if err != nil {
		c.t.Fatal(err)
	}
	put := func(what string, rev uint64, err error) {
		c.note("%s: %d %v %v", what, rev, errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrKeyRevisionMismatch))
	}
	rev, err := kv.Create(c.ctx, "lane.a", []byte("1"))
	put("create", rev, err)
	rev, err = kv.Create(c.ctx, "lane.a", []byte("1"))
	put("create again", rev, err)
	rev, err = kv.Update(c.ctx, "lane.a", []byte("2"), 1)
	put("update", rev, err)
	rev, err = kv.Update(c.ctx, "lane.a", []byte("2"), 1)
	put("update a stale one", rev, err)
	rev, err = kv.Create(c.ctx, "tail.b", []byte("3"))
	put("another", rev, err)
	put("purge a stale one", 0, kv.Purge(c.ctx, "tail.b", jetstream.LastRevision(1)))
	put("purge", 0, kv.Purge(c.ctx, "tail.b", jetstream.LastRevision(rev)))
	for _, key := range []string{"lane.a", "tail.b", "none"} {
		e, err := kv.Get(c.ctx, key)
		if err != nil {
			c.note("get %s: %v", key, err)
			continue
		}
		c.note("get %s: %s at %d", key, e.Value(), e.Revision())
	}
	rev, err = kv.Create(c.ctx, "tail.b", []byte("4"))
	put("create over a marker", rev, err)
	w, err := kv.Watch(c.ctx, ">")
	if err != nil {
		c.t.Fatal(err)
	}
	for e := range w.Updates() {
		if e == nil {
			break
		}
		c.note("watch: %s %s at %d, %s", e.Key(), e.Value(), e.Revision(), e.Operation())
	}
	if err := w.Stop(); err != nil {
		c.t.Fatal(err)
	}
	c.fail("delete the bucket", c.js.DeleteKeyValue(c.ctx, "B"))
	_, err = kv.Get(c.ctx, "lane.a")
	c.note("get of no bucket: %v", err)
	_, err = kv.Update(c.ctx, "lane.a", []byte("5"), 2)
	c.note("update of no bucket: %v", err)
}

func (c *client) describe(m *nats.Msg) string {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Sprintf("status %s %s, pending %s/%s, last %s/%s", m.Header.Get("Status"), m.Header.Get("Description"),
			m.Header.Get("Nats-Pending-Messages"), m.Header.Get("Nats-Pending-Bytes"), m.Header.Get("Nats-Last-Consumer"), m.Header.Get("Nats-Last-Stream"))
	}
	c.acks = append(c.acks, m)
	// How many are pending depends on how far others have come by then.
	return fmt.Sprintf("%s at %d, consumer sequence %d, delivered %d", m.Subject, meta.Sequence.Stream, meta.Sequence.Consumer, meta.NumDelivered)
}
