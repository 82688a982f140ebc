package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthOfAStore(t *testing.T) {
	status := http.StatusForbidden
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	wantCode(t, exitGood, "health", "--emulator", srv.URL)
	status = http.StatusServiceUnavailable
	wantCode(t, exitFound, "health", "--emulator", srv.URL)
	srv.Close()
	if _, stderr := wantCode(t, exitUnable, "health", "--emulator", srv.URL); !strings.Contains(stderr, "consumer emulator") {
		t.Errorf("no word on what to do: %s", stderr)
	}
}
