//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/rig"
)

// What a process of this binary is told that it shall be.
const (
	sinkEnv   = "OSSUARY_BENCH_SINK"   // the address to listen on
	clientEnv = "OSSUARY_BENCH_CLIENT" // a clientWork
)

// bench is the set-up that all rounds share: one NATS server and one sink, both
// processes, and the streams that were filled so far.
type bench struct {
	options
	tmp      string
	consumer string // the product's binary
	nats     *server
	sink     *sinkServer
	nc       *nats.Conn
	js       jetstream.JetStream
	filled   map[string]bool
	kept     map[string]archive // of scenarios that go on with one over the rounds
	archives int                // made so far
	results  *results
}

// server is nats-server, as its authors build it.
type server struct {
	*rig.Process
	url string
}

// sinkServer is the sink, see sink.go.
type sinkServer struct {
	*rig.Process
	t    *trial
	addr string
}

// build compiles a command of a module into dir.
func build(ctx context.Context, dir, module, pkg string) (string, error) {
	out := filepath.Join(dir, pkg[strings.LastIndexByte(pkg, '/')+1:])
	if pkg == natsPackage {
		out = filepath.Join(dir, "nats-server")
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = module
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s in %s: %w\n%s", pkg, module, err, text)
	}
	return out, nil
}

const natsPackage = "github.com/nats-io/nats-server/v2"

// prepare builds and starts everything. The processes go with t.
func (b *bench) prepare(t *trial) {
	b.say("building nats-server and consumer")
	program, err := build(t.Context(), b.tmp, ".", natsPackage)
	if err == nil && b.consumer == "" {
		b.consumer, err = build(t.Context(), b.tmp, "..", "./cmd/consumer")
	}
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	port := rig.FreePort(t)
	b.nats = &server{url: fmt.Sprintf("nats://127.0.0.1:%d", port)}
	b.nats.Process = rig.NewProcess(t, "nats-server", filepath.Join(b.tmp, "nats.log"), func() *exec.Cmd {
		return exec.Command(program, "-a", "127.0.0.1", "-p", fmt.Sprint(port), "-js", "-sd", filepath.Join(b.tmp, "nats"))
	})
	b.nats.Start()
	b.sink = &sinkServer{t: t, addr: fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))}
	b.sink.Process = rig.NewProcess(t, "sink", filepath.Join(b.tmp, "sink.log"), func() *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), sinkEnv+"="+b.sink.addr)
		return cmd
	})
	b.sink.Start()
	rig.Eventually(t, time.Minute, "nats-server and the sink serve", func() (bool, string) {
		if !b.nats.Alive() || !b.sink.Alive() {
			t.Fatalf("it ended\n%s\n%s", b.nats.LogTail(10), b.sink.LogTail(10))
		}
		c, err := net.Dial("tcp", b.sink.addr)
		if err != nil {
			return false, err.Error()
		}
		c.Close()
		if b.nc, err = nats.Connect(b.nats.url); err != nil {
			return false, err.Error()
		}
		if b.js, err = jetstream.New(b.nc); err == nil {
			_, err = b.js.AccountInfo(t.Context())
		}
		if err != nil {
			b.nc.Close()
			return false, err.Error()
		}
		return true, ""
	})
	t.Cleanup(b.nc.Close)
}

// fill makes sure that the stream of a load is there.
func (b *bench) fill(t *trial, l load) {
	if b.filled[l.stream()] {
		return
	}
	b.say("filling a stream: %d events of %d B in %d series", l.Events, l.Payload, l.Series)
	if err := fill(t.Context(), b.nc, l); err != nil {
		t.Fatal(err)
	}
	b.filled[l.stream()] = true
}

// emulator starts the product's own store in a process that goes with the trial.
// It keeps the objects in dir, or in memory if that is empty.
func (b *bench) emulator(t *trial, dir string, more ...string) *store {
	s := &store{addr: fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))}
	args := append([]string{"emulator", "--listen", s.addr, "--bucket", bucketName, "--access-key", accessKey, "--secret-key", secretKey}, more...)
	if dir == "" {
		args = append(args, "--memory")
	} else {
		args = append(args, "--dir", dir)
	}
	s.Process = rig.NewProcess(t, "emulator", filepath.Join(t.dir(), "emulator.log"), func() *exec.Cmd { return exec.Command(b.consumer, args...) })
	s.Start()
	rig.Eventually(t, time.Minute, "the emulator serves", func() (bool, string) {
		if !s.Alive() {
			t.Fatalf("the emulator ended\n%s", s.LogTail(10))
		}
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			return false, err.Error()
		}
		c.Close()
		return true, ""
	})
	return s
}

// store is an emulator in a process of its own.
type store struct {
	*rig.Process
	addr string
}

// archive is a new one, with the default of linger, written to the sink.
func (b *bench) archive(l load, codec string) archive {
	b.archives++
	return archive{Name: fmt.Sprintf("bench%d", b.archives), Load: l, Store: b.sink.addr, Codec: codec, Linger: time.Second}
}

// client runs a client to its end.
func (b *bench) client(t *trial, l load, mode string, events int) figures {
	b.archives++
	text := rig.Must(json.Marshal(clientWork{URL: b.nats.url, Stream: l.stream(), Mode: mode, Events: min(events, l.Events), Store: b.sink.addr, Key: fmt.Sprintf("hand%d", b.archives)}))
	var out bytes.Buffer
	p := rig.NewProcess(t, "client", filepath.Join(t.dir(), "client.log"), func() *exec.Cmd {
		cmd := exec.Command(rig.Must(os.Executable()))
		cmd.Env, cmd.Stdout = append(os.Environ(), clientEnv+"="+string(text)), &out
		return cmd
	})
	before := b.usage(t, nil, b.sink.Process)
	p.Start()
	if code := p.Wait(patience); code != 0 {
		t.Fatalf("the client ended with code %d: %s", code, p.LogTail(5))
	}
	after := b.usage(t, nil, b.sink.Process)
	var d clientDone
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatalf("reading what the client says: %v", err)
	}
	after.client = d.CPU
	f := figures{Events: min(events, l.Events), Seconds: d.Seconds, Peak: d.Peak}
	f.spent(before, after)
	f.Mallocs = float64(d.Mallocs) / float64(f.Events)
	f.Appends = float64(d.Appends) / float64(f.Events) * 1e6
	return f
}

// ask speaks to the sink's own pages.
func (s *sinkServer) ask(t *trial, what string) (st sinkStats) {
	body, err := get(t.Context(), "http://"+s.addr+"/_sink/"+what)
	if err == nil {
		err = json.Unmarshal(body, &st)
	}
	if err != nil {
		t.Fatalf("asking the sink: %v", err)
	}
	return st
}

// slow makes each append take so long.
func (s *sinkServer) slow(t *trial, d time.Duration) {
	s.ask(t, "delay?d="+d.String())
}

// refuse makes the sink deny access to keys in which this stands; "" lets all in.
func (s *sinkServer) refuse(t *trial, part string) { s.ask(t, "refuse?key="+part) }

// commit is what is measured, as git knows it.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// processor is the name of the machine's processor.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(name, "\t :\n")
		}
	}
	return "unknown"
}
