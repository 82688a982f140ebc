package fakenats

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Message is a stored message. It is never changed.
type Message struct {
	Subject  string
	Header   []byte // as on the wire, nil for none
	Data     []byte
	Sequence uint64
	Time     time.Time
}

// stream is guarded by the server's lock.
type stream struct {
	s         *Server
	cfg       jetstream.StreamConfig
	created   time.Time
	msgs      map[uint64]*Message
	first     uint64 // sequence of the oldest message; last+1 if there is none
	last      uint64
	consumers []*consumer

	leaderless bool
	log        []*Message          // all that were ever stored, for reads that lag
	acked      map[uint64]*Message // removed by acknowledgements, see Restart
}

func newStream(s *Server, cfg jetstream.StreamConfig) *stream {
	if len(cfg.Subjects) == 0 {
		cfg.Subjects = []string{cfg.Name}
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	for _, p := range []*int64{&cfg.MaxMsgs, &cfg.MaxBytes, &cfg.MaxMsgsPerSubject} {
		if *p == 0 {
			*p = -1
		}
	}
	for _, p := range []*int{&cfg.MaxConsumers} {
		if *p == 0 {
			*p = -1
		}
	}
	if cfg.MaxMsgSize == 0 {
		cfg.MaxMsgSize = -1
	}
	return &stream{s: s, cfg: cfg, created: time.Now().UTC(), msgs: map[uint64]*Message{}, first: 1, acked: map[uint64]*Message{}}
}

func (st *stream) takes(subject string) bool {
	for _, p := range st.cfg.Subjects {
		if match(p, subject) {
			return true
		}
	}
	return false
}

// publish stores a message and returns the answer to its publisher.
func (st *stream) publish(subject string, header, data []byte) any {
	if want, ok := headerOf(header, "Nats-Expected-Last-Subject-Sequence"); ok {
		n, _ := strconv.ParseUint(want, 10, 64) // the client library writes numbers
		var last uint64
		if m := st.lastOf(subject, st.last); m != nil {
			last = m.Sequence
		}
		if n != last {
			return failed(400, 10071, fmt.Sprintf("wrong last sequence: %d", last))
		}
	}
	if how, _ := headerOf(header, "Nats-Rollup"); how == "sub" {
		st.purge(subject, 0)
	}
	st.store(subject, header, data)
	return pubAck{Stream: st.cfg.Name, Sequence: st.last}
}

func (st *stream) store(subject string, header, data []byte) *Message {
	st.last++
	m := &Message{Subject: subject, Header: header, Data: data, Sequence: st.last, Time: time.Now().UTC()}
	if st.s.opt.Stored != nil {
		st.s.opt.Stored(st.cfg.Name, m)
	}
	if st.cfg.Retention == jetstream.InterestPolicy && !slices.ContainsFunc(st.consumers, func(o *consumer) bool { return o.wants(subject) }) {
		st.skip()
		st.gone(m.Sequence, NoInterest)
		return m
	}
	st.msgs[m.Sequence] = m
	if n := st.cfg.MaxMsgsPerSubject; n > 0 {
		if strings.HasPrefix(st.cfg.Name, "KV_") {
			st.log = append(st.log, m)
		}
		var same []uint64
		for seq := st.first; seq <= st.last; seq++ {
			if o := st.msgs[seq]; o != nil && o.Subject == subject {
				same = append(same, seq)
			}
		}
		for _, seq := range same[:max(0, len(same)-int(n))] {
			st.remove(seq, Replaced)
		}
	}
	for _, o := range slices.Clone(st.consumers) {
		o.run()
	}
	return m
}

// skip moves first over what is not there.
func (st *stream) skip() {
	for st.first <= st.last && st.msgs[st.first] == nil {
		st.first++
	}
}

func (st *stream) remove(seq uint64, why Removal) {
	m := st.msgs[seq]
	if m == nil {
		return
	}
	delete(st.msgs, seq)
	st.skip()
	if why == Acknowledged {
		st.acked[seq] = m
	}
	st.gone(seq, why)
}

func (st *stream) gone(seq uint64, why Removal) {
	if st.s.opt.Removed != nil {
		st.s.opt.Removed(st.cfg.Name, seq, why)
	}
}

// lastOf is the last message of a subject up to a sequence.
func (st *stream) lastOf(subject string, upto uint64) *Message {
	for seq := min(upto, st.last); seq >= st.first && seq > 0; seq-- {
		if m := st.msgs[seq]; m != nil && match(subject, m.Subject) {
			return m
		}
	}
	return nil
}

// purge removes the messages of a subject, "" for any, below a sequence, 0 for
// all.
func (st *stream) purge(subject string, below uint64) (n uint64) {
	for seq := st.first; seq <= st.last; seq++ {
		m := st.msgs[seq]
		if m == nil || subject != "" && !match(subject, m.Subject) || below != 0 && seq >= below {
			continue
		}
		st.remove(seq, Purged)
		n++
	}
	return n
}

// settle removes what no consumer needs any more, where that decides.
func (st *stream) settle() {
	if st.cfg.Retention == jetstream.LimitsPolicy {
		return
	}
	for seq := st.first; seq <= st.last; seq++ {
		m := st.msgs[seq]
		if m == nil {
			continue
		}
		needed, taken := false, false
		for _, o := range st.consumers {
			if !o.wants(m.Subject) {
				continue
			}
			taken = true
			needed = needed || o.needs(seq)
		}
		switch {
		case needed, !taken && st.cfg.Retention == jetstream.WorkQueuePolicy:
		case taken:
			st.remove(seq, Acknowledged)
		default:
			st.remove(seq, NoInterest)
		}
	}
}

func (st *stream) info() *jetstream.StreamInfo {
	state := jetstream.StreamState{FirstSeq: st.first, LastSeq: st.last, Consumers: len(st.consumers), Msgs: uint64(len(st.msgs))}
	for _, m := range st.msgs {
		state.Bytes += uint64(len(m.Subject) + len(m.Header) + len(m.Data) + 22)
	}
	if m := st.msgs[st.first]; m != nil {
		state.FirstTime = m.Time
	}
	if m := st.msgs[st.last]; m != nil {
		state.LastTime = m.Time
	}
	if st.last == 0 {
		state.FirstSeq = 0
	}
	return &jetstream.StreamInfo{Config: st.cfg, Created: st.created, State: state, TimeStamp: time.Now().UTC()}
}

// find is a message as a request describes it.
func (st *stream) find(r msgRequest) *Message {
	switch {
	case r.LastFor != "":
		return st.lastOf(r.LastFor, st.last)
	case r.NextFor != "":
		for seq := max(r.Seq, st.first); seq <= st.last; seq++ {
			if m := st.msgs[seq]; m != nil && match(r.NextFor, m.Subject) {
				return m
			}
		}
		return nil
	}
	return st.msgs[r.Seq]
}

// stale is the last message of a subject as a replica knows it that lags by so
// many.
func (st *stream) stale(subject string, lag uint64) *Message {
	for _, m := range slices.Backward(st.log) {
		if m.Sequence+lag <= st.last && m.Subject == subject {
			return m
		}
	}
	return nil
}

func (st *stream) deleteConsumer(o *consumer) {
	if i := slices.Index(st.consumers, o); i >= 0 {
		st.consumers = slices.Delete(st.consumers, i, i+1)
		o.close()
		st.settle()
	}
}

type msgRequest struct {
	Seq     uint64 `json:"seq"`
	LastFor string `json:"last_by_subj"`
	NextFor string `json:"next_by_subj"`
}

type pubAck struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"seq"`
}

// headerOf is the value of a header.
func headerOf(header []byte, name string) (string, bool) {
	for line := range strings.SplitSeq(string(header), "\r\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && k == name {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

type errorResponse struct {
	Error jetstream.APIError `json:"error"`
}

func failed(code int, number jetstream.ErrorCode, what string) errorResponse {
	return errorResponse{jetstream.APIError{Code: code, ErrorCode: number, Description: what}}
}

func (s *Server) answer(c *conn, reply string, v any) {
	if reply == "" {
		return
	}
	if s.lose(c.link.name, LoseReply) {
		s.trace(c.link.name, "reply lost", "", 0)
		return
	}
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // a type of our own
	}
	s.send(reply, "", nil, body)
}
