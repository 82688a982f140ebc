package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/object"
	"ossuary/internal/ossemu"
	"ossuary/internal/telemetry"
)

// changeable is a service whose configuration can be changed.
type changeable struct {
	*reloader
	t      *testing.T
	hangup chan os.Signal

	mu   sync.Mutex
	file func() (*config.Config, error)
}

// startChangeable runs the service as Run does, until stop is called.
func startChangeable(t *testing.T, cfg *config.Config) (c *changeable, stop func()) {
	t.Helper()
	c = &changeable{t: t, hangup: make(chan os.Signal)}
	c.reloader = &reloader{log: zerolog.Nop(), deps: Deps{Reload: c.hangup, Load: func() (*config.Config, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.file()
	}}}
	if err := c.open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.service().serve(ctx, c.reloader, c.run) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.service().Close()
	})
	t.Cleanup(stop)
	eventually(t, "ready", func() bool { return len(c.NotReady()) == 0 })
	return c, stop
}

// reload changes the configuration, and returns what became of it.
func (c *changeable) reload(file func() (*config.Config, error)) Reloads {
	c.t.Helper()
	c.mu.Lock()
	c.file = file
	c.mu.Unlock()
	before := c.reloads()
	c.hangup <- syscall.SIGHUP
	eventually(c.t, "an end of the reload", func() bool {
		now := c.reloads()
		return now.Good+now.Bad > before.Good+before.Bad
	})
	return c.reloads()
}

func (c *changeable) archived() int { return int(c.service().Report().Lanes[0].Floor) }

// often has files looked at more often than a person could wait for.
func often(t *testing.T) {
	t.Helper()
	before := lookEvery
	lookEvery = 20 * time.Millisecond
	t.Cleanup(func() { lookEvery = before })
}

