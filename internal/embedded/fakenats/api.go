package fakenats

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// api carries out a request; false if nobody answers for its subject.
func (s *Server) api(c *conn, call, reply string, body []byte) bool {
	if s.down {
		return false
	}
	name, rest := call, ""
	for _, verb := range []string{"INFO", "STREAM.CREATE.", "STREAM.DELETE.", "STREAM.PURGE.", "STREAM.INFO.", "STREAM.MSG.GET.",
		"DIRECT.GET.", "CONSUMER.CREATE.", "CONSUMER.DELETE.", "CONSUMER.INFO.", "CONSUMER.LIST.", "CONSUMER.MSG.NEXT."} {
		if call == verb || strings.HasSuffix(verb, ".") && strings.HasPrefix(call, verb) {
			name, rest = verb, call[len(verb):]
		}
	}
	stream, more, _ := cut(rest)
	s.trace(c.link.name, name, stream, 0)
	switch name {
	case "INFO":
		s.answer(c, reply, jetstream.AccountInfo{})
		return true
	case "STREAM.CREATE.":
		s.answer(c, reply, s.create(body))
		return true
	}
	st := s.streams[stream]
	switch {
	case st == nil && (name == "DIRECT.GET." || name == "CONSUMER.MSG.NEXT."):
		return false
	case st == nil:
		s.answer(c, reply, failed(404, 10059, "stream not found"))
		return true
	case st.leaderless && (name == "DIRECT.GET." || name == "CONSUMER.MSG.NEXT."):
		return false
	case st.leaderless:
		if s.opt.Silent == nil || !s.opt.Silent(stream) {
			s.answer(c, reply, failed(503, 10008, "JetStream system temporarily unavailable"))
		}
		return true
	}
	switch name {
	case "STREAM.INFO.":
		s.answer(c, reply, st.info())
	case "STREAM.DELETE.":
		s.deleteStream(st)
		s.answer(c, reply, success{true})
	case "STREAM.PURGE.":
		var r struct {
			Filter string `json:"filter"`
			Seq    uint64 `json:"seq"`
		}
		_ = json.Unmarshal(body, &r) // an empty one purges all
		n := st.purge(r.Filter, r.Seq)
		s.answer(c, reply, map[string]any{"success": true, "purged": n})
	case "STREAM.MSG.GET.":
		var r msgRequest
		_ = json.Unmarshal(body, &r) // the client library writes requests
		m := st.find(r)
		if m == nil {
			s.answer(c, reply, failed(404, 10037, "no message found"))
			break
		}
		s.answer(c, reply, map[string]any{"message": storedMsg{m.Subject, m.Sequence, m.Header, m.Data, m.Time}})
	case "DIRECT.GET.":
		s.direct(c, st, more, reply, body)
	case "CONSUMER.CREATE.":
		s.createConsumer(c, st, reply, body)
	case "CONSUMER.LIST.":
		list := consumerList{Consumers: []*jetstream.ConsumerInfo{}}
		for _, o := range st.consumers {
			list.Consumers = append(list.Consumers, o.info())
		}
		list.Total = len(list.Consumers)
		s.answer(c, reply, list)
	default:
		o := st.consumer(more)
		if o == nil && name == "CONSUMER.MSG.NEXT." {
			return false
		}
		if o == nil {
			s.answer(c, reply, failed(404, 10014, "consumer not found"))
			break
		}
		switch name {
		case "CONSUMER.INFO.":
			s.answer(c, reply, o.info())
		case "CONSUMER.DELETE.":
			st.deleteConsumer(o)
			s.answer(c, reply, success{true})
		case "CONSUMER.MSG.NEXT.":
			o.next(reply, body)
		}
	}
	return true
}

type success struct {
	Success bool `json:"success"`
}

type storedMsg struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Header  []byte    `json:"hdrs,omitempty"`
	Data    []byte    `json:"data,omitempty"`
	Time    time.Time `json:"time"`
}

type consumerList struct {
	Total     int                       `json:"total"`
	Offset    int                       `json:"offset"`
	Limit     int                       `json:"limit"`
	Consumers []*jetstream.ConsumerInfo `json:"consumers"`
}

func (s *Server) create(body []byte) any {
	var cfg jetstream.StreamConfig
	if err := json.Unmarshal(body, &cfg); err != nil {
		return failed(400, 10025, "invalid JSON: "+err.Error())
	}
	st := newStream(s, cfg)
	if old := s.streams[cfg.Name]; old != nil {
		if !reflect.DeepEqual(old.cfg, st.cfg) {
			return failed(400, 10058, "stream name already in use with a different configuration")
		}
		return old.info()
	}
	s.streams[cfg.Name] = st
	return st.info()
}

func (s *Server) deleteStream(st *stream) {
	for _, o := range st.consumers {
		o.close()
	}
	st.consumers = nil
	delete(s.streams, st.cfg.Name)
}

