package service

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/conf"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/ledger"
	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

const docArchive, docStream = "shop", "ORDERS"

// documented are the permissions that docs/NATS.md lists.
func documented(t *testing.T) (publish, subscribe []string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/NATS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```\npermissions: {")
	block, _, closed := strings.Cut(rest, "```\n")
	if !ok || !closed {
		t.Fatal("docs/NATS.md lists no permissions")
	}
	m, err := conf.Parse("permissions: {" + block)
	if err != nil {
		t.Fatal(err)
	}
	read := func(what string) (out []string) {
		for _, s := range m["permissions"].(map[string]any)[what].([]any) {
			out = append(out, s.(string))
		}
		return out
	}
	return read("publish"), read("subscribe")
}

// With what docs/NATS.md lists, the service does all that it does; and there is
// nothing in the list that it could do without.
func TestPermissions(t *testing.T) {
	t.Parallel()
	publish, subscribe := documented(t)
	quoted := func(list []string) string { return `["` + strings.Join(list, `","`) + `"]` }
	account := func(i int, publish, subscribe []string) string {
		return fmt.Sprintf(`A%d: {jetstream: enabled, users: [
			{user: admin%[1]d, password: p},
			{user: ossuary%[1]d, password: p, permissions: {publish: %s, subscribe: %s}}]}
		`, i, quoted(publish), quoted(subscribe))
	}
	type missing struct{ what, subject string }
	cases := []missing{{}}
	text := account(0, publish, subscribe)
	for i, p := range publish {
		cases = append(cases, missing{"publish to", p})
		text += account(len(cases)-1, slices.Delete(slices.Clone(publish), i, i+1), subscribe)
	}
	for i, s := range subscribe {
		cases = append(cases, missing{"subscribe to", s})
		less := append(slices.Delete(slices.Clone(subscribe), i, i+1), "nothing.of.use")
		text += account(len(cases)-1, publish, less)
	}
	url := natsServer(t, "accounts: {"+text+"}").ClientURL()
	emu := ossemutest.Start(t, ossemu.Options{Region: ossemutest.Region})

	for i, tc := range cases {
		name := "all"
		if tc.subject != "" {
			name = "without " + tc.subject
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin, err := nats.Connect(url, nats.UserInfo(fmt.Sprintf("admin%d", i), "p"))
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			js, err := jetstream.New(admin)
			if err != nil {
				t.Fatal(err)
			}
			cfg := config.Default()
			cfg.Embedded.Enabled, cfg.HTTP.Listen = false, ""
			cfg.Archive.Name = docArchive
			cfg.NATS = config.NATS{URLs: []string{url}, User: fmt.Sprintf("ossuary%d", i), Password: "p"}
			cfg.OSS.Endpoint, cfg.OSS.Region, cfg.OSS.Bucket = emu.Endpoint, ossemutest.Region, ossemutest.Bucket
			cfg.OSS.AccessKeyID, cfg.OSS.AccessKeySecret = ossemutest.AccessKeyID, ossemutest.AccessKeySecret
			cfg.OSS.Prefix = fmt.Sprintf("%d/", i)
			cfg.Intake.Audit, cfg.Intake.DrainTimeout = 100*time.Millisecond, 2*time.Second
			cfg.Sources[0].Stream, cfg.Sources[0].Create = docStream, nil
			r := &cfg.Sources[0].Routes[0]
			r.Flush.Linger, r.Roll.Idle = time.Millisecond, 50*time.Millisecond
			if strings.HasPrefix(tc.subject, "$JS.FC.") || tc.subject == "" {
				manyTails(t, js)
			}
			w := permitted{t: t, js: js, cfg: cfg, lacks: tc.subject != "", denied: func(s string) bool {
				return strings.Contains(s, "may not "+tc.what) && (tc.subject == "" || covers(tc.subject, s))
			}}
			switch why := w.life(); {
			case tc.subject == "" && why != "":
				t.Errorf("it may not do what it wants to: %s", why)
			case tc.subject != "" && why == "":
				t.Error("nobody misses it")
			}
		})
	}
}

// covers reports whether the sentence names a subject that the pattern matches.
func covers(pattern, sentence string) bool {
	for word := range strings.FieldsSeq(sentence) {
		want, got := strings.Split(pattern, "."), strings.Split(strings.TrimSuffix(word, ";"), ".")
		ok := len(got) >= len(want)
		for i := 0; ok && i < len(want) && want[i] != ">"; i++ {
			ok = want[i] == "*" || want[i] == got[i]
		}
		if ok && (len(got) == len(want) || want[len(want)-1] == ">") {
			return true
		}
	}
	return false
}

