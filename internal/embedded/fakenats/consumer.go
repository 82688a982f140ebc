package fakenats

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// flushEvery is how often the real server writes a consumer's state to disk. What
// changed since is forgotten when it is killed.
const flushEvery = 100 * time.Millisecond

// consumer is guarded by the server's lock.
type consumer struct {
	st      *stream
	owner   *conn // that made a push consumer, which ends with it
	cfg     jetstream.ConsumerConfig
	created time.Time
	filters []string
	position
	saved   position
	savedAt time.Time
	waiting []*pull
	lasts   []uint64 // of a consumer that begins with the last message of each subject
	start   uint64   // and goes on behind this one
	beat    *time.Timer
	closed  bool
}

// position is what a consumer remembers.
type position struct {
	dseq    uint64            // consumer sequence of the last delivery
	sseq    uint64            // highest stream sequence that was delivered or passed
	ackC    uint64            // ack floor: consumer sequence
	ackS    uint64            // and stream sequence
	pending map[uint64]uint64 // stream sequence -> consumer sequence of the first delivery
	times   map[uint64]uint64 // stream sequence -> deliveries, where more than one
	again   []uint64          // to be delivered again
}

func (p position) clone() position {
	p.pending, p.times, p.again = maps.Clone(p.pending), maps.Clone(p.times), slices.Clone(p.again)
	return p
}

// pull is a request for messages.
type pull struct {
	reply  string
	batch  int
	bytes  int // 0: any
	expiry *time.Timer
	heart  time.Duration
}

func newConsumer(st *stream, cfg jetstream.ConsumerConfig) *consumer {
	o := &consumer{st: st, cfg: cfg, created: time.Now().UTC(), filters: cfg.FilterSubjects}
	if cfg.FilterSubject != "" {
		o.filters = []string{cfg.FilterSubject}
	}
	o.position = position{pending: map[uint64]uint64{}, times: map[uint64]uint64{}}
	from := st.first
	switch cfg.DeliverPolicy {
	case jetstream.DeliverByStartSequencePolicy:
		from = min(max(cfg.OptStartSeq, st.first), st.last+1)
	case jetstream.DeliverNewPolicy:
		from = st.last + 1
	case jetstream.DeliverLastPerSubjectPolicy:
		from = st.last + 1
		last := map[string]uint64{}
		for seq, m := range st.msgs {
			if o.wants(m.Subject) {
				last[m.Subject] = max(last[m.Subject], seq)
			}
		}
		o.lasts = slices.Sorted(maps.Values(last))
	}
	o.start = max(from, 1) - 1
	o.sseq, o.ackS = o.start, o.start
	o.saved, o.savedAt = o.position.clone(), time.Now()
	return o
}

func (st *stream) consumer(name string) *consumer {
	for _, o := range st.consumers {
		if o.cfg.Name == name {
			return o
		}
	}
	return nil
}

func (o *consumer) wants(subject string) bool {
	if len(o.filters) == 0 {
		return true
	}
	return slices.ContainsFunc(o.filters, func(f string) bool { return match(f, subject) })
}

func (o *consumer) overlaps(cfg jetstream.ConsumerConfig) bool {
	other := cfg.FilterSubjects
	if cfg.FilterSubject != "" {
		other = []string{cfg.FilterSubject}
	}
	for _, a := range o.filters {
		for _, b := range other {
			if match(a, b) || match(b, a) {
				return true
			}
		}
	}
	return false
}

// needs reports whether a message that the consumer wants has to stay for it.
func (o *consumer) needs(seq uint64) bool {
	if seq <= o.ackS {
		return false
	}
	if o.cfg.AckPolicy == jetstream.AckExplicitPolicy && seq <= o.sseq {
		_, open := o.pending[seq]
		return open
	}
	return true
}

// save notes the state on disk if that is due. It is called before every change.
func (o *consumer) save() {
	if now := time.Now(); now.Sub(o.savedAt) >= flushEvery {
		o.saved, o.savedAt = o.position.clone(), now
	}
}

// behind counts the messages that are not delivered yet.
func (o *consumer) behind() (n uint64) {
	n = uint64(len(o.lasts))
	for seq := max(o.sseq+1, o.st.first); seq <= o.st.last; seq++ {
		if m := o.st.msgs[seq]; m != nil && o.wants(m.Subject) {
			n++
		}
	}
	return n
}

