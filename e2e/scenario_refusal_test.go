//go:build unix

package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/rig"
)

// snapshot is all that a start which is refused must leave as it is: the
// stream's messages, its consumers with what they were given and acknowledged,
// the objects and the ledger.
func (w *world) snapshot() string {
	w.t.Helper()
	var out []string
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	for _, name := range []string{rig.StreamName, "KV_" + rig.LedgerBucket} {
		s := w.stream(name)
		st := s.CachedInfo().State
		out = append(out, fmt.Sprintf("%s: %d messages %d-%d, %d consumers", name, st.Msgs, st.FirstSeq, st.LastSeq, st.Consumers))
		list := s.ListConsumers(ctx)
		for c := range list.Info() {
			out = append(out, fmt.Sprintf("%s/%s: delivered %d, acknowledged %d, pending %d and %d", name, c.Name,
				c.Delivered.Stream, c.AckFloor.Stream, c.NumPending, c.NumAckPending))
		}
		if list.Err() != nil {
			w.t.Fatal(list.Err())
		}
	}
	err := filepath.WalkDir(filepath.Join(w.dir, "oss", rig.BucketName), func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(file)
		out = append(out, fmt.Sprintf("%s: %d bytes, %x", file, len(b), sha256.Sum256(b)))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}

// oldServer answers a client's first words as a NATS server before 2.10 does.
func oldServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, `INFO {"server_id":"OLD","version":"2.9.25","go":"go1.20","host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576,"proto":1,"jetstream":true}`+"\r\n")
				in := bufio.NewScanner(c)
				for in.Scan() {
					if strings.HasPrefix(in.Text(), "PING") {
						fmt.Fprint(c, "PONG\r\n")
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// An archive that was running well is started again with something wrong. Each
// time it says once what is wrong, which setting it is and what mends it, ends
// with exit code 2, and leaves everything as it was.
func TestRefusedStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.instance("a", settings{routes: plainRoutes})
	a.Start()
	w.put(300, numbered("ev.x", "archived", 3))
	a.WaitFloor(300)
	a.Stop()
	w.put(100, numbered("ev.x", "waiting", 3))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	other, err := w.stream(rig.StreamName).CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "other", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := other.Fetch(10)
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	before := w.snapshot()

	for name, c := range map[string]struct {
		old, new string // in the configuration
		want     []string
	}{
		"unknown key":       {"      - name: all", "      - nam: all", []string{"sources[0].routes[0]", "nam", "name"}},
		"bad value":         {"flush: {size: 16KiB,", "flush: {size: plenty,", []string{"flush.size", "plenty"}},
		"missing stream":    {"stream: " + rig.StreamName, "stream: NOWHERE", []string{"sources[0].stream NOWHERE", "nats stream add NOWHERE"}},
		"NATS unreachable":  {w.natsProxy.Addr, nobody.Addr().String(), []string{"nats.url", "start the server, or correct nats.url"}},
		"NATS too old":      {w.natsProxy.Addr, oldServer(t), []string{"nats.url", "2.9.25", "2.10 or newer", "upgrade"}},
		"store unreachable": {w.storeProxy.Addr, nobody.Addr().String(), []string{"oss.endpoint", "correct oss.endpoint"}},
		"wrong secret":      {rig.SecretKey, "another", []string{"SignatureDoesNotMatch", "correct oss.access_key_id and oss.access_key_secret"}},
		"wrong bucket":      {"bucket: " + rig.BucketName, "bucket: nobodys", []string{"oss.bucket nobodys", "create the bucket"}},
		"address in use":    {a.HTTP, taken.Addr().String(), []string{"http.listen", "choose a free address"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := string(rig.Must(os.ReadFile(a.Config)))
			if !strings.Contains(text, c.old) {
				t.Fatalf("no %q in the configuration", c.old)
			}
			config := filepath.Join(t.TempDir(), "ossuary.yaml")
			if err := os.WriteFile(config, []byte(strings.ReplaceAll(text, c.old, c.new)), 0o600); err != nil {
				t.Fatal(err)
			}
			code, _, errs := w.run("run", "--config", config)
			if code != 2 {
				t.Errorf("exit code %d", code)
			}
			var said []string
			for l := range strings.Lines(errs) {
				if !strings.HasPrefix(l, "{") { // no log
					said = append(said, l)
				}
			}
			message := strings.Join(said, "")
			if !strings.HasPrefix(message, "consumer: ") || strings.Count(message, "consumer: ") != 1 {
				t.Errorf("not one message:\n%s", errs)
			}
			for _, s := range c.want {
				if !strings.Contains(message, s) {
					t.Errorf("%q is not in the message:\n%s", s, message)
				}
			}
			if strings.Contains(errs, rig.SecretKey) {
				t.Errorf("the secret is told:\n%s", errs)
			}
			if after := w.snapshot(); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
	// It was nothing but the configuration.
	a.Start()
	a.WaitFloor(400)
	a.Stop()
	a.clean(400)
}
