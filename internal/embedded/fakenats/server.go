package fakenats

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Options say how the server behaves. The functions are called under its lock,
// must not call back, and may be nil.
type Options struct {
	// Delay is how long something takes on its way over a link; n counts what the
	// link has carried in that direction. Nil means no time at all.
	Delay func(link string, up bool, n uint64) time.Duration
	// Lose decides whether the server forgets to send something, or never gets
	// it: see the constants.
	Lose func(link string, what Loss) bool
	// Lag is how many messages behind the stream a direct read is answered.
	Lag func(stream string) uint64
	// Silent decides, without a leader, whether a request is left without any
	// answer rather than refused.
	Silent func(stream string) bool

	Stored  func(stream string, m *Message)
	Removed func(stream string, seq uint64, why Removal)
	Acked   func(stream, consumer string, seqs []uint64)
	Trace   func(link, what, name string, n uint64)
}

// Loss is something that may get lost without the connection breaking, as on a
// route between servers.
type Loss string

// What may get lost.
const (
	LoseReply    Loss = "reply"    // to an API request or a publish that was carried out
	LoseDelivery Loss = "delivery" // of a message to a consumer
	LoseAck      Loss = "ack"
)

// Removal is why a message left a stream.
type Removal string

// Reasons for a message to go.
const (
	Acknowledged Removal = "acknowledged"
	NoInterest   Removal = "no interest"
	Expired      Removal = "expired"
	Replaced     Removal = "replaced" // by a later one of its subject
	Purged       Removal = "purged"
)

// Server is the fake.
type Server struct {
	opt Options

	mu      sync.Mutex
	streams map[string]*stream
	conns   []*conn // connected, as the server believes
	links   []*Link
	down    bool
	clients int
	used    map[int64]struct{} // instants at which something happens
}

// New returns a server without streams.
func New(o Options) *Server {
	return &Server{opt: o, streams: map[string]*stream{}, used: map[int64]struct{}{}}
}

// grain is the least between two things that happen: so the client is through with
// one, and what it sends for it is on its way, when the next comes.
const grain = time.Microsecond

// instant makes a delay end when nothing else of the server's happens, and not
// before after.
func (s *Server) instant(d time.Duration, after time.Time) time.Time {
	now := time.Now()
	at := now.Add(d).Truncate(grain)
	for !at.After(now) || !at.After(after) {
		at = at.Add(grain)
	}
	for {
		if _, taken := s.used[at.UnixNano()]; !taken {
			break
		}
		at = at.Add(grain)
	}
	s.used[at.UnixNano()] = struct{}{}
	return at
}

// later runs f under the lock after d.
func (s *Server) later(d time.Duration, f func()) *time.Timer {
	at := time.Now().Add(d)
	if s.opt.Delay != nil {
		at = s.instant(d, time.Time{})
	}
	return time.AfterFunc(time.Until(at), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	})
}

func (s *Server) trace(link, what, name string, n uint64) {
	if s.opt.Trace != nil {
		s.opt.Trace(link, what, name, n)
	}
}

func (s *Server) lose(link string, what Loss) bool {
	return s.opt.Lose != nil && s.opt.Lose(link, what)
}

// Link is the way of one process to the server. It is a nats.CustomDialer.
type Link struct {
	s    *Server
	name string

	// guarded by s.mu
	up, down uint64 // what was carried so far
	cut      bool   // nothing can be dialled
	frozen   bool
	held     []func() // arrivals that wait for Thaw
	conns    []*conn  // open at the client
}

// Link returns a new way to the server.
func (s *Server) Link(name string) *Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &Link{s: s, name: name}
	s.links = append(s.links, l)
	return l
}

// Dial implements nats.CustomDialer. It takes no time: the client holds its lock
// meanwhile.
func (l *Link) Dial(_, _ string) (net.Conn, error) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down || l.cut || l.frozen {
		return nil, fmt.Errorf("fakenats: connection refused")
	}
	s.clients++
	c := &conn{s: s, link: l, wake: make(chan struct{}, 1)}
	s.conns = append(s.conns, c)
	l.conns = append(l.conns, c)
	c.push(fmt.Appendf(nil, `INFO {"server_id":"FAKE","server_name":"fake","version":"2.15.2","proto":1,"host":"127.0.0.1","port":4222,`+
		`"headers":true,"max_payload":1048576,"jetstream":true,"client_id":%d}`+"\r\n", s.clients))
	return c, nil
}

// Cut ends the link's connections. What the client has sent and has not arrived
// is lost if lose says so; what is on its way to the client is lost in any case.
// The server believes for blind that the client is still there.
func (l *Link) Cut(lose bool, blind time.Duration) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.drop(lose, blind)
}

