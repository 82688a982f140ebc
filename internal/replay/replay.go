package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"ossuary/internal/archive"
	"ossuary/internal/backoff"
)

const (
	// What is on its way to the server at a time, in messages and in bytes.
	mostInFlight, mostBytes = 1024, 16 << 20
	// How long an acknowledgement may take before it counts as lost.
	ackTimeout = 10 * time.Second
	// How long acknowledgements are waited for that no longer matter.
	settleTimeout = 2 * time.Second
	// How long nothing may get on before a replay gives up.
	patience = 2 * time.Minute
	// How often the state file is written.
	saveEvery = 5 * time.Second
	// A cluster's answer to an id that another message has which it has not stored yet.
	duplicateInProcess jetstream.ErrorCode = 10158
	wrongLastID        jetstream.ErrorCode = 10070
	// The stream is full, or its disk is.
	storeFailed jetstream.ErrorCode = 10077
)

// Options says what is replayed, and into what.
type Options struct {
	Archive string // its name
	Source  string // the stream that it archived
	Events  Events

	JS      jetstream.JetStream
	Target  string
	Mapper  *Mapper
	Rate    float64 // events per second; 0: as fast as it goes
	State   string  // file; "": the target alone says what is there
	DryRun  bool    // publish nothing
	Force   bool    // go on behind damage: what it hides is missing
	Alone   bool    // nobody else publishes to the target, see replay.tied
	Log     zerolog.Logger
	Looking func(at, last uint64) // progress of reading the target; may be nil
	Started func(already uint64)  // the target was read; may be nil
	Sent    func(Result)          // progress of publishing; may be nil
}

// Result is what a replay did.
type Result struct {
	Selected  uint64    `json:"selected"`  // events
	Already   uint64    `json:"already"`   // of these, in the target before
	Published uint64    `json:"published"` // of these, now; with DryRun: that would be
	Bytes     uint64    `json:"bytes"`     // payloads of what was published
	First     time.Time `json:"first,omitzero"`
	Last      time.Time `json:"last,omitzero"` // times of the first and last event
	Damaged   int       `json:"damaged"`       // places that could not be read
	Refused   int       `json:"refused"`       // times that the target had more than was known
	Subject   string    `json:"subject,omitempty"`
	Mapped    string    `json:"mapped,omitempty"` // of the first that is published
}

// replay is one run. One goroutine has it.
type replay struct {
	o      Options
	from   origin
	t      *target
	done   *done
	result Result

	next  func() (*archive.Record, error, bool)
	ended bool
	queue []*flight // in order; the first inFlight of them were sent
	sent  int
	bytes int
	most  int // messages in flight; fewer when others publish too
	limit int // of most
	// Each message in flight names the one before it. Only a stream of one replica is
	// asked to look at that: on several the check fails when the message is applied,
	// and nats-server 2.15 takes that for a broken disk and stops the stream. There
	// one message is in flight at a time, unless nobody else can come in between.
	tied    bool
	last    uint64 // the target's last sequence, as far as is known
	limiter *rate.Limiter
	saved   time.Time
	moved   time.Time // when something got on last
	pause   backoff.Backoff
	again   string // behind every message id, where the server knows ids of what is gone
}

// flight is an event on its way.
type flight struct {
	place  place
	m      *nats.Msg
	ack    jetstream.PubAckFuture
	expect uint64 // where it must land
}

// Run replays. It returns what it did even when it fails; a later run goes on from
// there.
func Run(ctx context.Context, o Options) (_ Result, err error) {
	r := &replay{o: o, from: origin{o.Archive, o.Source}, most: mostInFlight, limit: mostInFlight, limiter: rate.NewLimiter(rate.Inf, 1),
		pause: backoff.New(50*time.Millisecond, 5*time.Second, 2)}
	if o.Rate > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(o.Rate), max(1, int(o.Rate/20)))
	}
	r.t, err = openTarget(ctx, o.JS, o.Target)
	if errors.Is(err, jetstream.ErrStreamNotFound) && o.DryRun {
		r.done, r.t, err = newDone(), nil, nil
	}
	if err != nil {
		return r.result, err
	}
	if r.t != nil {
		if err := r.prepare(ctx); err != nil {
			return r.result, err
		}
	}
	next, stop := iter.Pull2(o.Events(ctx))
	defer stop()
	r.next, r.moved, r.saved = next, time.Now(), time.Now()
	err = r.run(ctx)
	if serr := r.save(); err == nil {
		err = serr
	}
	return r.result, err
}

