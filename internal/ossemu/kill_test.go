package ossemu_test

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ossuary/internal/ossemu"
)

const childEnv = "OSSEMU_TEST_DIR"

// TestMain turns the test binary into a server when it is started as one.
func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := ossemu.New(ossemu.Options{Dir: dir, Buckets: []string{"bucket"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	go s.Serve(l)
	io.Copy(io.Discard, os.Stdin) // ends with the parent
	os.Exit(0)
}

func startChild(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("the server did not start: ", err)
	}
	return cmd, "http://" + strings.TrimSpace(addr)
}

// long says whether tests may take minutes, as those of e2e.
func long() bool { return os.Getenv("OSSUARY_TORTURE") == "long" }

// A server that is killed under load has, when it is back, every append that it
// confirmed, and of the others all or nothing.
func TestKill(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	const writers = 8
	type written struct {
		confirmed []byte
		open      []byte // sent, and not answered
	}
	objects := make([]written, writers)
	rounds := 3
	if long() {
		rounds = 50
	}
	for round := range rounds {
		cmd, url := startChild(t, dir)
		var wg sync.WaitGroup
		for i := range objects {
			o := &objects[i]
			target := fmt.Sprintf("%s/bucket/dir/%d", url, i)
			r := rand.New(rand.NewPCG(random.Uint64(), 0))
			if round > 0 {
				got := get(t, target)
				for open := 0; ; open++ {
					want := append(bytes.Clone(o.confirmed), o.open[:open*len(o.open)]...)
					if bytes.Equal(got, want) {
						o.confirmed = want
						break
					}
					if open == 1 {
						t.Fatalf("round %d, object %d: has %d bytes, confirmed were %d, in the open %d", round, i, len(got), len(o.confirmed), len(o.open))
					}
				}
				o.open = nil
			}
			wg.Go(func() {
				for {
					body := make([]byte, 1+r.IntN(200_000))
					for i := range body {
						body[i] = byte(r.Uint32())
					}
					o.open = body
					resp, err := http.Post(fmt.Sprintf("%s?append&position=%d", target, len(o.confirmed)), "", bytes.NewReader(body))
					if err != nil {
						return
					}
					resp.Body.Close()
					if resp.StatusCode != 200 {
						t.Errorf("append: %s", resp.Status)
						return
					}
					o.confirmed = append(o.confirmed, body...)
					if crc := resp.Header.Get("X-Oss-Hash-Crc64ecma"); crc != strconv.FormatUint(crc64.Checksum(o.confirmed, crc64.MakeTable(crc64.ECMA)), 10) {
						t.Errorf("checksum %s", crc)
					}
					o.open = nil
				}
			})
		}
		time.Sleep(time.Duration(100+random.IntN(400)) * time.Millisecond) // load, for a time that differs
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		cmd.Wait()
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			return
		}
	}
	s, err := ossemu.New(ossemu.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	total := 0
	for i := range objects {
		p, err := os.ReadFile(filepath.Join(dir, "bucket", "dir", strconv.Itoa(i)))
		if err != nil && len(objects[i].confirmed) > 0 {
			t.Fatal(err)
		}
		total += len(p)
		o := objects[i]
		if !bytes.Equal(p, o.confirmed) && !bytes.Equal(p, append(bytes.Clone(o.confirmed), o.open...)) {
			t.Errorf("file %d has %d bytes, confirmed were %d, in the open %d", i, len(p), len(o.confirmed), len(o.open))
		}
	}
	if total == 0 {
		t.Error("nothing was written")
	}
	t.Logf("%d kills, %d bytes", rounds, total)
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == 404 {
		return nil
	}
	return p
}