// direct answers as any replica would.
func (s *Server) direct(c *conn, st *stream, subject, reply string, body []byte) {
	r := msgRequest{LastFor: subject}
	if subject == "" {
		_ = json.Unmarshal(body, &r) // the client library writes requests
	}
	m := st.find(r)
	if s.opt.Lag != nil && r.LastFor != "" {
		if lag := s.opt.Lag(st.cfg.Name); lag > 0 {
			m = st.stale(r.LastFor, lag)
		}
	}
	if s.lose(c.link.name, LoseReply) {
		return
	}
	if m == nil {
		s.send(reply, "", []byte("NATS/1.0 404 Message Not Found\r\n\r\n"), nil)
		return
	}
	h := []byte("NATS/1.0\r\n")
	if m.Header != nil {
		h = slices.Clone(m.Header[:len(m.Header)-2])
	}
	h = fmt.Appendf(h, "Nats-Stream: %s\r\nNats-Subject: %s\r\nNats-Sequence: %d\r\nNats-Time-Stamp: %s\r\n\r\n",
		st.cfg.Name, m.Subject, m.Sequence, m.Time.Format(time.RFC3339Nano))
	s.send(reply, "", h, m.Data)
}

func (s *Server) createConsumer(c *conn, st *stream, reply string, body []byte) {
	var r struct {
		Config jetstream.ConsumerConfig `json:"config"`
		Action string                   `json:"action"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		s.answer(c, reply, failed(400, 10025, "invalid JSON: "+err.Error()))
		return
	}
	cfg := r.Config
	if cfg.Name == "" {
		cfg.Name = cfg.Durable
	}
	if cfg.Name == "" {
		cfg.Name = nuid.Next()
	}
	if cfg.AckWait == 0 {
		cfg.AckWait = 30 * time.Second
	}
	if cfg.MaxDeliver == 0 {
		cfg.MaxDeliver = -1
	}
	if cfg.DeliverSubject == "" && cfg.MaxWaiting == 0 {
		cfg.MaxWaiting = 512
	}
	if cfg.AckPolicy != jetstream.AckNonePolicy && cfg.MaxAckPending == 0 {
		cfg.MaxAckPending = 1000
	}
	if o := st.consumer(cfg.Name); o != nil {
		if r.Action == "create" && !reflect.DeepEqual(o.cfg, cfg) {
			s.answer(c, reply, failed(400, 10148, "consumer already exists"))
			return
		}
		s.answer(c, reply, o.info())
		return
	}
	if st.cfg.Retention == jetstream.WorkQueuePolicy {
		if cfg.DeliverPolicy != jetstream.DeliverAllPolicy {
			s.answer(c, reply, failed(400, 10101, "consumer must be deliver all on workqueue stream"))
			return
		}
		for _, o := range st.consumers {
			if len(o.filters) == 0 || cfg.FilterSubject == "" && len(cfg.FilterSubjects) == 0 {
				s.answer(c, reply, failed(400, 10099, "multiple non-filtered consumers not allowed on workqueue stream"))
				return
			}
			if o.overlaps(cfg) {
				s.answer(c, reply, failed(400, 10100, "filtered consumer not unique on workqueue stream"))
				return
			}
		}
	}
	o := newConsumer(st, cfg)
	if cfg.DeliverSubject != "" {
		// A watcher holds its lock until it has the answer, and deliveries wait for
		// that lock, which stops simulated time: they must not come without it.
		if s.lose(c.link.name, LoseReply) {
			return
		}
		o.owner = c
	}
	st.consumers = append(st.consumers, o)
	if cfg.DeliverSubject != "" {
		b, err := json.Marshal(o.info())
		if err != nil {
			panic(err) // a type of our own
		}
		s.send(reply, "", nil, b)
	} else {
		s.answer(c, reply, o.info())
	}
	st.settle()
	o.run()
}

// ack takes an acknowledgement, whose subject is the reply of the delivery.
func (s *Server) ack(c *conn, subject, reply string, data []byte) {
	f := strings.Split(subject, ".")
	if len(f) != 9 {
		return
	}
	st := s.streams[f[2]]
	if st == nil || st.leaderless || s.down {
		return
	}
	o := st.consumer(f[3])
	if o == nil {
		if reply != "" {
			s.send(reply, "", []byte(noResponders), nil)
		}
		return
	}
	num := func(i int) uint64 {
		n, _ := strconv.ParseUint(f[i], 10, 64) // written by the server
		return n
	}
	s.trace(c.link.name, "ack", f[2], num(5))
	switch strings.ToUpper(string(data)) {
	case "", "+ACK":
		o.ack(num(5), num(6))
	case "-NAK":
		o.redeliver(num(5))
		o.run()
	}
	if reply != "" {
		s.send(reply, "", nil, nil)
	}
}

func (m *Message) String() string {
	return fmt.Sprintf("%d %s %s %s", m.Sequence, m.Subject, base64.StdEncoding.EncodeToString(m.Header), m.Data)
}
