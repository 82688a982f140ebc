// Package demo shows an archive at work, on servers of its own in this process:
// sample orders, which it publishes, and the advisories that the NATS server
// publishes of its own accord about the streams, buckets and consumers that the
// service makes, archived side by side, drained, verified and listed.
//
// It uses the service as any program would; nothing in it takes a short cut
// around the protocol. A second run on the same directory goes on where the
// first one ended.
package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/service"
)

// The streams that the demo archives.
const (
	Orders     = "ORDERS"
	Advisories = "ADVISORIES"
)

const (
	// How long an order may take to be stored by the NATS server beside us.
	publishTimeout = 30 * time.Second
	// How often the demo looks how far the service is.
	lookEvery = 50 * time.Millisecond
	// How long the floor may stand still before the demo gives up.
	patience = time.Minute
	// Orders on their way to the server at a time.
	publishWindow = 1024
)

// Options says what to show.
type Options struct {
	Events   int    // sample orders to publish
	Exit     bool   // end when they are archived; otherwise go on at Rate until the context ends
	Rate     int    // orders per second after the first Events
	Dir      string // for both servers
	Log      zerolog.Logger
	Started  func(Running)  // called when everything runs; may be nil
	Progress func(Progress) // called now and then by one goroutine; may be nil
}

// Running says where the demo can be looked at.
type Running struct{ NATS, OSS, HTTP string }

// Progress is how far the demo is.
type Progress struct{ Published, Archived, Advisories uint64 }

// Result is what came of it.
type Result struct {
	Published  uint64  `json:"published"`  // sample orders, in this run
	Archived   uint64  `json:"archived"`   // of these, found in the objects
	Advisories uint64  `json:"advisories"` // of the server, in this run, found in the objects
	Duplicates uint64  `json:"duplicates"`
	Missing    uint64  `json:"missing"`
	Objects    int     `json:"objects"`
	Seconds    float64 `json:"seconds"`

	Report *archive.Report `json:"-"`
	Table  []Object        `json:"-"`
	Dir    string          `json:"-"` // that holds the objects
	Path   string          `json:"-"` // of the file of one object
}

// Good reports whether everything published is archived once and provably.
func (r *Result) Good() bool {
	return r.Report.Result == archive.OK && r.Archived == r.Published && r.Duplicates == 0 && r.Missing == 0
}

// Config is the configuration that the demo runs.
func Config(dir string) *config.Config {
	cfg := config.Default()
	cfg.Archive.Name = "demo"
	cfg.OSS.Bucket = "demo"
	cfg.Embedded.DataDir = dir
	cfg.HTTP.Listen = "127.0.0.1:0"
	template := cfg.Sources[0].Routes[0]
	template.Flush.Linger = 250 * time.Millisecond
	template.Audit = true
	orders, advisories := template, template
	orders.Name, orders.Subjects, orders.Series = "orders", []string{"orders.*.>"}, "orders/{{wildcard(1)}}/{{time(%Y/%m/%d/%H)}}"
	advisories.Name, advisories.Subjects, advisories.Series = "advisories", []string{advisorySubjects}, "advisories/{{time(%Y/%m/%d)}}"
	// The advisories come first, so that their stream hears of the other one.
	cfg.Sources = []config.Source{
		source(Advisories, advisorySubjects, advisories),
		source(Orders, "orders.>", orders),
	}
	return cfg
}

const advisorySubjects = "$JS.EVENT.ADVISORY.>"

func source(stream, subjects string, r config.Route) config.Source {
	return config.Source{
		Stream: stream, Lanes: 1, Routes: []config.Route{r},
		Create: &config.Create{Subjects: []string{subjects}, Storage: "file", Retention: "limits", Replicas: 1},
	}
}

// Run shows the demo. When ctx ends it drains and verifies what there is.
func Run(ctx context.Context, o Options) (*Result, error) {
	start := time.Now()
	cfg := Config(o.Dir)
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("the demo's configuration: %w", err)
	}
	local, err := service.StartLocalAnywhere(cfg, o.Log)
	if err != nil {
		return nil, err
	}
	defer local.Close()
	cfg.Embedded.Enabled = false // they outlive the service: verify wants them
	nc, js, err := service.ConnectNATS(ctx, cfg, o.Log)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	before, err := lastSequences(ctx, js)
	if err != nil {
		return nil, err
	}
	svc, err := service.Open(ctx, cfg, o.Log)
	if err != nil {
		return nil, err
	}
	defer svc.Close()
	if o.Started != nil {
		o.Started(Running{NATS: cfg.NATS.URLs[0], OSS: cfg.OSS.Endpoint, HTTP: "http://" + svc.HTTPAddr()})
	}
	published, err := archiveOrders(ctx, svc, js, before, o)
	if err != nil {
		return nil, err
	}
	return conclude(context.WithoutCancel(ctx), cfg, local, before, Result{Published: published}, start, o.Log)
}

