//go:build unix

package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy passes TCP connections on, until it is told not to.
type proxy struct {
	addr   string // to connect to
	target string

	mu    sync.Mutex
	conns map[*net.TCPConn]bool
	down  bool
	ice   chan struct{} // not nil while frozen; closed by thaw
	cuts  int           // connections cut so far
}

func newProxy(t testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), target: target, conns: map[*net.TCPConn]bool{}}
	t.Cleanup(func() { l.Close(); p.thaw(); p.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c.(*net.TCPConn))
		}
	}()
	return p
}

// cut resets all connections; new ones are accepted.
func (p *proxy) cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.conns) / 2
	for c := range p.conns {
		c.SetLinger(0)
		c.Close()
	}
	p.cuts += n
	return n
}

// block resets all connections and takes no new ones until unblock.
func (p *proxy) block() {
	p.setDown(true)
	p.cut()
}

func (p *proxy) unblock() { p.setDown(false) }

func (p *proxy) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// freeze keeps connections open and passes nothing on until thaw.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ice == nil {
		p.ice = make(chan struct{})
	}
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ice != nil {
		close(p.ice)
		p.ice = nil
	}
}

func (p *proxy) serve(c *net.TCPConn) {
	defer c.Close()
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		c.SetLinger(0)
		return
	}
	raw, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		c.SetLinger(0)
		return
	}
	s := raw.(*net.TCPConn)
	defer s.Close()
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns[c], p.conns[s] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
		delete(p.conns, s)
	}()
	var both sync.WaitGroup
	both.Go(func() { p.pass(s, c) })
	both.Go(func() { p.pass(c, s) })
	both.Wait()
}

func (p *proxy) pass(to, from *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		ice := p.ice
		p.mu.Unlock()
		if ice != nil {
			<-ice
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				from.Close()
				return
			}
		}
		if err == io.EOF {
			to.CloseWrite()
			return
		}
		if err != nil {
			to.SetLinger(0)
			to.Close()
			return
		}
	}
}