// manyTails fills the ledger, so that reading it needs the server's flow control.
func manyTails(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	l, err := ledger.Open(t.Context(), js, ledger.Config{Archive: docArchive, Create: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), l.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.PutTail(t.Context(), docStream, firstLane, "x0", ledger.Tail{}, 0); err != nil {
		t.Fatal(err)
	}
	keys, err := kv.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, ok := strings.CutSuffix(keys[0], "x0")
	if !ok {
		t.Fatalf("the key of a tail is %q", keys[0])
	}
	entry, err := kv.Get(t.Context(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	value := append(entry.Value(), strings.Repeat(" ", 4000)...)
	for n := range 1500 {
		if _, err := js.PublishAsync(fmt.Sprintf("$KV.%s.%sx%d", l.Bucket(), key, n), value); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(30 * time.Second):
		t.Fatal("publishing takes too long")
	}
}

// permitted is a service whose user may do so much and no more.
type permitted struct {
	t      *testing.T
	js     jetstream.JetStream // of somebody who may do all
	cfg    *config.Config
	lacks  bool              // something is missing, and the service runs until it says so
	denied func(string) bool // the sentence is what the case is about

	mu   sync.Mutex
	why  string
	seen func() // called when it is set
}

// Write takes the log. The first line that says what the case is about stays.
func (w *permitted) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == "" && w.denied(string(line)) {
		w.why = string(line)
		if w.seen != nil {
			w.seen()
		}
	}
	return len(line), nil
}

func (w *permitted) missing() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

// life goes through all steps, and returns the line that names what was missing.
func (w *permitted) life() string {
	if _, err := w.js.CreateStream(w.t.Context(), jetstream.StreamConfig{Name: docStream, Subjects: []string{"events.>"}}); err != nil {
		w.t.Fatal(err)
	}
	// The second run finds a consumer, a floor and a ledger.
	for run := 1; run <= 2 && w.missing() == ""; run++ {
		w.run(run == 2 && w.lacks)
	}
	if w.missing() == "" {
		kv, err := w.js.Stream(w.t.Context(), "KV_"+ledger.BucketPrefix+docArchive)
		if err == nil {
			err = kv.Purge(w.t.Context(), jetstream.WithPurgeSubject("$KV."+ledger.BucketPrefix+docArchive+".tail.>")) // of manyTails
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.read()
	}
	return w.missing()
}

// run archives until all is archived and acknowledged, and the series is sealed and out of
// the ledger; or for as long as something is to be found missing.
func (w *permitted) run(on bool) {
	t := w.t
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w.mu.Lock()
	w.seen = cancel // the server tells at once, while the request takes its time
	w.mu.Unlock()
	s, err := Open(ctx, w.cfg, zerolog.New(zerolog.SyncWriter(w)).Level(zerolog.WarnLevel))
	if err != nil {
		if _, werr := w.Write([]byte(err.Error())); w.missing() == "" {
			t.Errorf("it does not start, and does not say why: %v, %v", err, werr)
		}
		return
	}
	defer s.Close()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	const most = 10_000
	for n := 0; n < most; n++ {
		if w.missing() != "" || n > 10 && !on && w.settled(ctx, s) {
			return
		}
		if n < 10 || on {
			if _, err := w.js.Publish(t.Context(), "events.x", []byte(`{"a":1}`)); err != nil {
				t.Error(err)
				return
			}
		}
		if n >= 10 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Errorf("it never comes to its end: %+v", s.Report().Lanes)
}

func (w *permitted) settled(ctx context.Context, s *Service) bool {
	stream, err := w.js.Stream(ctx, docStream)
	if err != nil {
		return false
	}
	last := stream.CachedInfo().State.LastSeq
	for c := range stream.ListConsumers(ctx).Info() {
		if c.AckFloor.Stream != last {
			return false
		}
	}
	kv, err := w.js.Stream(ctx, "KV_"+s.ledger.Bucket())
	if err != nil {
		return false
	}
	info, err := kv.Info(ctx, jetstream.WithSubjectFilter("$KV."+s.ledger.Bucket()+".>"))
	if err != nil {
		return false
	}
	for subject := range info.State.Subjects {
		if strings.Contains(subject, ".events/") {
			return false
		}
	}
	return s.Report().Lanes[0].Floor == last && s.lanes[0].sinkMetrics.Seals.Load() > 0
}

// read does what those do who only look.
func (w *permitted) read() {
	t := w.t
	log := zerolog.New(zerolog.SyncWriter(w)).Level(zerolog.WarnLevel)
	a, err := OpenArchive(t.Context(), w.cfg, log)
	if err != nil {
		t.Error(err)
		return
	}
	defer a.Close()
	if r, err := a.Verify(t.Context(), time.Time{}, nil); err != nil || r.Result != archive.OK {
		t.Errorf("%+v, %v", r, err)
	}
	for _, f := range Check(t.Context(), w.cfg, log) {
		if strings.HasPrefix(f.What, "nats") || strings.HasPrefix(f.What, "stream") || f.What == "ledger" {
			if f.Level != CheckOK {
				t.Errorf("%s: %s: %s", f.Level, f.What, f)
			}
		}
	}
}