// Under load the routes change, bad configurations come in between, and nothing is lost
// or doubled.
func TestReload(t *testing.T) {
	often(t)
	cfg, _ := remote(t, ossemu.Options{}, nil)
	changed := func(change func(*config.Config)) func() (*config.Config, error) {
		return func() (*config.Config, error) {
			next := *cfg
			next.Sources = slices.Clone(cfg.Sources)
			next.Sources[0].Routes = slices.Clone(cfg.Sources[0].Routes)
			change(&next)
			return &next, next.Validate()
		}
	}
	c, stop := startChangeable(t, cfg)
	nc, js := producer(t, cfg.NATS.URLs[0])
	published, end := load(t, js, c.archived)
	goesOn := func(what string) {
		t.Helper()
		n := published()
		eventually(t, "archiving goes on "+what, func() bool { return c.archived() > n+50 })
	}
	goesOn("at first")

	if r := c.reload(changed(func(*config.Config) {})); r.Generation != 1 || r.Bad != 0 {
		t.Errorf("nothing changed: %+v", r)
	}
	if r := c.reload(func() (*config.Config, error) { return nil, errors.New("f.yaml:1:1: frobnicate") }); r.Generation != 1 || !strings.Contains(r.LastError, "f.yaml:1:1: frobnicate") {
		t.Errorf("a file that cannot be read: %+v", r)
	}
	goesOn("with a bad file")
	if !slices.ContainsFunc(c.Warnings(), func(w telemetry.Reason) bool {
		return w.What == "configuration" && strings.Contains(w.Reason, "frobnicate")
	}) {
		t.Errorf("nobody is warned: %+v", c.Warnings())
	}
	r := c.reload(changed(func(n *config.Config) { n.NATS.URLs = []string{"nats://127.0.0.1:1"} }))
	if r.Generation != 1 || !strings.Contains(r.LastError, "nats.url nats://127.0.0.1:1: cannot connect") {
		t.Errorf("a server that is not there: %+v", r)
	}
	r = c.reload(changed(func(n *config.Config) { n.Sources[0].Stream, n.Sources[0].Create = "NOPE", nil }))
	if r.Generation != 1 || !strings.Contains(r.LastError, "sources[0].stream NOPE") {
		t.Errorf("a stream that is not there: %+v", r)
	}
	goesOn("with bad settings")

	r = c.reload(changed(func(n *config.Config) {
		n.HTTP.Listen, n.Limits.Memory = "127.0.0.1:1", 1<<30
	}))
	if r.Generation != 1 || r.LastError != "" || !slices.Equal(r.NeedsRestart, []string{"limits.memory", "http.listen"}) {
		t.Errorf("what needs a restart: %+v", r)
	}
	r = c.reload(changed(func(n *config.Config) {
		n.Sources[0].Routes[0].Series, n.Sources[0].Routes[0].Codec = "again/{{subject}}", "zstd"
	}))
	if r.Generation != 2 || r.LastError != "" || r.NeedsRestart != nil {
		t.Errorf("other routes: %+v", r)
	}
	goesOn("with other routes")
	if got := metric(t, c, "ossuary_config_generation"); got != 2 {
		t.Errorf("the metric of the generation: %v", got)
	}
	if good, bad := metric(t, c, "ossuary_config_reloads_total good"), metric(t, c, "ossuary_config_reloads_total bad"); int(good) != r.Good || int(bad) != r.Bad {
		t.Errorf("the metrics of reloads: %v, %v, want %+v", good, bad, r)
	}
	if got := c.Status(0).(Status).Configuration; got == nil || got.Generation != 2 {
		t.Errorf("the status says %+v", got)
	}
	total := end()
	eventually(t, "all is archived", func() bool { return c.archived() == total })
	if got := metric(t, c, "ossuary_events_archived_total"); int(got) != total {
		t.Errorf("the lane counted %v events over the reload, want %d", got, total)
	}
	stop()
	nc.Close()
	wantWhole(t, cfg, total)
	a, err := OpenArchive(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var again int
	if err := a.client.List(t.Context(), cfg.OSS.Prefix+"again/", func(object.Entry) error { again++; return nil }); err != nil || again == 0 {
		t.Errorf("%d segments under the new name, %v", again, err)
	}
}

// A configuration that opens and cannot archive gives the place back.
func TestReloadGoesBack(t *testing.T) {
	often(t)
	cfg, _ := remote(t, ossemu.Options{}, nil)
	cfg.Sources[0].Lanes = 2
	cfg.Sources[0].Create.Subjects = []string{"0.events.>", "1.events.>"}
	cfg.Sources[0].Routes[0].Series = "{{lane}}/x"
	c, stop := startChangeable(t, cfg)
	_, js := producer(t, cfg.NATS.URLs[0])
	total := 0
	send := func() {
		t.Helper()
		for i := range 20 {
			if _, err := js.Publish(t.Context(), fmt.Sprintf("%d.events.x", i%2), []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		total += 20
		eventually(t, "all is archived", func() bool {
			lanes := c.service().Report().Lanes
			return len(lanes) == 2 && int(max(lanes[0].Floor, lanes[1].Floor)) == total && len(c.NotReady()) == 0
		})
	}
	send()
	next := *cfg
	next.Sources = slices.Clone(cfg.Sources)
	next.Sources[0].Lanes = 1
	c.reload(func() (*config.Config, error) { return &next, nil })
	eventually(t, "the old configuration is back", func() bool { return c.reloads().Bad == 1 })
	r := c.reloads()
	if !strings.Contains(r.LastError, "was given up") || !strings.Contains(r.LastError, "set lanes to 2 again") {
		t.Errorf("%+v", r)
	}
	send()
	stop()
	wantWhole(t, cfg, total)
}

// metric is the value of a metric over all its labels, or of those with one of them.
func metric(t *testing.T, c *changeable, name string) (sum float64) {
	t.Helper()
	name, label, _ := strings.Cut(name, " ")
	families, err := c.service().metrics.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label })) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// producer is somebody else's connection.
func producer(t *testing.T, url string, opts ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// What lets us in at NATS changes under load, and the old is bad from then on. Nothing
// is lost or doubled, and no restart is needed.
func TestNATSRotation(t *testing.T) {
	often(t)
	const each = 100
	rotations := 1
	if os.Getenv("OSSUARY_LONG") != "" {
		rotations = 10
	}
	for _, tc := range []struct {
		name  string
		early bool // the new is there before the old ends
		set   func(*testing.T, string) (n config.NATS, producer []nats.Option, rotate func(), retire func())
	}{
		{"creds", true, rotatedCreds},
		{"creds that come late", false, rotatedCreds},
		{"password", true, rotatedPassword},
		{"nkey", true, rotatedNKey},
		{"certificates", true, rotatedTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, options, rotate, retire := tc.set(t, t.TempDir())
			cfg, _ := remote(t, ossemu.Options{}, nil)
			cfg.NATS = n
			// A lease whose owner is cut off has to run out.
			cfg.Lease.TTL, cfg.Intake.DrainTimeout = 500*time.Millisecond, time.Second
			c, stop := startChangeable(t, cfg)
			_, js := producer(t, n.URLs[0], options...)
			published, end := load(t, js, c.archived)
			for range rotations {
				before := published()
				eventually(t, "events are archived", func() bool { return c.archived() >= before+each })
				generation := c.reloads().Generation
				if tc.early {
					rotate()
					retire()
				} else {
					retire()
					gap := published()
					eventually(t, "events come into the gap", func() bool { return published() >= gap+each })
					rotate()
				}
				after := published()
				eventually(t, "the new files are in use", func() bool { return c.reloads().Generation > generation })
				eventually(t, "what came since is archived", func() bool { return c.archived() >= after+each })
			}
			total := end()
			eventually(t, "all is archived", func() bool { return c.archived() == total })
			stop()
			wantWhole(t, cfg, total)
		})
	}
}

func rotatedCreds(t *testing.T, dir string) (config.NATS, []nats.Option, func(), func()) {
	o := startOperated(t)
	ours, theirs := filepath.Join(dir, "ossuary.creds"), filepath.Join(dir, "producer.creds")
	keys := []string{o.user(ours)}
	o.user(theirs)
	return config.NATS{URLs: []string{o.srv.ClientURL()}, Creds: ours}, []nats.Option{nats.UserCredentials(theirs)},
		func() { keys = append(keys, o.user(ours)) },
		func() { o.revoke(keys[0]); keys = keys[1:] }
}

func rotatedPassword(t *testing.T, dir string) (config.NATS, []nats.Option, func(), func()) {
	file, n := filepath.Join(dir, "password"), 1
	put(t, file, "secret-1\n")
	conf := func(valid int) string {
		return fmt.Sprintf("authorization: {users: [{user: ossuary, password: secret-%d}, {user: producer, password: p}]}", valid)
	}
	srv := natsServer(t, conf(1))
	valid := 1
	return config.NATS{URLs: []string{srv.ClientURL()}, User: "ossuary", PasswordFile: file}, []nats.Option{nats.UserInfo("producer", "p")},
		func() { n++; put(t, file, fmt.Sprintf("secret-%d\n", n)) },
		func() { valid++; srv.change(conf(valid)) }
}

func rotatedNKey(t *testing.T, dir string) (config.NATS, []nats.Option, func(), func()) {
	file := filepath.Join(dir, "user.nk")
	key := func() string {
		kp := pair(t, nkeys.CreateUser)
		seed, err := kp.Seed()
		if err != nil {
			t.Fatal(err)
		}
		put(t, file, string(seed))
		return public(t, kp)
	}
	conf := func(keys ...string) string {
		text := "{user: producer, password: p}"
		for _, k := range keys {
			text += ", {nkey: " + k + "}"
		}
		return "authorization: {users: [" + text + "]}"
	}
	now := key()
	srv := natsServer(t, conf(now))
	return config.NATS{URLs: []string{srv.ClientURL()}, NKey: file}, []nats.Option{nats.UserInfo("producer", "p")},
		func() { // the server learns of it at once, as it would of an account's
			old := now
			now = key()
			srv.change(conf(old, now))
		},
		func() { srv.change(conf(now)) }
}

// rotatedTLS changes everything: authority, the server's certificate, and ours.
func rotatedTLS(t *testing.T, dir string) (config.NATS, []nats.Option, func(), func()) {
	generation := 0
	n := config.NATS{TLS: config.TLS{CA: filepath.Join(dir, "ca.pem")}}
	var served string
	issue := func() {
		generation++
		at := filepath.Join(dir, fmt.Sprint(generation))
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		a := newAuthority(t, dir, "ca")
		n.TLS.Cert, n.TLS.Key = a.issue("ossuary")
		a.dir = at
		cert, key := a.issue("server")
		trusted := filepath.Join(at, "ca.pem")
		pem, err := os.ReadFile(n.TLS.CA)
		if err != nil {
			t.Fatal(err)
		}
		put(t, trusted, string(pem))
		served = fmt.Sprintf("tls: {cert_file: '%s', key_file: '%s', ca_file: '%s', verify: true, timeout: 10}\n", cert, key, trusted)
	}
	issue()
	srv := natsServer(t, served)
	n.URLs = []string{srv.ClientURL()}
	theirs := t.TempDir()
	for _, name := range []string{"ca.pem", "ossuary.pem", "ossuary.key"} { // the producer has the first ones
		p, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(theirs, name), string(p))
	}
	file := func(name string) string { return filepath.Join(theirs, name) }
	return n, []nats.Option{nats.RootCAs(file("ca.pem")), nats.ClientCert(file("ossuary.pem"), file("ossuary.key"))},
		issue, func() { srv.change(served) }
}
