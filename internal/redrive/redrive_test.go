package redrive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
)

const testArchive = "test"

func TestMain(m *testing.M) {
	firstPause, poll = time.Millisecond, time.Millisecond
	m.Run()
}

// world is a stream, what the service archived of it, and the store.
type world struct {
	t      *testing.T
	js     jetstream.JetStream
	stream string
	store  *objecttest.Store
	keeps  bool
	idle   bool // nobody consumes but the test

	turn     sync.Mutex // of consume
	mu       sync.Mutex
	archived []*nats.Msg // of a work queue: what left it
	at       []uint64
}

var worlds struct {
	sync.Mutex
	n int
}

func newWorld(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) *world {
	t.Helper()
	worlds.Lock()
	worlds.n++
	cfg.Name = fmt.Sprintf("S%d", worlds.n)
	worlds.Unlock()
	if cfg.Subjects == nil {
		cfg.Subjects = []string{cfg.Name + ".>"}
	}
	cfg.Storage = jetstream.MemoryStorage
	cfg.Duplicates = 100 * time.Millisecond // the least there is
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = js.DeleteStream(context.Background(), cfg.Name) }) // the server ends too
	return &world{t: t, js: js, stream: cfg.Name, store: objecttest.New(), keeps: keepsAll(&cfg)}
}

// letters publishes n events, and returns them as dead letters.
func (w *world) letters(n int) []*Letter {
	w.t.Helper()
	var out []*Letter
	for i := range n {
		subject := fmt.Sprintf("%s.s%d", w.stream, i%2)
		seq := w.publish(subject, nats.Header{"K": {"v"}, "Nats-Msg-Id": {fmt.Sprint("old", i)}})
		out = append(out, &Letter{Name: Name{0, seq}, Reason: "two\nlines", Event: event.Event{Sequence: seq, Time: time.Unix(1_700_000_000, int64(i)),
			Subject: subject, Header: map[string][]string{"K": {"v"}, "Nats-Msg-Id": {fmt.Sprint("old", i)}}, Data: []byte(fmt.Sprint(i))}})
	}
	w.consume()
	return out
}

func (w *world) publish(subject string, h nats.Header) uint64 {
	w.t.Helper()
	ack, err := w.js.PublishMsg(w.t.Context(), &nats.Msg{Subject: subject, Header: h, Data: []byte("x")})
	if err != nil {
		w.t.Fatal(err)
	}
	return ack.Sequence
}

// consume archives and acknowledges everything, which so leaves a work queue.
func (w *world) consume() {
	w.t.Helper()
	if w.keeps {
		return
	}
	w.turn.Lock()
	defer w.turn.Unlock()
	s, err := w.js.Stream(w.t.Context(), w.stream)
	if err != nil {
		w.t.Fatal(err)
	}
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(w.t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.mu.Lock()
		w.archived, w.at = append(w.archived, &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}), append(w.at, seq)
		w.mu.Unlock()
		if err := s.DeleteMsg(w.t.Context(), seq); err != nil {
			w.t.Fatal(err)
		}
	}
}

// check sees that each letter was published once.
func (w *world) check(letters []*Letter) {
	w.t.Helper()
	times := map[string]int{}
	count := func(m *nats.Msg) {
		if id := m.Header.Get(HeaderID); id != "" {
			times[id]++
		}
	}
	if w.keeps {
		s, err := w.js.Stream(w.t.Context(), w.stream)
		if err != nil {
			w.t.Fatal(err)
		}
		for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
			m, err := s.GetMsg(w.t.Context(), seq)
			if err != nil {
				w.t.Fatal(err)
			}
			count(&nats.Msg{Header: m.Header})
		}
	} else {
		w.consume()
		for _, m := range w.archived {
			count(m)
		}
	}
	for _, l := range letters {
		if n := times[l.ID(testArchive, w.stream)]; n != 1 {
			w.t.Errorf("letter %d was published %d times", l.Sequence(), n)
		}
	}
	if len(times) != len(letters) {
		w.t.Errorf("%d letters were published, want %d", len(times), len(letters))
	}
}

// process is one run of the command. Its way to the servers counts operations.
type process struct {
	w    *world
	n    int    // operations so far
	at   int    // the one that goes wrong; 0: none
	way  string // how
	dead bool
	// before is called before each publish; may be nil.
	before func()
}