func (o *consumer) info() *jetstream.ConsumerInfo {
	return &jetstream.ConsumerInfo{
		Stream: o.st.cfg.Name, Name: o.cfg.Name, Created: o.created, Config: o.cfg,
		Delivered:     jetstream.SequenceInfo{Consumer: o.dseq, Stream: o.sseq},
		AckFloor:      jetstream.SequenceInfo{Consumer: o.ackC, Stream: o.ackS},
		NumAckPending: len(o.pending), NumRedelivered: len(o.times), NumWaiting: len(o.waiting), NumPending: o.behind(),
		TimeStamp: time.Now().UTC(), PushBound: o.cfg.DeliverSubject != "",
	}
}

// next takes a pull.
func (o *consumer) next(reply string, body []byte) {
	var r struct {
		Expires   time.Duration `json:"expires"`
		Batch     int           `json:"batch"`
		MaxBytes  int           `json:"max_bytes"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
		NoWait    bool          `json:"no_wait"`
	}
	_ = json.Unmarshal(body, &r) // an empty one asks for one message
	s := o.st.s
	p := &pull{reply: reply, batch: max(r.Batch, 1), bytes: r.MaxBytes, heart: r.Heartbeat}
	if len(o.waiting) >= o.cfg.MaxWaiting {
		s.send(reply, "", []byte("NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n"), nil)
		return
	}
	o.waiting = append(o.waiting, p)
	if r.Expires > 0 {
		p.expiry = s.later(r.Expires, func() {
			if slices.Contains(o.waiting, p) {
				o.end(p, "408 Request Timeout")
			}
		})
	}
	o.run()
	if r.NoWait && slices.Contains(o.waiting, p) {
		o.drop(p)
		s.send(reply, "", []byte("NATS/1.0 404 No Messages\r\n\r\n"), nil)
	}
	o.rest()
}

// rest starts the heart when nothing is to be delivered.
func (o *consumer) rest() {
	if o.beat != nil {
		o.beat.Stop()
		o.beat = nil
	}
	if len(o.waiting) == 0 || o.waiting[0].heart == 0 || o.closed {
		return
	}
	o.beat = o.st.s.later(o.waiting[0].heart, func() {
		for _, p := range o.waiting {
			if p.heart > 0 {
				o.st.s.send(p.reply, "", fmt.Appendf(nil, "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %d\r\nNats-Last-Stream: %d\r\n\r\n",
					o.dseq, o.sseq), nil)
				break
			}
		}
		o.rest()
	})
}

// end ends a pull and says why.
func (o *consumer) end(p *pull, why string) {
	o.drop(p)
	o.st.s.send(p.reply, "", fmt.Appendf(nil, "NATS/1.0 %s\r\nNats-Pending-Messages: %d\r\nNats-Pending-Bytes: %d\r\n\r\n",
		why, p.batch, p.bytes), nil)
}

func (o *consumer) drop(p *pull) {
	if i := slices.Index(o.waiting, p); i >= 0 {
		o.waiting = slices.Delete(o.waiting, i, i+1)
	}
	if p.expiry != nil {
		p.expiry.Stop()
	}
}

// close ends all pulls of a consumer that is no more.
func (o *consumer) close() {
	o.closed = true
	for len(o.waiting) > 0 {
		p := o.waiting[0]
		o.drop(p)
		o.st.s.send(p.reply, "", []byte("NATS/1.0 409 Consumer Deleted\r\n\r\n"), nil)
	}
	o.rest()
}

// taker is the pull that a message of that size goes to, nil if none waits.
func (o *consumer) taker(size int) *pull {
	for len(o.waiting) > 0 {
		p := o.waiting[0]
		switch {
		case !o.st.s.interest(p.reply):
			o.drop(p)
		case p.bytes > 0 && size > p.bytes:
			o.end(p, "409 Message Size Exceeds MaxBytes")
		default:
			return p
		}
	}
	return nil
}

// run delivers what can be delivered.
func (o *consumer) run() {
	delivered := false
	for !o.closed && !o.st.leaderless && !o.st.s.down && o.one() {
		delivered = true
	}
	if delivered {
		o.rest()
	}
}

func (o *consumer) one() bool {
	s := o.st.s
	for len(o.again) > 0 && o.st.msgs[o.again[0]] == nil {
		delete(o.pending, o.again[0])
		o.again = o.again[1:]
	}
	seq, redelivered := uint64(0), false
	switch {
	case len(o.again) > 0:
		seq, redelivered = o.again[0], true
	case o.cfg.MaxAckPending > 0 && o.cfg.AckPolicy != jetstream.AckNonePolicy && len(o.pending) >= o.cfg.MaxAckPending:
		return false
	case len(o.lasts) > 0:
		seq = o.lasts[0]
	default:
		for q := max(o.sseq+1, o.st.first); q <= o.st.last && seq == 0; q++ {
			if m := o.st.msgs[q]; m != nil && o.wants(m.Subject) {
				seq = q
			}
		}
	}
	m := o.st.msgs[seq]
	if m == nil {
		if len(o.lasts) > 0 {
			o.lasts = o.lasts[1:]
			return true
		}
		return false
	}
	to := o.cfg.DeliverSubject
	var p *pull
	if to == "" {
		if p = o.taker(len(m.Subject) + len(m.Header) + len(m.Data)); p == nil {
			return false
		}
		to = p.reply
	}
	o.save()
	o.dseq++
	times := uint64(1)
	switch {
	case redelivered:
		o.again = o.again[1:]
		times = max(o.times[seq], 1) + 1
		o.times[seq] = times
	case len(o.lasts) > 0:
		o.lasts = o.lasts[1:]
	default:
		o.sseq = seq
	}
	if o.cfg.AckPolicy != jetstream.AckNonePolicy {
		if _, open := o.pending[seq]; !open {
			o.pending[seq] = o.dseq
		}
	} else {
		o.ackC, o.ackS = o.dseq, seq
	}
	reply := fmt.Sprintf("$JS.ACK.%s.%s.%d.%d.%d.%d.%d", o.st.cfg.Name, o.cfg.Name, times, seq, o.dseq, m.Time.UnixNano(), o.behind())
	if !s.lose(o.cfg.Name, LoseDelivery) {
		for _, c := range s.conns {
			if o.owner == nil || o.owner == c {
				c.forward(to, m, reply)
			}
		}
	}
	if p != nil {
		p.batch--
		if p.bytes > 0 {
			if p.bytes -= len(m.Subject) + len(m.Header) + len(m.Data); p.bytes <= 0 {
				p.batch = 0
			}
		}
		if p.batch == 0 {
			o.drop(p)
		}
	}
	return true
}

// forward sends a message under its own subject to whoever subscribes to another,
// as the server does for consumers.
func (c *conn) forward(to string, m *Message, reply string) {
	for _, sub := range c.subs {
		if match(sub.subject, to) {
			c.deliver(sub.id, m.Subject, reply, m.Header, m.Data)
		}
	}
}

// ack takes an acknowledgement of a delivery.
func (o *consumer) ack(seq, dseq uint64) {
	if seq > o.sseq {
		return
	}
	o.save()
	var done []uint64
	take := func(q uint64) {
		delete(o.pending, q)
		delete(o.times, q)
		if i := slices.Index(o.again, q); i >= 0 {
			o.again = slices.Delete(o.again, i, i+1)
		}
		done = append(done, q)
	}
	switch o.cfg.AckPolicy {
	case jetstream.AckExplicitPolicy:
		if _, open := o.pending[seq]; !open {
			break
		}
		take(seq)
		o.moveFloor()
	case jetstream.AckAllPolicy:
		if dseq <= o.ackC || seq <= o.ackS {
			return
		}
		o.ackC, o.ackS = dseq, seq
		for _, q := range slices.Sorted(maps.Keys(o.pending)) {
			if q <= seq {
				take(q)
			}
		}
	}
	if len(done) > 0 && o.st.s.opt.Acked != nil {
		o.st.s.opt.Acked(o.st.cfg.Name, o.cfg.Name, done)
	}
	o.st.settle()
	o.run()
}

func (o *consumer) moveFloor() {
	if len(o.pending) == 0 {
		o.ackC, o.ackS = o.dseq, o.sseq
		return
	}
	low := slices.Min(slices.Collect(maps.Keys(o.pending)))
	o.ackC, o.ackS = o.pending[low]-1, low-1
}

// redeliver has a message delivered once more.
func (o *consumer) redeliver(seq uint64) {
	if _, open := o.pending[seq]; open && !slices.Contains(o.position.again, seq) {
		o.position.again = append(o.position.again, seq)
	}
}