func (r *replay) prepare(ctx context.Context) (err error) {
	if err := r.t.check(); err != nil {
		return err
	}
	if !r.t.keeps() && r.o.State == "" {
		return fmt.Errorf("stream %s forgets what was consumed (%s retention), so that it cannot say what was replayed before: name a state file",
			r.t.name, r.t.info.Config.Retention)
	}
	if r.done, err = loadDone(r.o.State, r.t, r.from); err != nil {
		return err
	}
	if err := r.done.readOn(ctx, r.t, r.from, r.o.Looking); err != nil {
		return err
	}
	r.last = r.done.scanned
	r.tied = r.t.info.Config.Replicas <= 1
	if !r.tied && !r.o.Alone {
		r.most, r.limit = 1, 1
	}
	if r.o.Started != nil {
		already := uint64(0)
		for _, l := range r.done.lives {
			already += l.GetCardinality()
		}
		r.o.Started(already)
	}
	return nil
}

func (r *replay) run(ctx context.Context) error {
	for {
		if err := r.fill(); err != nil {
			// What was read before it is replayed all the same.
			r.ended = true
			return errors.Join(r.flush(ctx), err)
		}
		if len(r.queue) == 0 {
			return ctx.Err()
		}
		if r.o.DryRun {
			r.queue, r.bytes = nil, 0
			continue
		}
		if err := r.step(ctx); err != nil {
			return err
		}
	}
}