// The ways in which an operation goes wrong: the process dies before or after it,
// or lives on and is told nothing of what did or did not happen.
var ways = []string{"dies before", "dies after", "not applied", "answer lost"}

var errDead = errors.New("this process is dead")

// op runs an operation, or does not.
func (p *process) op(do func() error, unknown error) error {
	if p.dead {
		return errDead
	}
	p.n++
	if p.n != p.at {
		return do()
	}
	switch p.way {
	case "dies before":
		p.dead = true
		return errDead
	case "dies after":
		p.dead = true
		_ = do()
		return errDead
	case "answer lost":
		_ = do()
	}
	return unknown
}

var lost = &object.Error{Op: "op", Kind: object.InDoubt, Message: "no answer (planted)"}

func (p *process) Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (a object.Appended, err error) {
	err = p.op(func() error { a, err = p.w.store.Append(ctx, key, position, body, c); return err }, lost)
	return a, p.fatal(err)
}

func (p *process) Head(ctx context.Context, key string) (i object.Info, err error) {
	err = p.op(func() error { i, err = p.w.store.Head(ctx, key); return err }, lost)
	return i, p.fatal(err)
}

func (p *process) Read(ctx context.Context, key string, from, to int64) (r io.ReadCloser, err error) {
	err = p.op(func() error { r, err = p.w.store.Read(ctx, key, from, to); return err }, lost)
	return r, p.fatal(err)
}

// fatal makes a death an end that nobody retries.
func (p *process) fatal(err error) error {
	if errors.Is(err, errDead) {
		return &object.Error{Kind: object.Refused, Err: err}
	}
	return err
}

// PublishMsg publishes without the message id: once must be once whatever the
// server remembers.
func (p *process) PublishMsg(ctx context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (ack *jetstream.PubAck, err error) {
	if p.before != nil {
		p.before()
	}
	bare := &nats.Msg{Subject: m.Subject, Header: nats.Header{}, Data: m.Data}
	for k, v := range m.Header {
		if k != jetstream.MsgIDHeader {
			bare.Header[k] = v
		}
	}
	err = p.op(func() error { ack, err = p.w.js.PublishMsg(ctx, bare); return err }, nats.ErrTimeout)
	if errors.Is(err, errDead) {
		ctx2, cancel := context.WithCancel(ctx)
		cancel()
		return nil, errors.Join(errDead, ctx2.Err())
	}
	return ack, err
}

func (w *world) options(p *process, log *Log) Options {
	return Options{Archive: testArchive, Source: w.stream, Filters: []string{w.stream + ".>"}, JS: w.js, Publish: p, Log: log, Logger: zerolog.Nop(),
		Settled: func(context.Context, uint64) error { return nil },
		Floor: func(context.Context) (uint64, error) {
			if w.keeps {
				return math.MaxUint64, nil // the service keeps up; what it archives the stream still has
			}
			if !w.idle {
				w.consume()
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.at) == 0 {
				return 0, nil
			}
			return w.at[len(w.at)-1], nil
		},
		Archived: func(_ context.Context, after uint64) (map[Name]uint64, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			found := map[Name]uint64{}
			for i, m := range w.archived {
				if n, ok := ParseID(m.Header.Get(HeaderID), testArchive, w.stream); ok && w.at[i] > after {
					found[n] = w.at[i]
				}
			}
			return found, nil
		}}
}

// run is the command once, from its start.
func (w *world) run(p *process, letters []*Letter) ([]Outcome, error) {
	p.w = w
	log, err := OpenLog(w.t.Context(), p, testArchive, "a/", w.stream, "me")
	if err != nil {
		return nil, err
	}
	s, err := NewSender(w.t.Context(), w.options(p, log))
	if err != nil {
		return nil, err
	}
	var all []Outcome
	for batch := range slices.Chunk(letters, 3) {
		out, err := s.Send(w.t.Context(), batch)
		all = append(all, out...)
		if err != nil {
			return all, err
		}
	}
	return all, s.Close(w.t.Context())
}

// mustRun is run, in which every letter must be found or sent.
func (w *world) mustRun(letters []*Letter) []Outcome {
	w.t.Helper()
	out, err := w.run(&process{}, letters)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, o := range out {
		if !o.Sent {
			w.t.Errorf("letter %d: %+v", letters[i].Sequence(), o)
		}
	}
	return out
}

func streams() map[string]jetstream.StreamConfig {
	return map[string]jetstream.StreamConfig{
		"limits":    {},
		"workqueue": {Retention: jetstream.WorkQueuePolicy},
	}
}

// Whatever operation goes wrong in whatever way, each letter is published once.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	js := embeddedtest.JetStream(t)
	for name, cfg := range streams() {
		for _, way := range ways {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				runs := 0
				for at := 1; ; at++ {
					w := newWorld(t, js, cfg)
					letters := w.letters(5)
					p := &process{at: at, way: way}
					out, err := w.run(p, letters)
					if p.n < at {
						break // there is no such operation
					}
					runs++
					if err == nil && p.dead || err != nil && !p.dead {
						t.Fatalf("operation %d: %v, %+v", at, err, out)
					}
					// Life goes on in between, on the same subjects.
					w.publish(letters[0].Subject, nil)
					w.consume()
					w.mustRun(letters)
					w.consume()
					for i, o := range w.mustRun(letters) {
						if !o.Earlier {
							t.Errorf("operation %d: letter %d is sent once more", at, letters[i].Sequence())
						}
					}
					w.check(letters)
					if t.Failed() {
						t.Fatalf("operation %d %s", at, way)
					}
				}
				if runs < 9 { // three appends, five publishes and some reading
					t.Errorf("only %d operations", runs)
				}
			})
		}
	}
}

