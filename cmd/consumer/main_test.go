package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/ossemu"
	"ossuary/internal/service"
)

// consumer runs a command to its end.
func consumer(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// wantCode runs a command that must end with code.
func wantCode(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	got, stdout, stderr := consumer(t, args...)
	if got != code {
		t.Fatalf("consumer %s: exit %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	return stdout, stderr
}

// world is a NATS server, a store and a configuration file that uses them.
type world struct {
	js     jetstream.JetStream
	nats   string
	oss    string // endpoint
	emu    *ossemu.Server
	store  string // directory of the store
	config string
	change map[string]string // lines that start replaces in it
}

const worldKey, worldSecret = "test-key", "test-secret-do-not-print"

func newWorld(t *testing.T) *world {
	t.Helper()
	srv := embeddedtest.Start(t)
	_, js := embeddedtest.Connect(t, srv)
	w := &world{js: js, nats: srv.ClientURL(), store: t.TempDir()}
	emu, err := ossemu.New(ossemu.Options{Dir: w.store, Credentials: map[string]string{worldKey: worldSecret}, Buckets: []string{"bucket"}})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	go emu.Serve(l) // ends with Close
	t.Cleanup(func() { emu.Close() })
	w.emu = emu
	w.oss = "http://" + l.Addr().String()
	w.write(t, nil)
	return w
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

// write writes the configuration, with lines replaced.
func (w *world) write(t *testing.T, replace map[string]string) {
	t.Helper()
	text := fmt.Sprintf(`archive: {name: test}
nats:
  url: %s
oss:
  endpoint: %s
  region: cn-hangzhou
  bucket: bucket
  prefix: archive/
  access_key_id: %s
  access_key_secret: %s
sources:
  - stream: ORDERS
    routes:
      - subjects: ["orders.*.>"]
        series: orders/{{wildcard(1)}}/{{time(%%Y-%%m)}}
        flush: {linger: 20ms}
      - subjects: ["noise.>"]
        skip: true
http: {listen: "127.0.0.1:0"}
log: {format: json}
`, w.nats, w.oss, worldKey, worldSecret)
	for old, new := range replace {
		if !strings.Contains(text, old) {
			t.Fatalf("no %q in the configuration", old)
		}
		text = strings.ReplaceAll(text, old, new)
	}
	w.config = filepath.Join(t.TempDir(), "ossuary.yaml")
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *world) createStream(t *testing.T) jetstream.Stream {
	t.Helper()
	s, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>", "noise.>"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What keeps an archive from running must be said once, with the setting and
// what mends it, end with exit 2, and leave the stream alone.
func TestErrorsNameSettingAndMend(t *testing.T) {
	for _, tt := range []struct {
		name     string
		replace  func(*testing.T, *world) map[string]string
		noStream bool
		want     []string
	}{
		{"unknown key", func(*testing.T, *world) map[string]string {
			return map[string]string{"  bucket: bucket\n": "  bukket: bucket\n"}
		}, false, []string{"bukket", "bucket"}},
		{"bad value", func(*testing.T, *world) map[string]string {
			return map[string]string{"linger: 20ms": "linger: soon"}
		}, false, []string{"linger", "soon"}},
		{"bad template", func(*testing.T, *world) map[string]string {
			return map[string]string{"{{wildcard(1)}}": "{{wildcard(3)}}"}
		}, false, []string{"sources[0].routes[0].series", "wildcard"}},
		{"missing stream", nil, true, []string{"sources[0].stream ORDERS", "nats stream add ORDERS"}},
		{"nats unreachable", func(t *testing.T, w *world) map[string]string {
			return map[string]string{w.nats: "nats://" + nobody(t)}
		}, false, []string{"nats.url", "start the server, or correct nats.url"}},
		{"oss unreachable", func(t *testing.T, w *world) map[string]string {
			return map[string]string{w.oss: "http://" + nobody(t)}
		}, false, []string{"oss.endpoint", "correct oss.endpoint"}},
		{"oss: wrong secret", func(*testing.T, *world) map[string]string {
			return map[string]string{worldSecret: "other"}
		}, false, []string{"SignatureDoesNotMatch", "correct oss.access_key_id and oss.access_key_secret"}},
		{"oss: wrong key", func(*testing.T, *world) map[string]string {
			return map[string]string{worldKey: "other"}
		}, false, []string{"InvalidAccessKeyId", "correct oss.access_key_id and oss.access_key_secret"}},
		{"oss: no bucket", func(*testing.T, *world) map[string]string {
			return map[string]string{"  bucket: bucket\n": "  bucket: another\n"}
		}, false, []string{"oss.bucket another", "NoSuchBucket", "create the bucket"}},
		{"oss: no key", func(*testing.T, *world) map[string]string {
			return map[string]string{
				"  access_key_id: " + worldKey + "\n": "", "  access_key_secret: " + worldSecret + "\n": "",
			}
		}, false, []string{"set oss.access_key_id"}},
		{"oss: no key file", func(t *testing.T, _ *world) map[string]string {
			return map[string]string{
				"  access_key_id: " + worldKey + "\n": "", "  access_key_secret: " + worldSecret + "\n": "  credentials: {from: file, file: /no/such/keys.json}\n",
			}
		}, false, []string{"oss.credentials: reading the access key", "/no/such/keys.json", "correct oss.credentials.file"}},
		{"oss: no token to take a role on", func(t *testing.T, _ *world) map[string]string {
			t.Setenv("ALIBABA_CLOUD_ROLE_ARN", "")
			return map[string]string{
				"  access_key_id: " + worldKey + "\n": "", "  access_key_secret: " + worldSecret + "\n": "  credentials: {from: oidc, oidc_token_file: /no/such/token}\n",
			}
		}, false, []string{"oss.credentials: taking on a role by a token", "is empty", "oss.credentials.role_arn"}},
		{"oss: authorities", func(*testing.T, *world) map[string]string {
			return map[string]string{"  bucket: bucket\n": "  bucket: bucket\n  tls: {ca: /no/such/ca.pem}\n"}
		}, false, []string{"oss: reading the certificate authorities", "/no/such/ca.pem", "oss.tls.ca"}},
		{"address in use", func(t *testing.T, _ *world) map[string]string {
			return map[string]string{"127.0.0.1:0": listen(t).Addr().String()}
		}, false, []string{"http.listen", "choose a free address"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("OSS_ACCESS_KEY_ID", "")
			t.Setenv("OSS_ACCESS_KEY_SECRET", "")
			w := newWorld(t)
			if !tt.noStream {
				w.createStream(t)
			}
			if tt.replace != nil {
				w.write(t, tt.replace(t, w))
			}
			_, stderr := wantCode(t, exitUnable, "run", "--config", w.config)
			message := lastLines(stderr)
			for _, want := range tt.want {
				if !strings.Contains(message, want) {
					t.Errorf("%q is not in the message:\n%s", want, message)
				}
			}
			if strings.Contains(stderr, worldSecret) {
				t.Errorf("the secret is printed:\n%s", stderr)
			}
			if tt.noStream {
				return
			}
			s, err := w.js.Stream(t.Context(), "ORDERS")
			if err != nil {
				t.Fatal(err)
			}
			if n := s.CachedInfo().State.Consumers; n != 0 {
				t.Errorf("%d consumers were left on the stream", n)
			}
		})
	}
}

// lastLines is what stands on standard error besides the log.
func lastLines(stderr string) string {
	var out []string
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "{") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func TestNATSRefusesCredentials(t *testing.T) {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Username: "archive", Password: "right",
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	w := newWorld(t)
	for _, tt := range []struct{ name, settings, want string }{
		{"wrong password", "\n  user: archive\n  password: wrong-password", "correct nats.user and nats.password"},
		{"none", "", "none of nats.creds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.write(t, map[string]string{w.nats: srv.ClientURL() + tt.settings})
			_, stderr := wantCode(t, exitUnable, "run", "--config", w.config)
			if !strings.Contains(stderr, tt.want) || !strings.Contains(stderr, "nats.url") || strings.Contains(stderr, "wrong-password") {
				t.Errorf("message:\n%s", stderr)
			}
		})
	}
}

func TestServerWithoutJetStream(t *testing.T) {
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	w := newWorld(t)
	w.write(t, map[string]string{w.nats: srv.ClientURL()})
	_, stderr := wantCode(t, exitUnable, "run", "--config", w.config)
	if !strings.Contains(stderr, "nats.url") || !strings.Contains(stderr, "start it with -js") {
		t.Errorf("message:\n%s", stderr)
	}
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "--confg", "x"}, "--confg"},
		{[]string{"rnu"}, "rnu"},
		{[]string{"route"}, "SUBJECT"},
		{[]string{"route", "a", "--rate", "many"}, "--rate"},
		{[]string{"route", "a", "--rate", "10/fortnight"}, "--rate"},
		{[]string{"route", "a", "--rate", "10/s", "--size", "big"}, "--size"},
		{[]string{"route", "a", "--size", "1KiB"}, "--rate"},
		{[]string{"route", "a", "--rate", "1/s", "--size", "1KiB", "--data", "x"}, "--data"},
		{[]string{"status", "--interval", "0s"}, "--interval"},
		{[]string{"dead-letters", "list", "--seq", "9..3", "--dir", "."}, "--seq"},
		{[]string{"dead-letters", "redrive", "--since", "yesterday"}, "--since"},
		{[]string{"run", "--config", "/does/not/exist.yaml"}, "/does/not/exist.yaml"},
		{[]string{"cat", "--seq", "9..3", "--dir", "."}, "--seq"},
		{[]string{"cat", "--since", "yesterday", "--dir", "."}, "--since"},
		{[]string{"verify", "--dir", "/does/not/exist"}, "--dir"},
		{[]string{"verify", "--dir", "."}, "no object of an archive"},
		{[]string{"run", "--log-level", "loud"}, "--log-level"},
		{[]string{"demo", "--config", "x.yaml"}, "--config"},
		{[]string{"emulator", "--memory", "--dir", "x"}, "--memory"},
		{[]string{"emulator", "--listen", "nowhere"}, "--listen"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, stderr := wantCode(t, exitUnable, tt.args...)
			if !strings.Contains(stderr, tt.want) {
				t.Errorf("%q is not in the message: %s", tt.want, stderr)
			}
		})
	}
	for _, args := range [][]string{{}, {"--help"}, {"version"}, {"version", "--json"}, {"schema"}, {"ledger"}, {"completion", "bash"}} {
		if stdout, _ := wantCode(t, exitGood, args...); stdout == "" {
			t.Errorf("consumer %v prints nothing", args)
		}
	}
}

