//go:build unix

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const streamName = "EVENTS"

// routes archive what message makes, in every format and codec; the
// configuration takes them as they stand, and seriesOf must say the same.
const routes = `      - {name: debug, subjects: ["ev.*.debug.>"], skip: true}
      - name: orders
        subjects: ["ev.*.order.>"]
        series: "orders/{{wildcard(1)}}/{{time(%F/%H%M%S)}}"
        flush: {events: 500, linger: 50ms}
        roll: {idle: 2s}
      - name: audit
        subjects: ["ev.*.audit.>"]
        series: "audit/{{wildcard(1)}}"
        codec: zstd
        audit: true
        flush: {size: 32KiB, linger: 30ms}
        roll: {size: 128KiB}
      - name: blobs
        subjects: ["ev.*.blob.>"]
        series: "blobs/{{wildcard(1)}}/{{header(Tenant)|none}}"
        codec: plain
        flush: {linger: 40ms}
        roll: {age: 3s}
      - name: notes
        subjects: ["ev.*.note.>"]
        series: "notes/{{token(4)}}"
        flush: {size: 16KiB, linger: 20ms}
      - name: lines
        subjects: ["ev.*.line.>"]
        series: "lines/{{wildcard(1)}}/{{time(%F-%H%M)}}"
        format: raw
        flush: {events: 100, linger: 30ms}
`

// seriesOf is where an event belongs, "" if it is not archived.
func seriesOf(subject string, headers map[string][]string, ts time.Time) string {
	t := strings.Split(subject, ".")
	ts = ts.UTC()
	switch t[2] {
	case "order":
		return "orders/" + t[1] + ts.Format("/2006-01-02/150405")
	case "audit":
		return "audit/" + t[1]
	case "blob":
		tenant := "none"
		if v := headers["Tenant"]; len(v) > 0 {
			tenant = v[0]
		}
		return "blobs/" + t[1] + "/" + tenant
	case "note":
		return "notes/" + t[3]
	case "line":
		return "lines/" + t[1] + ts.Format("/2006-01-02-1504")
	}
	return ""
}

// message makes the i-th message of a seed, always the same one.
func message(seed uint64, i int) *nats.Msg {
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	region := []string{"eu", "us", "ap"}[r.IntN(3)]
	kind := []string{"order", "order", "order", "audit", "audit", "blob", "note", "line", "line", "note"}[r.IntN(10)]
	if r.IntN(50) == 0 {
		kind = "debug"
	}
	m := nats.NewMsg(fmt.Sprintf("ev.%s.%s.%d", region, kind, r.IntN(4)))
	m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%x-%d", seed, i))
	switch kind {
	case "order", "audit":
		m.Data, _ = json.Marshal(map[string]any{"i": i, "total": r.Float64(), "note": "größe ✓ \u2028", "items": []int{r.IntN(9), r.IntN(9)}, "pad": strings.Repeat("x", r.IntN(200))})
		if r.IntN(2) == 0 {
			m.Header.Add("Trace", fmt.Sprint(r.Uint64()))
			m.Header.Add("Trace", "zweite \"Zeile\"")
		}
	case "blob":
		m.Data = make([]byte, r.IntN(600))
		for j := range m.Data {
			m.Data[j] = byte(r.Uint32())
		}
		if r.IntN(3) > 0 {
			m.Header.Set("Tenant", []string{"red", "blue"}[r.IntN(2)])
		}
	case "note":
		m.Data = []byte([]string{"", "plain text", "two\nlines\r\n", " {\"spaces\": 1} ", "{broken", "\"string\"", "12", "\x00\x01", "nul"}[r.IntN(9)])
		m.Data = append(m.Data, fmt.Sprintf(" %d", i)[:r.IntN(2)]...)
	case "line":
		m.Data = fmt.Appendf(nil, "level=info i=%d msg=%q", i, strings.Repeat("y", r.IntN(80)))
	default:
		m.Data = fmt.Appendf(nil, "%d", i)
	}
	return m
}

// publisher publishes messages and keeps a journal of those that the stream
// acknowledged. It goes on until each one is, over lost connections and servers
// that are away.
type publisher struct {
	seed   uint64
	total  int
	cancel context.CancelFunc
	done   chan struct{}
	err    error // after done

	released atomic.Int64 // messages that may be published
	more     chan struct{}
	last     atomic.Uint64 // highest acknowledged sequence
	retried  atomic.Int64

	mu      sync.Mutex
	journal map[uint64]entry
}

// entry is what the journal says of one acknowledged message.
type entry struct {
	index   int
	subject string
	payload [sha256.Size]byte
}

// publishWindow is how many messages wait for their acknowledgements.
const publishWindow = 1000

// publish starts publishing n messages. They wait until they are released.
func (w *world) publish(n int) *publisher {
	w.t.Helper()
	nc, err := nats.Connect(w.nats.url(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1), quiet)
	if err != nil {
		w.t.Fatal(err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(publishWindow+1), jetstream.WithPublishAsyncTimeout(3*time.Second))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &publisher{seed: w.rand.Uint64(), total: n, cancel: cancel, done: make(chan struct{}), more: make(chan struct{}, 1), journal: map[uint64]entry{}}
	go func() {
		defer close(p.done)
		defer nc.Close()
		p.err = p.run(ctx, js)
	}()
	w.t.Cleanup(func() { cancel(); <-p.done })
	w.publishers = append(w.publishers, p)
	return p
}

// release lets the first n messages out, at most all.
func (p *publisher) release(n int) {
	for n := int64(min(n, p.total)); ; {
		old := p.released.Load()
		if n <= old || p.released.CompareAndSwap(old, n) {
			break
		}
	}
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// pace releases all messages, so many a second.
func (p *publisher) pace(perSecond int) {
	go func() {
		start := time.Now()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.done:
				return
			case <-tick.C:
				p.release(int(time.Since(start).Seconds() * float64(perSecond)))
			}
		}
	}()
}

// acked is how many messages were acknowledged so far.
func (p *publisher) acked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.journal)
}

func (p *publisher) run(ctx context.Context, js jetstream.JetStream) error {
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
			case <-s.ack.Err():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		// Perhaps stored, perhaps not: once more under the same id.
		for {
			p.retried.Add(1)
			try, cancel := context.WithTimeout(ctx, 3*time.Second)
			a, err := js.PublishMsg(try, message(p.seed, s.i))
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
	for i := range p.total {
		for int64(i) >= p.released.Load() {
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
		for len(window) >= publishWindow {
			if err := settle(); err != nil {
				return err
			}
		}
		m := message(p.seed, i)
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

func (p *publisher) record(i int, m *nats.Msg, a *jetstream.PubAck) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.journal[a.Sequence] = entry{i, m.Subject, sha256.Sum256(m.Data)}
	if a.Sequence > p.last.Load() {
		p.last.Store(a.Sequence)
	}
}
