//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss" //nolint:depguard // what one writes by hand uses it
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a client does with the stream. It runs in a process of its own, so that
// its CPU and memory can be told from everything else's.
const (
	ackNone     = "none"     // receive
	ackAll      = "all"      // receive, acknowledge every ackEvery-th for all before it
	ackExplicit = "explicit" // receive, acknowledge each
	handBatch   = "batch"    // fetch 500, one append, acknowledge each
	handSingle  = "single"   // one event, one append, acknowledge it
)

const (
	ackEvery  = 500
	handFetch = 500
	// Larger pulls than nats.go's 500 made the bare consumes some percent faster,
	// still larger ones did not.
	barePull = 4096
	// What the server may have outstanding: as much as Ossuary asks for.
	bareAckPending = 100_000
)

// clientWork is what a client process is told.
type clientWork struct {
	URL, Stream, Mode string
	Events            int
	Store             string // address, of the hand-written ones
	Key               string // of the object they write
}

// clientDone is what it answers.
type clientDone struct {
	Seconds float64
	CPU     time.Duration
	Peak    uint64 // bytes
	Mallocs uint64
	Appends int
}

// serveClient does one work and prints what it took.
func serveClient(text string) error {
	var w clientWork
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	nc, err := nats.Connect(w.URL)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	policy := map[string]jetstream.AckPolicy{ackNone: jetstream.AckNonePolicy, ackAll: jetstream.AckAllPolicy}
	cfg := jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, MaxAckPending: bareAckPending, InactiveThreshold: time.Minute}
	if p, ok := policy[w.Mode]; ok {
		cfg.AckPolicy = p
	}
	if cfg.AckPolicy == jetstream.AckNonePolicy {
		cfg.MaxAckPending, cfg.AckWait = 0, 0
	}
	cons, err := js.CreateConsumer(ctx, w.Stream, cfg)
	if err != nil {
		return fmt.Errorf("making the consumer: %w", err)
	}
	defer js.DeleteConsumer(ctx, w.Stream, cons.CachedInfo().Name) //nolint:errcheck // it goes by itself

	m, err := begin()
	if err != nil {
		return err
	}
	appends := 0
	switch w.Mode {
	case handBatch, handSingle:
		appends, err = byHand(ctx, cons, w)
	default:
		err = bare(ctx, cons, w)
	}
	if err == nil && w.Mode != ackNone {
		err = settled(ctx, cons, uint64(w.Events))
	}
	if err != nil {
		return err
	}
	done, err := m.end()
	if err != nil {
		return err
	}
	done.Appends = appends
	return json.NewEncoder(os.Stdout).Encode(done)
}

// meter notes where the work began.
type meter struct {
	at      time.Time
	cpu     time.Duration
	mallocs uint64
}

func begin() (meter, error) {
	cpu, err := cpuTime(os.Getpid())
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return meter{time.Now(), cpu, s.Mallocs}, err
}

func (m meter) end() (clientDone, error) {
	d := clientDone{Seconds: time.Since(m.at).Seconds()}
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	d.Mallocs = s.Mallocs - m.mallocs
	cpu, err := cpuTime(os.Getpid())
	if err != nil {
		return d, err
	}
	d.CPU = cpu - m.cpu
	_, d.Peak, err = memory(os.Getpid())
	return d, err
}

// bare receives, and acknowledges as the mode says.
func bare(ctx context.Context, cons jetstream.Consumer, w clientWork) error {
	done, n, failed := make(chan struct{}), 0, error(nil)
	cc, err := cons.Consume(func(m jetstream.Msg) {
		if n == w.Events {
			return
		}
		n++
		var err error
		switch {
		case w.Mode == ackExplicit, w.Mode == ackAll && (n%ackEvery == 0 || n == w.Events):
			err = m.Ack()
		}
		if err != nil && failed == nil {
			failed = err
		}
		if n == w.Events {
			close(done)
		}
	}, jetstream.PullMaxMessages(barePull))
	if err != nil {
		return err
	}
	defer cc.Stop()
	select {
	case <-done:
		return failed
	case <-ctx.Done():
		return fmt.Errorf("%d of %d events came: %w", n, w.Events, ctx.Err())
	}
}

// settled waits until the server has worked through all acknowledgements: they
// are as much a part of the work as the events.
func settled(ctx context.Context, cons jetstream.Consumer, last uint64) error {
	for {
		info, err := cons.Info(ctx)
		if err != nil {
			return err
		}
		if info.AckFloor.Stream >= last {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("acknowledged up to %d of %d: %w", info.AckFloor.Stream, last, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// byHand is what one writes in an afternoon: payloads with a newline each, to one
// object, through the vendor's SDK.
func byHand(ctx context.Context, cons jetstream.Consumer, w clientWork) (int, error) {
	client, err := oss.New("http://"+w.Store, accessKey, secretKey, oss.AuthVersion(oss.AuthV4), oss.Region(region), oss.ForcePathStyle(true))
	if err != nil {
		return 0, err
	}
	bucket, err := client.Bucket(bucketName)
	if err != nil {
		return 0, err
	}
	fetch := handFetch
	if w.Mode == handSingle {
		fetch = 1
	}
	var (
		position int64
		appends  int
		batch    []jetstream.Msg
		body     bytes.Buffer
	)
	for n := 0; n < w.Events; n += len(batch) {
		messages, err := cons.Fetch(min(fetch, w.Events-n), jetstream.FetchContext(ctx))
		if err != nil {
			return 0, err
		}
		batch = batch[:0]
		body.Reset()
		for m := range messages.Messages() {
			batch = append(batch, m)
			body.Write(m.Data())
			body.WriteByte('\n')
		}
		if err := messages.Error(); err != nil {
			return 0, err
		}
		if position, err = bucket.AppendObject(w.Key, io.Reader(bytes.NewReader(body.Bytes())), position); err != nil {
			return 0, fmt.Errorf("appending by hand: %w", err)
		}
		appends++
		for _, m := range batch {
			if err := m.Ack(); err != nil {
				return 0, err
			}
		}
	}
	return appends, nil
}
