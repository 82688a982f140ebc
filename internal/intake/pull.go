package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

const (
	// What a pull asks for, if nothing else is said. Up to two pulls are outstanding
	// while the callback blocks. A pull must have room for any single message.
	pullMessages = 2048
	pullBytes    = 8 << 20
	pullMargin   = 64 << 10            // subject, reply and protocol around a payload
	pullMost     = 64<<20 + pullMargin // the server takes no larger message

	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	// pullSilence: without as much as a heartbeat for so long, the pulls are gone.
	pullSilence = 3 * pullHeartbeat
	pullTick    = 250 * time.Millisecond

	// maxWaiting is what may wait in the client, in pulls. Reconnects during a
	// long block ask anew for what was asked for; beyond this the client drops
	// deliveries, which breaks the order and so ends the epoch.
	maxWaiting = 4
)

// ackPrefix begins the reply subject of a delivery, and of nothing else.
const ackPrefix = "$JS.ACK."

// puller asks the server for the messages of the epoch's consumer.
//
// It ends the epoch when the way to the consumer was interrupted: the connection
// was made again, another server leads, nothing is heard. Consumer sequences alone
// do not show what was lost then. A server that crashed forgets its last deliveries
// and counts them again: if as many new ones are lost on the broken connection, the
// next to arrive has just the number that is expected, with a hole before it.
//
// It stands in for the client library's Consume, which tells the server's own
// words by a header named Status on a message without payload. A publisher can
// send just that: such an event would never get here, and end every epoch that
// comes to it.
type puller struct {
	nc      *nats.Conn
	subject string // where a pull is sent to
	inbox   string // where its answers come
	batch   int
	deliver func(*nats.Msg)
	gone    func(reason string, err error) // the consumer, or the way to it; called again and again
	log     zerolog.Logger
	sub     *nats.Subscription

	mu      sync.Mutex
	bytes   int       // what one pull may bring
	left    int       // messages that were asked for and have not come
	said    bool      // the server has said something since the last look
	heard   time.Time // at the last look that found so
	busy    bool      // in deliver: what it says waits
	links   uint64    // reconnects before the first pull
	stopped bool
}

// pullRequest is one pull, as the server reads it.
type pullRequest struct {
	Expires   time.Duration `json:"expires"`
	Batch     int           `json:"batch"`
	MaxBytes  int           `json:"max_bytes"`
	Heartbeat time.Duration `json:"idle_heartbeat"`
}

// newPuller begins to pull. deliver is called from one goroutine.
func newPuller(js jetstream.JetStream, stream, consumer string, maxAckPending, most int, deliver func(*nats.Msg), gone func(string, error), log zerolog.Logger) (*puller, error) {
	nc := js.Conn()
	p := &puller{
		nc: nc, subject: apiPrefix(js.Options()) + "CONSUMER.MSG.NEXT." + stream + "." + consumer, inbox: nc.NewInbox(),
		batch: min(pullMessages, maxAckPending), bytes: max(most, int(nc.MaxPayload())+pullMargin),
		deliver: deliver, gone: gone, log: log, heard: time.Now(), links: nc.Stats().Reconnects,
	}
	sub, err := nc.Subscribe(p.inbox, p.receive)
	if err != nil {
		return nil, fmt.Errorf("subscribing to deliveries: %w", err)
	}
	p.sub = sub
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room()
	p.ask()
	return p, nil
}

func apiPrefix(o jetstream.JetStreamOptions) string {
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// stop ends the deliveries; one may still be under way.
func (p *puller) stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	if err := p.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		p.log.Debug().Err(err).Msg("cannot unsubscribe from deliveries")
	}
}

// keep sees that there always is a pull until ctx ends.
func (p *puller) keep(ctx context.Context) {
	tick := time.NewTicker(pullTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.nc.IsClosed() {
			p.gone("consumer_gone", nats.ErrConnectionClosed)
			return
		}
		p.look(time.Now())
	}
}

func (p *puller) look(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.interrupted() || p.busy { // what came while it is busy is not read yet
		return
	}
	if p.said { // noted here, since a clock costs more than all else there is to do per message
		p.said, p.heard = false, now
	}
	if silent := now.Sub(p.heard); silent > pullSilence {
		p.gone("interrupted", fmt.Errorf("nothing was heard of the consumer for %s", silent.Round(time.Second)))
		return
	}
	p.ask()
}

// interrupted ends the epoch if the connection is another than it began with. The
// client counts a reconnect before anything comes over it. p.mu is held.
func (p *puller) interrupted() bool {
	if p.nc.Stats().Reconnects == p.links {
		return false
	}
	p.gone("interrupted", errors.New("the connection was lost and made again"))
	return true
}

func (p *puller) receive(m *nats.Msg) {
	p.mu.Lock()
	p.said = true
	if p.interrupted() {
		p.mu.Unlock()
		return
	}
	if !strings.HasPrefix(m.Reply, ackPrefix) {
		defer p.mu.Unlock()
		p.status(m.Header)
		return
	}
	p.busy = true
	p.mu.Unlock()
	p.deliver(m)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy, p.said, p.left = false, true, max(p.left-1, 0)
	p.ask()
}

// status takes what the server says about a pull; p.mu is held.
func (p *puller) status(h nats.Header) {
	code, what := h.Get("Status"), h.Get("Description")
	tooLarge := code == "409" && strings.EqualFold(what, "Message Size Exceeds MaxBytes")
	switch {
	case code == "100": // a heartbeat
	case code == "400", strings.EqualFold(what, "Consumer Deleted"):
		p.gone("consumer_gone", fmt.Errorf("the server ends the pull: %s %s", code, what))
	case code == "404", code == "408", tooLarge, code == "409" && strings.EqualFold(what, "Batch Completed"):
		// The pull is over: its time, its bytes, its messages.
		unused, err := strconv.Atoi(h.Get("Nats-Pending-Messages"))
		if err != nil {
			unused = p.left
		}
		p.left = max(p.left-max(unused, 0), 0)
		if room, err := strconv.Atoi(h.Get("Nats-Pending-Bytes")); err == nil && room >= p.bytes && tooLarge {
			// It brought nothing: the next message is larger than what this server
			// takes, from times or servers with another limit.
			p.bytes = min(2*p.bytes, pullMost)
			p.room()
		}
		p.ask()
	default: // another leader, no leader, a server that goes down
		p.gone("interrupted", fmt.Errorf("the server ends the pull: %s %s", code, what))
	}
}

// ask sends a pull if half of the last one has come; p.mu is held. One that
// cannot be sent is sent by a later look.
func (p *puller) ask() {
	if p.stopped || p.left > p.batch/2 {
		return
	}
	body, err := json.Marshal(pullRequest{Expires: pullExpires, Batch: p.batch - p.left, MaxBytes: p.bytes, Heartbeat: pullHeartbeat})
	if err == nil {
		err = p.nc.PublishRequest(p.subject, p.inbox, body)
	}
	if err != nil {
		p.log.Debug().Err(err).Msg("cannot pull")
		return
	}
	p.left = p.batch
}

// room bounds what may wait in the client; p.mu is held.
func (p *puller) room() {
	if err := p.sub.SetPendingLimits(-1, maxWaiting*p.bytes); err != nil {
		p.log.Debug().Err(err).Msg("cannot bound what waits in the client")
	}
}
