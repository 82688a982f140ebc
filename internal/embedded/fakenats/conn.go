package fakenats

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// conn is both ends of a connection.
type conn struct {
	s    *Server
	link *Link

	// guarded by s.mu
	in       []byte      // from the client, not parsed yet
	sent     []operation // in this instant
	ready    bool        // the handshake is over
	subs     []sub
	closed   bool // at the client's end
	lost     bool // what is on its way to the server does not arrive
	out      []byte
	wake     chan struct{} // of capacity 1: out or closed has changed
	lastUp   time.Time
	lastDown time.Time
}

type sub struct{ subject, id string }

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		c.s.mu.Lock()
		n := copy(p, c.out)
		c.out = c.out[n:]
		closed := c.closed
		c.s.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case closed:
			return 0, io.EOF
		}
		<-c.wake
	}
}

// Write implements net.Conn. It never blocks.
func (c *conn) Write(p []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed {
		return 0, io.ErrClosedPipe
	}
	c.in = append(c.in, p...)
	for c.parse() {
	}
	return len(p), nil
}

// Close implements net.Conn. What was written still arrives.
func (c *conn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed {
		return nil
	}
	c.close()
	if i := slices.Index(c.link.conns, c); i >= 0 {
		c.link.conns = slices.Delete(c.link.conns, i, i+1)
	}
	c.up(rankClose, func() { c.s.forget(c) })
	return nil
}

func (c *conn) close() {
	c.closed = true
	c.out = nil
	c.poke()
}

func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *conn) push(p []byte) {
	if c.closed {
		return
	}
	c.out = append(c.out, p...)
	c.poke()
}

// parse takes one operation from what came in; false if there is no whole one.
func (c *conn) parse() bool {
	end := bytes.Index(c.in, []byte("\r\n"))
	if end < 0 {
		return false
	}
	f := strings.Fields(string(c.in[:end]))
	if len(f) == 0 {
		c.in = c.in[end+2:]
		return true
	}
	op := strings.ToUpper(f[0])
	if op != "PUB" && op != "HPUB" {
		c.in = c.in[end+2:]
		c.operation(op, f[1:])
		return true
	}
	size, err := strconv.Atoi(f[len(f)-1])
	if err != nil || len(c.in) < end+2+size+2 {
		return false
	}
	body := bytes.Clone(c.in[end+2 : end+2+size])
	c.in = c.in[end+2+size+2:]
	var header []byte
	last := len(f) - 1
	if op == "HPUB" {
		last--
		n, _ := strconv.Atoi(f[last]) // the client library writes numbers
		header, body = body[:n:n], body[n:]
	}
	subject, reply := f[1], ""
	if last == 3 {
		reply = f[2]
	}
	c.up(rank(subject), func() {
		if !c.lost {
			c.s.publish(c, subject, reply, header, body)
		}
	})
	return true
}

// operation is something that the client has sent.
type operation struct {
	rank string // its place among what is sent at the same instant
	do   func()
}

// The ranks of what is no publish.
const (
	rankSub   = ""
	rankUnsub = "~"
	rankPing  = "~~"
	rankClose = "~~~"
)

// rank is a subject without what is random in it.
func rank(subject string) string {
	if call, ok := strings.CutPrefix(subject, "$JS.API.CONSUMER.CREATE."); ok {
		stream, _, _ := cut(call)
		return "$JS.API.CONSUMER.CREATE." + stream
	}
	return subject
}

// up sends an operation on its way. What goroutines of the client send at the same
// instant comes in an order that nobody has decided, so it is put into one: then a
// run on simulated time can be repeated.
func (c *conn) up(rank string, do func()) {
	if c.s.opt.Delay == nil {
		c.link.carry(true, &c.lastUp, do)
		return
	}
	if c.sent = append(c.sent, operation{rank, do}); len(c.sent) > 1 {
		return
	}
	time.AfterFunc(1, func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		sent := c.sent
		c.sent = nil
		slices.SortStableFunc(sent, func(a, b operation) int { return strings.Compare(a.rank, b.rank) })
		for _, o := range sent {
			c.link.carry(true, &c.lastUp, o.do)
		}
	})
}

func (c *conn) operation(op string, f []string) {
	switch op {
	case "PING":
		if !c.ready { // the client holds its lock until the handshake is over
			c.ready = true
			c.push([]byte("PONG\r\n"))
			return
		}
		c.up(rankPing, func() { c.write([]byte("PONG\r\n")) })
	case "SUB":
		c.up(rankSub, func() {
			if !c.lost {
				c.subs = append(c.subs, sub{f[0], f[len(f)-1]})
			}
		})
	case "UNSUB":
		if len(f) > 1 {
			return // after so many more: the client counts too
		}
		c.up(rankUnsub, func() {
			c.subs = slices.DeleteFunc(c.subs, func(s sub) bool { return s.id == f[0] })
		})
	}
}

// write sends bytes to the client.
func (c *conn) write(p []byte) {
	if !c.closed {
		c.link.carry(false, &c.lastDown, func() { c.push(p) })
	}
}

func (c *conn) deliver(id, subject, reply string, header, data []byte) {
	if c.closed {
		return
	}
	var b []byte
	if reply != "" {
		reply += " "
	}
	if header == nil {
		b = fmt.Appendf(b, "MSG %s %s %s%d\r\n", subject, id, reply, len(data))
	} else {
		b = fmt.Appendf(b, "HMSG %s %s %s%d %d\r\n", subject, id, reply, len(header), len(header)+len(data))
	}
	b = append(append(b, header...), data...)
	c.write(append(b, "\r\n"...))
}

type addr struct{}

func (addr) Network() string { return "tcp" }
func (addr) String() string  { return "127.0.0.1:4222" }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return addr{} }

// SetDeadline implements net.Conn. Nothing blocks for long while one is set: the
// handshake takes no time, and Write never blocks.
func (c *conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