func (l *Link) drop(lose bool, blind time.Duration) {
	l.s.trace(l.name, "cut", "", uint64(len(l.conns)))
	for _, c := range l.conns {
		c.close()
		c.lost = c.lost || lose
		if blind == 0 {
			l.s.forget(c)
		} else {
			l.s.later(blind, func() { l.s.forget(c) })
		}
	}
	l.conns = nil
}

// Sever cuts the link for good: the process has died.
func (l *Link) Sever(lose bool, blind time.Duration) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.cut = true
	l.drop(lose, blind)
	l.thaw()
}

// Freeze stops all that is on its way, in both directions, until Thaw.
func (l *Link) Freeze() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.frozen = true
}

// Thaw lets everything arrive that was held up.
func (l *Link) Thaw() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.thaw()
}

func (l *Link) thaw() {
	l.frozen = false
	held := l.held
	l.held = nil
	for _, f := range held {
		f()
	}
}

// carry has f happen when what is sent now arrives. last is the arrival of what
// was sent before on the same connection and in the same direction.
func (l *Link) carry(up bool, last *time.Time, f func()) {
	s := l.s
	arrive := func() {
		if l.frozen {
			l.held = append(l.held, f)
			return
		}
		f()
	}
	if s.opt.Delay == nil {
		arrive()
		return
	}
	n := &l.down
	if up {
		n = &l.up
	}
	*n++
	*last = s.instant(s.opt.Delay(l.name, up, *n), *last)
	time.AfterFunc(time.Until(*last), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		arrive()
	})
}

// forget is the server's noticing that a client has gone.
func (s *Server) forget(c *conn) {
	if i := slices.Index(s.conns, c); i >= 0 {
		s.conns = slices.Delete(s.conns, i, i+1)
	}
	c.subs = nil
	for _, st := range s.sorted() {
		for _, o := range slices.Clone(st.consumers) {
			if o.owner == c {
				st.deleteConsumer(o)
			}
		}
	}
}

// sorted are the streams in a fixed order.
func (s *Server) sorted() []*stream {
	all := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b *stream) int { return compare(a.cfg.Name, b.cfg.Name) })
	return all
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// interest reports whether anybody subscribes to the subject, as far as the
// server knows.
func (s *Server) interest(subject string) bool {
	for _, c := range s.conns {
		for _, sub := range c.subs {
			if match(sub.subject, subject) {
				return true
			}
		}
	}
	return false
}

// send delivers to whoever subscribes to subject.
func (s *Server) send(subject, reply string, header, data []byte) bool {
	found := false
	for _, c := range s.conns {
		for _, sub := range c.subs {
			if match(sub.subject, subject) {
				found = true
				c.deliver(sub.id, subject, reply, header, data)
			}
		}
	}
	return found
}

// publish takes what a client, or the test, has published.
func (s *Server) publish(c *conn, subject, reply string, header, data []byte) {
	switch {
	case hasPrefix(subject, "$JS.ACK."):
		if s.lose(c.link.name, LoseAck) {
			s.trace(c.link.name, "ack lost", "", 0)
			return
		}
		s.ack(c, subject, reply, data)
	case hasPrefix(subject, "$JS.API."):
		if !s.api(c, subject[len("$JS.API."):], reply, data) && reply != "" {
			s.send(reply, "", []byte(noResponders), nil)
		}
	default:
		took := false
		for _, st := range s.sorted() {
			if st.takes(subject) && !st.leaderless {
				took = true
				answer := st.publish(subject, header, data)
				if reply != "" {
					s.answer(c, reply, answer)
				}
				s.trace(c.link.name, "publish", subject, st.last)
			}
		}
		took = s.send(subject, reply, header, data) || took
		if !took && reply != "" {
			s.send(reply, "", []byte(noResponders), nil)
		}
	}
}

const noResponders = "NATS/1.0 503\r\n\r\n"

func hasPrefix(s, p string) bool { return len(s) >= len(p) && s[:len(p)] == p }

// match reports whether a subject is one of a pattern's.
func match(pattern, subject string) bool {
	for {
		if pattern == ">" {
			return subject != ""
		}
		p, prest, pmore := cut(pattern)
		q, qrest, qmore := cut(subject)
		if p != q && p != "*" {
			return false
		}
		if !pmore || !qmore {
			return pmore == qmore
		}
		pattern, subject = prest, qrest
	}
}

func cut(s string) (token, rest string, more bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == '.' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
