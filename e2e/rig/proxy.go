//go:build unix

package rig

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy passes TCP connections on, until it is told not to.
type Proxy struct {
	Addr   string // to connect to
	target string

	mu    sync.Mutex
	conns map[*net.TCPConn]bool
	down  bool
	ice   chan struct{} // not nil while frozen; closed by Thaw
	left  int64         // bytes after which everything is cut; 0: never
	cuts  int           // how often everything was cut
}

// NewProxy makes one that serves until the end of the proof.
func NewProxy(t T, target string) *Proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, conns: map[*net.TCPConn]bool{}}
	t.Cleanup(func() { l.Close(); p.Thaw(); p.Cut() })
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

// Cut resets all connections; new ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *Proxy) cutLocked() {
	for c := range p.conns {
		reset(c)
	}
	p.cuts++
}

// CutAfter cuts once n more bytes have come from the server.
func (p *Proxy) CutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = int64(n)
}

// CutCount is how often everything was cut.
func (p *Proxy) CutCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// spend counts n bytes from the server, and says how many of them may pass.
func (p *Proxy) spend(n int) int {
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

// Block resets all connections and takes no new ones until Unblock.
func (p *Proxy) Block() {
	p.setDown(true)
	p.Cut()
}

// Unblock undoes Block.
func (p *Proxy) Unblock() { p.setDown(false) }

func (p *Proxy) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// Freeze keeps connections open and passes nothing on until Thaw.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ice == nil {
		p.ice = make(chan struct{})
	}
}

// Thaw undoes Freeze; what was held back is passed on.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ice != nil {
		close(p.ice)
		p.ice = nil
	}
}

func (p *Proxy) serve(c *net.TCPConn) {
	defer func() { _ = c.Close() }()
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		reset(c)
		return
	}
	raw, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		reset(c)
		return
	}
	s := raw.(*net.TCPConn)
	defer func() { _ = s.Close() }()
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

// reset ends a connection with a TCP reset. It may have ended already.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func (p *Proxy) pass(to, from *net.TCPConn, spend func(int) int) {
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
				_ = from.Close()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			reset(to)
			return
		}
	}
}