// archiveOrders publishes while the service archives. When all are published, or
// ctx ends, it waits until the orders and what the server had said by then are in
// the archive, and drains.
func archiveOrders(ctx context.Context, svc *service.Service, js jetstream.JetStream, before map[string]uint64, o Options) (uint64, error) {
	// The service outlives ctx: what was published last shall be archived too.
	serviceCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var published atomic.Uint64
	g, gctx := errgroup.WithContext(serviceCtx)
	g.Go(func() error { return svc.Run(serviceCtx) })
	g.Go(func() error {
		defer stop()
		publishCtx, end := context.WithCancel(gctx)
		defer end()
		defer context.AfterFunc(ctx, end)()
		if err := publish(publishCtx, js, before[Orders], o, &published); err != nil {
			return err
		}
		return settle(gctx, svc, js)
	})
	watchCtx, unwatch := context.WithCancel(serviceCtx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(watchCtx, svc, before, &published, o.Progress)
	}()
	err := g.Wait()
	unwatch()
	<-watched
	return published.Load(), err
}

// publish sends the orders, and without Exit goes on slowly until ctx ends. Only
// orders that the server has stored count.
func publish(ctx context.Context, js jetstream.JetStream, last uint64, o Options, published *atomic.Uint64) error {
	var waiting []jetstream.PubAckFuture
	confirm := func(leave int) error {
		for len(waiting) > leave {
			select {
			case <-waiting[0].Ok():
				published.Add(1)
			case err := <-waiting[0].Err():
				return fmt.Errorf("publishing an order: %w", err)
			case <-time.After(publishTimeout):
				return errors.New("publishing an order: the server does not confirm it")
			}
			waiting = waiting[1:]
		}
		return nil
	}
	send := func(n uint64) error {
		subject, order := sample(n, time.Now())
		f, err := js.PublishMsgAsync(&nats.Msg{
			Subject: subject, Data: order.payload(),
			Header: nats.Header{"Nats-Msg-Id": {order.ID}, "Content-Type": {"application/json"}},
		})
		if err != nil {
			return fmt.Errorf("publishing an order: %w", err)
		}
		waiting = append(waiting, f)
		return nil
	}
	n := last
	for range o.Events {
		if ctx.Err() != nil {
			return confirm(0)
		}
		n++
		if err := send(n); err != nil {
			return err
		}
		if err := confirm(publishWindow); err != nil {
			return err
		}
	}
	if err := confirm(0); err != nil || o.Exit {
		return err
	}
	tick := time.NewTicker(time.Second / time.Duration(max(1, o.Rate)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n++
		if err := send(n); err != nil {
			return err
		}
		if err := confirm(0); err != nil {
			return err
		}
	}
}

// settle waits until both streams are archived as far as they reach now.
func settle(ctx context.Context, svc *service.Service, js jetstream.JetStream) error {
	want, err := lastSequences(ctx, js)
	if err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	moved, sum := time.Now(), uint64(0)
	for {
		done, now := true, uint64(0)
		for _, l := range svc.Report().Lanes {
			now += l.Floor
			done = done && l.Floor >= want[l.Source]
		}
		if done {
			return nil
		}
		if now != sum {
			moved, sum = time.Now(), now
		}
		if time.Since(moved) > patience {
			return fmt.Errorf("nothing was archived for %s; see the log", patience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// watch reports how far the service is until ctx ends.
func watch(ctx context.Context, svc *service.Service, before map[string]uint64, published *atomic.Uint64, progress func(Progress)) {
	if progress == nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		p := Progress{Published: published.Load()}
		for _, l := range svc.Report().Lanes {
			// Sequences of both streams are without holes, so they count.
			n := l.Floor - min(l.Floor, before[l.Source])
			if l.Source == Orders {
				p.Archived = n
			} else {
				p.Advisories = n
			}
		}
		progress(p)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lastSequences says how far both streams reach; one that is not there, to 0.
func lastSequences(ctx context.Context, js jetstream.JetStream) (map[string]uint64, error) {
	last := map[string]uint64{}
	for _, name := range []string{Orders, Advisories} {
		s, err := js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking at stream %s: %w", name, err)
		}
		last[name] = s.CachedInfo().State.LastSeq
	}
	return last, nil
}

// conclude verifies and counts what is in the archive.
func conclude(ctx context.Context, cfg *config.Config, local *service.Local, before map[string]uint64, r Result, start time.Time, log zerolog.Logger) (*Result, error) {
	arch, err := service.OpenArchive(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	defer arch.Close()
	if r.Report, err = arch.Verify(ctx, time.Time{}, nil); err != nil {
		return nil, fmt.Errorf("verifying the demo's archive: %w", err)
	}
	r.Duplicates, r.Missing = r.Report.Duplicates, r.Report.Missing
	counts := map[string]uint64{}
	if r.Table, err = survey(ctx, arch, before, counts); err != nil {
		return nil, err
	}
	r.Archived, r.Advisories, r.Objects = counts[Orders], counts[Advisories], len(r.Table)
	r.Dir = local.Path("")
	for _, o := range r.Table {
		if o.Source == Orders || r.Path == "" {
			r.Path = local.Path(o.Key)
			if o.Source == Orders {
				break
			}
		}
	}
	r.Seconds = math.Round(time.Since(start).Seconds()*1000) / 1000
	return &r, nil
}