// A process stands still right before a publish while another does all the work,
// or dies over it, and what that sends leaves the stream. When it wakes up it must
// not send that again; nor if what it sends was under way before.
func TestPausedPublisher(t *testing.T) {
	t.Parallel()
	js := embeddedtest.JetStream(t)
	for name, cfg := range streams() {
		for _, under := range []bool{false, true} {
			for _, stop := range []int{1, 2, 4} {
				for _, dies := range []int{0, 3, 4, 5, 6, 8} {
					w := newWorld(t, js, cfg)
					letters := w.letters(5)
					if under {
						if _, err := w.run(&process{at: 2, way: "dies after"}, letters); err == nil { // head, append
							t.Fatal("it did not die")
						}
					}
					n := 0
					p := &process{before: func() {
						if n++; n == stop {
							w.consume()
							_, _ = w.run(&process{at: dies, way: "dies after"}, letters)
							w.consume()
						}
					}}
					out, err := w.run(p, letters)
					if err != nil {
						t.Fatal(err)
					}
					for _, o := range out {
						if !o.Sent {
							t.Errorf("%+v", out)
						}
					}
					if w.check(letters); t.Failed() {
						t.Fatalf("%s, under way before %v: stopped at publish %d, the other dies at operation %d", name, under, stop, dies)
					}
				}
			}
		}
	}
}

// Many at once, beside producers on the same subjects and a consumer that takes
// what comes off a work queue.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	js := embeddedtest.JetStream(t)
	for name, cfg := range streams() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, js, cfg)
			letters := w.letters(9)
			var g sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				g.Go(func() { _, errs[i] = w.run(&process{}, letters) })
			}
			g.Go(func() {
				for i := range 20 {
					w.publish(letters[i%2].Subject, nil)
				}
			})
			g.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Error(err)
			}
			w.consume()
			w.mustRun(letters)
			w.check(letters)
		})
	}
}

// What a stream cannot take is said, and the other letters are sent.
func TestRefusedLetters(t *testing.T) {
	t.Parallel()
	js := embeddedtest.JetStream(t)
	w := newWorld(t, js, jetstream.StreamConfig{MaxMsgSize: 1000})
	letters := w.letters(3)
	letters[0].Data = make([]byte, 2000)
	letters[1].Subject = "elsewhere"
	out, err := w.run(&process{}, letters)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out[0].Problem, "does not take it") || !strings.Contains(out[1].Problem, "would store as elsewhere") || !out[2].Sent {
		t.Errorf("%+v", out)
	}
	// Once they can be sent they are.
	letters[0].Data, letters[1].Subject = []byte("x"), letters[2].Subject
	w.mustRun(letters)
	w.check(letters)

	none := newWorld(t, js, jetstream.StreamConfig{NoAck: true})
	if _, err := NewSender(t.Context(), none.options(&process{w: none}, nil)); err == nil || !strings.Contains(err.Error(), "no_ack") {
		t.Errorf("a stream without acknowledgements: %v", err)
	}
}

