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
	left  int64         // bytes after which everything is cut; 0: never
	cuts  int           // how often everything was cut
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
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *proxy) cutLocked() {
	for c := range p.conns {
		c.SetLinger(0)
		c.Close()
	}
	p.cuts++
}

// cutAfter cuts once n more bytes have come from the server.
func (p *proxy) cutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = int64(n)
}

func (p *proxy) cutCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// spend counts n bytes from the server, and says how many of them may pass.
func (p *proxy) spend(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return n
	}
	if p.left -= int64(n); p.left > 0 {
		return n
	}
	n += int(p.left)
	p.left = 0
	p.cutLocked()
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
	both.Go(func() { p.pass(s, c, func(n int) int { return n }) })
	both.Go(func() { p.pass(c, s, p.spend) })
	both.Wait()
}

func (p *proxy) pass(to, from *net.TCPConn, spend func(int) int) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		ice := p.ice
		p.mu.Unlock()
		if ice != nil {
			<-ice
		}
		if n = spend(n); n > 0 {
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
