package ossemu_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ossuary/internal/ossemu"
)

// on starts a server without signatures and returns its bucket's URL.
func on(t *testing.T, o ossemu.Options) (*ossemu.Server, string) {
	t.Helper()
	o.Buckets = []string{"bucket"}
	s, err := ossemu.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, h.URL + "/bucket/"
}

// do sends one request and returns the answer with its body.
func do(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(p)
}

// 10,000 objects are listed page by page, each once and in order.
func TestTenThousandObjects(t *testing.T) {
	s, url := on(t, ossemu.Options{})
	const n = 10_000
	for i := range n {
		r := httptest.NewRequest("POST", fmt.Sprintf("http://h/bucket/%02d/%05d?append&position=0", i%10, i), strings.NewReader("x"))
		w := httptest.NewRecorder()
		if s.Handler().ServeHTTP(w, r); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	for _, version := range []string{"?", "?list-type=2&"} {
		var got, pages int
		last, after := "", ""
		for more := true; more; pages++ {
			var p struct {
				IsTruncated                       bool
				NextMarker, NextContinuationToken string
				Contents                          []struct{ Key string }
			}
			_, text := do(t, "GET", url+version+"max-keys=1000"+after, "")
			if err := xml.Unmarshal([]byte(text), &p); err != nil {
				t.Fatal(err)
			}
			for _, o := range p.Contents {
				if o.Key <= last {
					t.Fatalf("%s stands behind %s", o.Key, last)
				}
				last = o.Key
			}
			got += len(p.Contents)
			if after = "&marker=" + p.NextMarker; version != "?" {
				after = "&continuation-token=" + p.NextContinuationToken
			}
			more = p.IsTruncated
		}
		if got != n || pages != 10 {
			t.Errorf("%s: %d objects on %d pages", version, got, pages)
		}
	}
}

// 100 clients append to one object, each its own lines, at the positions they are
// told: the object is the winners' bytes, one behind another.
func TestHundredClientsOnOneObject(t *testing.T) {
	t.Parallel()
	_, url := on(t, ossemu.Options{Dir: t.TempDir()})
	const clients, each = 100, 3
	var wg sync.WaitGroup
	won := make([]map[int64]string, clients) // by position
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	for i := range clients {
		won[i] = map[int64]string{}
		wg.Go(func() {
			position := int64(0)
			for n := 0; n < each; {
				line := fmt.Sprintf("client %d line %d %s\n", i, n, strings.Repeat("x", i))
				resp, err := client.Post(url+"k?append&position="+strconv.FormatInt(position, 10), "", strings.NewReader(line))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				switch resp.StatusCode {
				case 200:
					won[i][position] = line
					n++
				case 409:
				default:
					t.Errorf("%s", resp.Status)
					return
				}
				if position, err = strconv.ParseInt(resp.Header.Get("X-Oss-Next-Append-Position"), 10, 64); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	_, text := do(t, "GET", url+"k", "")
	total := 0
	for _, lines := range won {
		for position, line := range lines {
			total += len(line)
			if !strings.HasPrefix(text[min(position, int64(len(text))):], line) {
				t.Errorf("%q is not at %d", line, position)
			}
		}
	}
	if total != len(text) || strings.Count(text, "\n") != clients*each {
		t.Errorf("%d bytes in the object, the winners had %d", len(text), total)
	}
}

// An object ends at 5 GB, to the byte. The file has no bytes on the disk but its
// last; reading it for the checksum takes seconds.
func TestFiveGigabytes(t *testing.T) {
	if !long() {
		t.Skip("reads 5 GB: OSSUARY_TORTURE=long")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "bucket", "k")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, ossemu.MaxObject-10); err != nil {
		t.Fatal(err)
	}
	_, url := on(t, ossemu.Options{Dir: dir})
	at := func(n int64) string { return url + "k?append&position=" + strconv.FormatInt(n, 10) }
	for _, step := range []struct {
		at     int64
		body   string
		status int
		code   string
	}{
		{ossemu.MaxObject - 10, "0123456789x", 400, "EntityTooLarge"},
		{ossemu.MaxObject - 10, "0123456789", 200, ""},
		{ossemu.MaxObject, "x", 400, "EntityTooLarge"},
		{ossemu.MaxObject, "", 200, ""},
		{0, "x", 409, "PositionNotEqualToLength"},
	} {
		resp, text := do(t, "POST", at(step.at), step.body)
		if resp.StatusCode != step.status || !strings.Contains(text, step.code) {
			t.Errorf("%+v: %s %s", step, resp.Status, text)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Size() != ossemu.MaxObject {
		t.Errorf("%v, %v", info, err)
	}
}