func TestRoute(t *testing.T) {
	w := newWorld(t)
	stdout, _ := wantCode(t, exitGood, "route", "orders.eu.paid", "--config", w.config, "--time", "2026-11-22T10:00:00Z", "--json")
	var got []service.Destination
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if len(got) != 1 || got[0].Key != "archive/orders/eu/2026-11.000001.ndjson.gz" || got[0].Stream != "ORDERS" {
		t.Errorf("got %+v", got)
	}
	stdout, _ = wantCode(t, exitGood, "route", "orders.eu.paid", "--config", w.config)
	if !strings.Contains(stdout, "orders/eu/") || !strings.Contains(stdout, "archived") {
		t.Errorf("got %s", stdout)
	}
	for subject, want := range map[string]string{"noise.a": "skip", "other.a": "no route"} {
		if stdout, _ := wantCode(t, exitFound, "route", subject, "--config", w.config); !strings.Contains(stdout, want) {
			t.Errorf("%s: got %s", subject, stdout)
		}
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	stdout, stderr := wantCode(t, exitUnable, "check", "--config", w.config)
	if !strings.Contains(stdout, "problem  stream ORDERS") || !strings.Contains(stderr, "sources[0].stream") {
		t.Errorf("without the stream:\n%s%s", stdout, stderr)
	}
	s := w.createStream(t)
	publish(t, w.js, "orders.eu.paid", "noise.x")
	stdout, _ = wantCode(t, exitGood, "check", "--config", w.config, "--json")
	var found []service.Checked
	if err := json.Unmarshal([]byte(stdout), &found); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if !strings.Contains(stdout, "1 go to 1 series, 1 are skipped") {
		t.Errorf("no dry run in %s", stdout)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Consumers != 0 || info.State.Msgs != 2 {
		t.Errorf("check has touched the stream: %+v", info.State)
	}
	if stdout, _ := wantCode(t, exitGood, "check", "--print", "--config", w.config); !strings.Contains(stdout, "stream: ORDERS") || strings.Contains(stdout, worldSecret) {
		t.Errorf("--print: %s", stdout)
	}
}

func publish(t *testing.T, js jetstream.JetStream, subjects ...string) {
	t.Helper()
	for _, s := range subjects {
		if _, err := js.Publish(t.Context(), s, []byte(`{"subject":"`+s+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
}

// service runs `consumer run` until the test calls stop, which returns its exit
// code and what it wrote on standard error.
func (w *world) start(t *testing.T) (base string, stop func() (int, string)) {
	t.Helper()
	addr := nobody(t)
	replace := map[string]string{"127.0.0.1:0": addr}
	maps.Copy(replace, w.change)
	w.write(t, replace)
	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"run", "--config", w.config}, new(bytes.Buffer), &stderr) }()
	stopped := false
	stop = func() (int, string) {
		stopped = true
		cancel()
		return <-code, stderr.String()
	}
	t.Cleanup(func() {
		if !stopped {
			stop()
		}
	})
	return "http://" + addr, stop
}

// eventually waits for a condition of another process or goroutine.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func status(url string) (st service.Status, ok bool) {
	resp, err := http.Get(url + "/status")
	if err != nil {
		return st, false
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st) == nil
}