// flush sends what is queued, and ends.
func (r *replay) flush(ctx context.Context) error {
	if r.o.DryRun {
		return nil
	}
	for len(r.queue) > 0 {
		if err := r.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fill takes events that are not done yet into the queue.
func (r *replay) fill() error {
	for !r.ended && len(r.queue) < r.most && r.bytes < mostBytes {
		rec, err, ok := r.next()
		if !ok {
			r.ended = true
			return nil
		}
		var damage *archive.DamageError
		if errors.As(err, &damage) && r.o.Force {
			r.result.Damaged++
			r.o.Log.Warn().Str("key", damage.Key).Int64("position", damage.Position).Msg(damage.What)
			continue
		}
		if err != nil {
			return err
		}
		if err := r.take(rec); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) take(rec *archive.Record) error {
	r.result.Selected++
	if r.result.Selected == 1 {
		r.result.First = rec.Time
	}
	r.result.Last = rec.Time
	p := place{rec.Incarnation, rec.Sequence}
	if r.done.has(p) {
		r.result.Already++
		r.report()
		return nil
	}
	f := &flight{place: p}
	l, err := rec.Event()
	if err != nil {
		return err
	}
	if f.m, err = r.from.message(rec, r.o.Mapper); err != nil {
		return err
	}
	if r.again != "" {
		f.m.Header.Set(jetstream.MsgIDHeader, r.from.messageID(p)+r.again)
	}
	if r.t != nil && !r.t.takes(f.m.Subject) {
		return fmt.Errorf("%s has subject %s, which stream %s does not take (its subjects: %v); map it, leave it out, or add it to the stream",
			p, f.m.Subject, r.t.name, r.t.info.Config.Subjects)
	}
	if r.result.Mapped == "" {
		r.result.Subject, r.result.Mapped = l.Subject, f.m.Subject
	}
	if r.o.DryRun {
		r.result.Published++
		r.result.Bytes += uint64(len(f.m.Data))
		r.report()
	}
	r.queue = append(r.queue, f)
	r.bytes += len(f.m.Data)
	return nil
}

func (r *replay) report() {
	if r.o.Sent != nil {
		r.o.Sent(r.result)
	}
}

// step sends what is queued and takes one acknowledgement.
func (r *replay) step(ctx context.Context) error {
	for r.sent < len(r.queue) && r.sent < r.most {
		if r.o.Rate > 0 {
			if r.sent > 0 && r.limiter.Tokens() < 1 {
				break // the acknowledgements first
			}
			if err := r.limiter.Wait(ctx); err != nil {
				return err
			}
		}
		f := r.queue[r.sent]
		r.guard(f)
		ack, err := r.o.JS.PublishMsgAsync(f.m, jetstream.WithRetryAttempts(0))
		if err != nil && r.sent > 0 {
			break // those that were sent first: it concerns this one, or all
		}
		if err != nil {
			return r.trouble(ctx, err)
		}
		f.ack = ack
		r.sent++
	}
	f := r.queue[0]
	select {
	case <-ctx.Done():
		r.settle()
		return ctx.Err()
	case ack := <-f.ack.Ok():
		f.ack = nil
		if ack.Duplicate {
			return r.trouble(ctx, errDuplicate)
		}
		if ack.Stream != r.t.name || ack.Sequence != f.expect {
			return fmt.Errorf("publishing %s: the server says it stands at %d of stream %s, expected was %d of %s", f.place, ack.Sequence, ack.Stream, f.expect, r.t.name)
		}
		r.confirmed(f)
		return r.saveNow(false)
	case err := <-f.ack.Err():
		f.ack = nil
		return r.trouble(ctx, err)
	case <-time.After(ackTimeout):
		return r.trouble(ctx, errors.New("the server does not acknowledge"))
	}
}

// guard lets f land in its place only: behind the target's last message, or behind
// the one that was sent before it. The sequence alone would not do. Where that one
// is refused because somebody else's message came, it is this message that has the
// sequence's place.
func (r *replay) guard(f *flight) {
	f.expect = r.last + uint64(r.sent) + 1
	h := f.m.Header
	h[jetstream.ExpectedStreamHeader] = []string{r.t.name}
	h[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatUint(f.expect-1, 10)}
	delete(h, jetstream.ExpectedLastMsgIDHeader)
	if r.sent > 0 && r.tied {
		h[jetstream.ExpectedLastMsgIDHeader] = r.queue[r.sent-1].m.Header[jetstream.MsgIDHeader]
	}
}

// confirmed: the first of the queue stands where it must.
func (r *replay) confirmed(f *flight) {
	r.done.add(f.place)
	r.last = f.expect
	r.done.scanned = f.expect
	r.pop(f)
	r.sent--
	r.queue = r.queue[1:]
	r.most = min(r.most+1, r.limit)
}

// pop counts f as published.
func (r *replay) pop(f *flight) {
	r.bytes -= len(f.m.Data)
	r.result.Published++
	r.result.Bytes += uint64(len(f.m.Data))
	r.moved = time.Now()
	r.pause.Reset()
	r.report()
}

var errDuplicate = errors.New("the server has a message with this Nats-Msg-Id")

// trouble: the first of the queue that was sent is not where it should be, as far
// as is known, so nothing behind it is. What the target holds decides what is done
// and where to go on.
func (r *replay) trouble(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var api *jetstream.APIError
	conflict := errors.Is(cause, errDuplicate)
	if errors.As(cause, &api) && api.ErrorCode == duplicateInProcess {
		conflict, cause = true, errDuplicate
	} else if api != nil {
		conflict = api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant ||
			api.ErrorCode == wrongLastID
		if !conflict && (api.Code != 503 || api.ErrorCode == storeFailed) {
			return r.failed(cause)
		}
	}
	if errors.Is(cause, nats.ErrMaxPayload) || errors.Is(cause, nats.ErrBadHeaderMsg) || errors.Is(cause, nats.ErrHeadersNotSupported) || errors.Is(cause, nats.ErrBadSubject) {
		return r.failed(cause)
	}
	r.settle()
	if conflict {
		r.result.Refused++
		r.most = max(1, r.most/2)
	} else {
		r.o.Log.Debug().Err(cause).Msg("publishing is interrupted")
	}
	before, last := len(r.queue), r.last
	for {
		err := r.readOn(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		cause = err
		if err := r.wait(ctx, cause); err != nil {
			return err
		}
	}
	switch {
	case len(r.queue) < before, r.last > last && !errors.Is(cause, errDuplicate):
		return nil
	case errors.Is(cause, errDuplicate):
		// It was there and is not any more, and the server still knows its id.
		// So it will be with those behind it.
		r.again = "/" + nuid.Next()
		for _, f := range r.queue {
			f.m.Header.Set(jetstream.MsgIDHeader, r.from.messageID(f.place)+r.again)
		}
		return nil
	}
	return r.wait(ctx, cause)
}

// failed is an answer that asking again does not change.
func (r *replay) failed(cause error) error {
	hint := "mend it and run the same replay again, it goes on from here"
	if errors.Is(cause, nats.ErrMaxPayload) {
		hint = "raise max_payload of the server a little: the headers that say where the event came from come on top"
	}
	f := r.queue[0]
	return fmt.Errorf("publishing %s to %s: %w; %s", f.place, f.m.Subject, cause, hint)
}

func (r *replay) wait(ctx context.Context, cause error) error {
	if time.Since(r.moved) > patience {
		return fmt.Errorf("nothing got on for %s: %w; run the same replay again, it goes on from here", patience, cause)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.pause.Next()):
		return nil
	}
}

// settle waits a little for what is on its way, so that less of it arrives behind
// the look at the target that follows. Nothing depends on it.
func (r *replay) settle() {
	timeout := time.After(settleTimeout)
	for _, f := range r.queue[:r.sent] {
		if f.ack == nil {
			continue
		}
		select {
		case <-f.ack.Ok():
		case <-f.ack.Err(): //nolint:errcheck // the look at the target tells
		case <-timeout:
			return
		}
	}
}

// readOn looks at what the target holds now, and takes what is there off the queue.
func (r *replay) readOn(ctx context.Context) error {
	if err := r.done.readOn(ctx, r.t, r.from, nil); err != nil {
		return err
	}
	r.last = r.done.scanned
	left := r.queue[:0]
	for _, f := range r.queue {
		if r.done.has(f.place) {
			r.pop(f)
		} else {
			left = append(left, f)
		}
	}
	clear(r.queue[len(left):])
	r.queue, r.sent = left, 0
	return r.saveNow(false)
}

func (r *replay) save() error { return r.saveNow(true) }

func (r *replay) saveNow(now bool) error {
	if r.t == nil || r.o.DryRun || !now && time.Since(r.saved) < saveEvery {
		return nil
	}
	r.saved = time.Now()
	return r.done.save(r.o.State, r.t, r.from)
}
