package ossemu_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ossuary/internal/ossemu"
)

// What a client sees of each fault, and what has become of its append.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule    ossemu.Rule
		status  int // 0: no answer
		reset   bool
		applied bool
	}{
		"error before":     {rule: ossemu.Rule{Action: "error", Status: 503, Code: "ServiceUnavailable"}, status: 503},
		"error after":      {rule: ossemu.Rule{Action: "error", When: "after"}, status: 500, applied: true},
		"cut before":       {rule: ossemu.Rule{Action: "cut"}, reset: true},
		"cut after":        {rule: ossemu.Rule{Action: "cut", When: "after"}, reset: true, applied: true},
		"reset":            {rule: ossemu.Rule{Action: "reset"}, reset: true},
		"reset, later":     {rule: ossemu.Rule{Action: "reset", CutAfter: 64 << 10}, reset: true},
		"close before":     {rule: ossemu.Rule{Action: "close"}},
		"close after":      {rule: ossemu.Rule{Action: "close", When: "after"}, applied: true},
		"throttle before":  {rule: ossemu.Rule{Action: "throttle", Delay: ossemu.Duration(time.Hour)}, status: 503},
		"throttle after":   {rule: ossemu.Rule{Action: "throttle", When: "after", Status: 429, Delay: ossemu.Duration(time.Hour)}, status: 429, applied: true},
		"delay before":     {rule: ossemu.Rule{Action: "delay", Delay: ossemu.Duration(time.Millisecond)}, status: 200, applied: true},
		"delay after":      {rule: ossemu.Rule{Action: "delay", When: "after", Delay: ossemu.Duration(time.Millisecond)}, status: 200, applied: true},
		"headers before":   {rule: ossemu.Rule{Action: "headers", Status: 204}, status: 204},
		"headers after":    {rule: ossemu.Rule{Action: "headers", When: "after", Headers: map[string]string{"X-Oss-Hash-Crc64ecma": ""}}, status: 200, applied: true},
		"late, not so yet": {rule: ossemu.Rule{Action: "late", Delay: ossemu.Duration(time.Hour)}, reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, url := on(t, ossemu.Options{})
			tc.rule.Op, tc.rule.Nth = "append", 1
			if _, err := s.AddFault(tc.rule); err != nil {
				t.Fatal(err)
			}
			body := "abc"
			if tc.rule.CutAfter > 0 {
				body = strings.Repeat("x", 256<<10) // still being sent when the end comes
			}
			resp, err := http.DefaultClient.Post(url+"k?append&position=0", "", strings.NewReader(body))
			status := 0
			if err == nil {
				resp.Body.Close()
				status = resp.StatusCode
			}
			reset := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
			if status != tc.status || reset != tc.reset && tc.rule.CutAfter == 0 || status == 0 && err == nil {
				t.Errorf("status %d, %v", status, err)
			}
			if tc.rule.Action == "throttle" && resp.Header.Get("X-Oss-Qos-Delay-Time") != "3600000" {
				t.Errorf("%v", resp.Header)
			}
			if resp, _ := do(t, "HEAD", url+"k", ""); (resp.StatusCode == 200) != tc.applied {
				t.Errorf("afterwards: %s", resp.Status)
			}
		})
	}
}

// syncBuffer is a file that a test can read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Each request is one line, whatever came of it.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	w := &syncBuffer{}
	s, url := on(t, ossemu.Options{RequestLog: w})
	if _, err := s.AddFault(ossemu.Rule{ID: "cutter", Op: "delete", Action: "cut"}); err != nil {
		t.Fatal(err)
	}
	do(t, "POST", url+"k?append&position=0", "abc")
	do(t, "POST", url+"k?append&position=0", "abc")
	do(t, "GET", url+"k", "")
	do(t, "GET", url+"none", "")
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", url+"k", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("the fault did not cut")
	}
	do(t, "GET", url+"?list-type=2", "")
	// The lines come with the end of the handler, which may be behind the answer.
	for deadline := time.Now().Add(10 * time.Second); strings.Count(w.String(), "\n") < 6 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	var got []ossemu.Entry
	in := bufio.NewScanner(strings.NewReader(w.String()))
	for in.Scan() {
		var e ossemu.Entry
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, in.Text())
		}
		got = append(got, e)
	}
	if len(got) != 6 {
		t.Fatalf("%d lines: %s", len(got), w)
	}
	// A handler may end, and write its line, behind that of a later request.
	slices.SortFunc(got, func(a, b ossemu.Entry) int { return a.Time.Compare(b.Time) })
	for i, want := range []struct {
		op     string
		status int
		code   string
		out    int64
	}{{"append", 200, "", 0}, {"append", 409, "PositionNotEqualToLength", -1}, {"get", 200, "", 3}, {"get", 404, "NoSuchKey", -1}, {"delete", 0, "", 0}, {"list", 200, "", -1}} {
		e := got[i]
		if e.Op != want.op || e.Status != want.status || e.Code != want.code || want.out >= 0 && e.Out != want.out || e.ID == "" || e.Bucket != "bucket" {
			t.Errorf("line %d: %+v", i, e)
		}
	}
	if e := got[1]; e.In != 3 || e.Position == nil || *e.Position != 0 || e.Next != "3" {
		t.Errorf("%+v", e)
	}
	if e := got[4]; e.Fault != "cutter" {
		t.Errorf("%+v", e)
	}
}

// A log that cannot be written fails no request.
func TestRequestLogOfNoUse(t *testing.T) {
	_, url := on(t, ossemu.Options{RequestLog: noWriter{}})
	if resp, _ := do(t, "POST", url+"k?append&position=0", "abc"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

type noWriter struct{}

func (noWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// A rule for an operation that there is not would never hit, and nobody would notice.
func TestFaultsOfUnknownOperations(t *testing.T) {
	s, err := ossemu.New(ossemu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for op, ok := range map[string]bool{"": true, "append": true, "list_buckets": true, "get_worm": true, "apend": false, "Append": false} {
		if _, err := s.AddFault(ossemu.Rule{Op: op, Action: "cut"}); (err == nil) != ok {
			t.Errorf("op %q: %v", op, err)
		}
	}
}
