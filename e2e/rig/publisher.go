//go:build unix

package rig

import (
	"context"
	"crypto/sha256"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Publisher publishes messages and keeps a journal of those that the stream
// acknowledged. It goes on until each one is, over lost connections and servers
// that are away.
type Publisher struct {
	Total int           // messages, if it is not ended before
	Done  chan struct{} // closed when all are acknowledged, or it has given up
	Err   error         // after Done

	seed     uint64
	released atomic.Int64 // messages that may be published
	ended    atomic.Bool  // no more will be released
	more     chan struct{}
	last     atomic.Uint64 // highest acknowledged sequence
	retried  atomic.Int64

	mu      sync.Mutex
	journal map[uint64]Entry
	clashes []Clash
}

// Entry is what the journal says of one acknowledged message.
type Entry struct {
	Index   int
	Subject string
	Payload [sha256.Size]byte
}

// Clash is a sequence that was acknowledged for two messages.
type Clash struct {
	Sequence uint64
	A, B     Entry
}

// PublishWindow is how many messages wait for their acknowledgements.
const PublishWindow = 1000

// Publish starts publishing n messages of a seed to a server, or to one of
// several. They wait until they are released.
func Publish(t T, urls string, seed uint64, n int) *Publisher {
	t.Helper()
	nc, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1), quiet)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(PublishWindow+1), jetstream.WithPublishAsyncTimeout(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Publisher{Total: n, Done: make(chan struct{}), seed: seed, more: make(chan struct{}, 1), journal: map[uint64]Entry{}}
	go func() {
		defer close(p.Done)
		defer nc.Close()
		p.Err = p.run(ctx, js)
	}()
	t.Cleanup(func() { cancel(); <-p.Done })
	return p
}

// End lets it finish with what is released by now.
func (p *Publisher) End() {
	p.ended.Store(true)
	p.wake()
}

func (p *Publisher) wake() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// Release lets the first n messages out, at most all.
func (p *Publisher) Release(n int) {
	for n := int64(min(n, p.Total)); !p.ended.Load(); {
		old := p.released.Load()
		if n <= old || p.released.CompareAndSwap(old, n) {
			break
		}
	}
	p.wake()
}

// Released is how many messages were let out.
func (p *Publisher) Released() int { return int(p.released.Load()) }

// Pace releases all messages, so many a second.
func (p *Publisher) Pace(perSecond int) {
	go func() {
		start := time.Now()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.Done:
				return
			case <-tick.C:
				p.Release(int(time.Since(start).Seconds() * float64(perSecond)))
			}
		}
	}()
}

// Acked is how many messages were acknowledged so far.
func (p *Publisher) Acked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.journal) + len(p.clashes)
}

// Last is the highest acknowledged sequence.
func (p *Publisher) Last() uint64 { return p.last.Load() }

// Retried is how often a message was published once more.
func (p *Publisher) Retried() int64 { return p.retried.Load() }

// Journal is what was acknowledged so far, by sequence.
func (p *Publisher) Journal() map[uint64]Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.journal)
}

// Clashes are the sequences that were acknowledged for two messages: the stream
// has lost the first.
func (p *Publisher) Clashes() []Clash {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Clash(nil), p.clashes...)
}

func (p *Publisher) run(ctx context.Context, js jetstream.JetStream) error {
	type sent struct {
		i   int
		m   *nats.Msg
		ack jetstream.PubAckFuture
	}
	var window []sent
	settle := func() error {
		s := window[0]
		window = window[1:]
		if s.ack != nil {
			select {
			case a := <-s.ack.Ok():
				p.record(s.i, s.m, a)
				return nil
			case <-s.ack.Err(): //nolint:errcheck // whatever it is, it is published once more
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		// Perhaps stored, perhaps not: once more under the same id.
		for {
			p.retried.Add(1)
			try, cancel := context.WithTimeout(ctx, 3*time.Second)
			a, err := js.PublishMsg(try, Message(p.seed, s.i))
			cancel()
			if err == nil {
				p.record(s.i, s.m, a)
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			time.Sleep(20 * time.Millisecond) // the server is away
		}
	}
messages:
	for i := range p.Total {
		for int64(i) >= p.released.Load() {
			if p.ended.Load() && int64(i) >= p.released.Load() {
				break messages
			}
			if len(window) > 0 {
				if err := settle(); err != nil {
					return err
				}
				continue
			}
			select {
			case <-p.more:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for len(window) >= PublishWindow {
			if err := settle(); err != nil {
				return err
			}
		}
		m := Message(p.seed, i)
		ack, err := js.PublishMsgAsync(m)
		if err != nil {
			ack = nil // the server is away; settle tries on
		}
		window = append(window, sent{i, m, ack})
	}
	for len(window) > 0 {
		if err := settle(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Publisher) record(i int, m *nats.Msg, a *jetstream.PubAck) {
	e := Entry{i, m.Subject, sha256.Sum256(m.Data)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, known := p.journal[a.Sequence]; known {
		p.clashes = append(p.clashes, Clash{a.Sequence, old, e})
	}
	p.journal[a.Sequence] = e
	if a.Sequence > p.last.Load() {
		p.last.Store(a.Sequence)
	}
}