// A work queue does not say whether a letter that was under way arrived: the
// archive does, once it has come so far; and one without headers never.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	js := embeddedtest.JetStream(t)
	w := newWorld(t, js, jetstream.StreamConfig{Retention: jetstream.WorkQueuePolicy})
	letters := w.letters(2)
	if _, err := w.run(&process{at: 4, way: "dies after"}, letters); err == nil { // head, append, head, publish
		t.Fatal("it did not die")
	}
	w.publish(letters[1].Subject, nil) // the floor is before it
	w.idle = true
	out, err := w.run(&process{}, letters)
	if err != nil {
		t.Fatal(err)
	}
	if !out[0].Sent || !out[0].Earlier || !strings.Contains(out[1].Problem, "see that the service runs") {
		t.Errorf("before it is archived: %+v", out)
	}
	w.consume()
	raw := *letters[1]
	raw.Raw = true
	if out, err = w.run(&process{}, []*Letter{&raw}); err != nil || !strings.Contains(out[0].Problem, "raw form") {
		t.Errorf("raw: %+v %v", out, err)
	}
	w.mustRun(letters)
	w.check(letters)
}

// A stream that was made anew hands out sequences again: what was under way is
// looked for from its beginning.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel()
	js := embeddedtest.JetStream(t)
	w := newWorld(t, js, jetstream.StreamConfig{})
	letters := w.letters(4)
	if _, err := w.run(&process{at: 3, way: "dies after"}, letters); err == nil { // head, append, publish
		t.Fatal("it did not die")
	}
	s, err := js.Stream(t.Context(), w.stream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	if err := js.DeleteStream(t.Context(), w.stream); err != nil {
		t.Fatal(err)
	}
	embeddedtest.CreateStream(t, js, cfg)
	w.publish(letters[0].Subject, nil)
	// The service had archived the one that arrived.
	w.archived, w.at = []*nats.Msg{letters[0].Message(testArchive, w.stream, letters[0].Subject), {}}, []uint64{5, 1}
	for at := 1; at < 9; at++ { // letters that arrive in the new life, at sequences of the old one
		_, _ = w.run(&process{at: at, way: "dies after"}, letters[:3])
	}
	out := w.mustRun(letters)
	if !out[0].Earlier || !out[1].Earlier || out[3].Earlier {
		t.Errorf("%+v", out)
	}
	w.check(letters[1:])
}

// A log that is newer, another archive's, or not what its checksum says is not
// gone on behind.
func TestLogRefused(t *testing.T) {
	t.Parallel()
	key := "a/_ossuary/redrive/S.jsonl"
	for name, tt := range map[string]struct{ text, want string }{
		"newer":           {`{"v":2,"pos":0,"whatever":[]}` + "\n", "version 2"},
		"another archive": {`{"v":1,"pos":0,"id":"x","archive":"other","source":"S"}` + "\n", `archive "other"`},
	} {
		store := objecttest.New()
		store.AppendRaw(key, []byte(tt.text))
		if _, err := OpenLog(t.Context(), store, testArchive, "a/", "S", "me"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is no line is passed over, also where it ends without a newline.
	store := objecttest.New()
	store.AppendRaw(key, []byte("hello\n{\"v\":1,\"pos\":99}\n{\"half"))
	l, err := OpenLog(t.Context(), store, testArchive, "a/", "S", "me")
	if err != nil {
		t.Fatal(err)
	}
	n := Name{1, 7}
	if err := l.append(t.Context(), func() entry { return entry{Sent: []sent{{n, 9}}} }); err != nil {
		t.Fatal(err)
	}
	if l, err = OpenLog(t.Context(), store, testArchive, "a/", "S", "me"); err != nil || l.Of(n).As != 9 || len(l.letters) != 1 {
		t.Errorf("%+v %v", l, err)
	}
	store.Delete(key)
	if _, err := l.forward(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("gone: %v", err)
	}
}
