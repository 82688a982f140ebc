package service

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ossuary/internal/config"
)

// Keys of the instance's role are fetched once, renewed before they end, and
// used on while the server that gives them fails.
func TestInstanceRole(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	expires, broken, fetched := now.Add(time.Hour), false, 0
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "token") })
	mux.HandleFunc("GET "+rolePath, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-aliyun-ecs-metadata-token") != "token" || broken {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/") {
			fmt.Fprint(w, "archivist\n")
			return
		}
		fetched++
		fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"id-%d","AccessKeySecret":"s","SecurityToken":"t","Expiration":%q}`, fetched, expires.Format(time.RFC3339))
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	r := &instanceRole{base: srv.URL}
	want := func(at time.Time, id string) {
		t.Helper()
		c, err := r.get(at)
		if id == "" {
			if err == nil {
				t.Fatalf("at %s: got %s", at, c.AccessKeyID)
			}
			return
		}
		if err != nil || c.AccessKeyID != id || c.SecurityToken != "t" {
			t.Fatalf("at %s: got %+v, %v; want %s", at, c, err, id)
		}
	}
	want(now, "id-1")
	want(now.Add(49*time.Minute), "id-1")
	broken = true
	want(now.Add(51*time.Minute), "id-1")
	want(now.Add(59*time.Minute), "id-1")
	want(now.Add(61*time.Minute), "")
	broken, expires = false, now.Add(3*time.Hour)
	want(now.Add(61*time.Minute+time.Second), "") // nobody asks again so soon
	want(now.Add(62*time.Minute), "id-2")
}

func TestWhereKeysComeFrom(t *testing.T) {
	t.Setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
	t.Setenv("OSS_ACCESS_KEY_ID", "env-id")
	t.Setenv("OSS_ACCESS_KEY_SECRET", "env-secret")
	t.Setenv("OSS_SESSION_TOKEN", "env-token")
	c, err := credentialsOf(config.OSS{AccessKeyID: "id", AccessKeySecret: "secret"})()
	if err != nil || c.AccessKeyID != "id" || c.SecurityToken != "" {
		t.Errorf("configured: %+v, %v", c, err)
	}
	c, err = credentialsOf(config.OSS{})()
	if err != nil || c.AccessKeyID != "env-id" || c.SecurityToken != "env-token" {
		t.Errorf("environment: %+v, %v", c, err)
	}
	t.Setenv("OSS_ACCESS_KEY_ID", "")
	if _, err = credentialsOf(config.OSS{})(); err == nil || !strings.Contains(err.Error(), "half an access key") {
		t.Errorf("half: %v", err)
	}
	t.Setenv("OSS_ACCESS_KEY_SECRET", "")
	if _, err = credentialsOf(config.OSS{})(); err == nil || !strings.Contains(err.Error(), "oss.access_key_id") {
		t.Errorf("none: %v", err)
	}
}
