package ossemu_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ossuary/ossemu"
)

func post(t *testing.T, url, body string) *http.Response {
	t.Helper()
	resp, err := http.Post(url, "", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestStart(t *testing.T) {
	srv := ossemu.Start(t, ossemu.Options{})
	if srv.AccessKeyID != ossemu.AccessKeyID || srv.AccessKeySecret != ossemu.AccessKeySecret || srv.Bucket != ossemu.Bucket || srv.Region != ossemu.Region {
		t.Errorf("%+v", srv)
	}
	resp := post(t, srv.Endpoint+"/"+srv.Bucket+"/k?append&position=0", "x")
	if p, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 403 || !strings.Contains(string(p), "AccessDenied") {
		t.Errorf("without a signature: %s %s, %v", resp.Status, p, err)
	}
}

// A program, not a test: it closes the server itself, and finds its objects again.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	o := ossemu.Options{Dir: dir, Credentials: map[string]string{}, Buckets: []string{"logs"}} // no keys: no signatures
	for position := range 2 {
		srv, err := ossemu.Run(o)
		if err != nil {
			t.Fatal(err)
		}
		if position == 0 {
			if _, err := ossemu.Run(o); err == nil {
				t.Error("two servers use one directory")
			}
		}
		id, err := srv.AddFault(ossemu.Rule{Op: "append", Nth: 1, Action: "throttle"})
		if err != nil {
			t.Fatal(err)
		}
		url := srv.Endpoint + "/" + srv.Bucket + "/k?append&position=" + string(rune('0'+position))
		if resp := post(t, url, "x"); resp.StatusCode != 503 {
			t.Errorf("throttled: %s", resp.Status)
		}
		srv.ClearFaults(id)
		if resp := post(t, url, "x"); resp.StatusCode != 200 {
			t.Errorf("append: %s", resp.Status)
		}
		for range 2 {
			if err := srv.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if p, err := os.ReadFile(filepath.Join(dir, "logs", "k")); err != nil || string(p) != "xx" {
		t.Errorf("%q, %v", p, err)
	}
}
