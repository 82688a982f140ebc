package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossuary/internal/ossemu"
)

func TestEmulatorUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--key", "id"}, {"--cname", "oss.test"}, {"--variant", "anything"}, {"--max-object", "much"}, {"--access-key", ""},
		{"--memory", "--listen", "127.0.0.1:0", "--fault", `{"action":"nothing"}`},
		{"--memory", "--request-log", "/does/not/exist/x"},
	} {
		_, stderr := wantCode(t, exitUnable, append([]string{"emulator"}, args...)...)
		if !strings.Contains(stderr, args[len(args)-2]) {
			t.Errorf("%v: %s", args, stderr)
		}
	}
}

// What the command line says reaches the server: keys, a fault to begin with,
// the admin endpoint, the request log.
func TestEmulator(t *testing.T) {
	addr, logFile := nobody(t), filepath.Join(t.TempDir(), "requests.jsonl")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() {
		ended <- run(ctx, []string{
			"emulator", "--memory", "--listen", addr, "--bucket", "test", "--admin", "--request-log", logFile, "--cname", "data.test=test",
			"--fault", `{"op":"append","nth":1,"action":"throttle","delay":"250ms"}`,
		}, &out, &errs)
	}()
	call := func(method, target, host string) (resp *http.Response, err error) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if resp, err = http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	eventually(t, "the emulator answers", func() bool { _, err := call("GET", "/_ossemu/faults", ""); return err == nil })
	if resp, err := call("POST", "/k?append&position=0", "data.test"); err != nil || resp.StatusCode != 503 || resp.Header.Get("X-Oss-Qos-Delay-Time") != "250" {
		t.Errorf("throttled: %v, %v", resp, err)
	}
	if resp, err := call("POST", "/k?append&position=0", "data.test"); err != nil || resp.StatusCode != 403 {
		t.Errorf("without a signature: %v, %v", resp, err)
	}
	cancel()
	if code := <-ended; code != exitGood {
		t.Errorf("ended with %d: %s", code, errs.String())
	}
	p, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(p)), "\n")
	var entries []ossemu.Entry
	for _, line := range lines {
		var e ossemu.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		entries = append(entries, e)
	}
	if len(entries) != 2 || entries[0].Fault != "1" || entries[0].Status != 503 || entries[0].Code != "TotalQpsLimitExceeded" ||
		entries[1].Fault != "" || entries[1].Bucket != "test" || entries[1].Key != "k" || entries[1].Op != "append" || *entries[1].Position != 0 {
		t.Errorf("%+v", entries)
	}
}
