//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// profileTime is how long the CPU is watched.
const profileTime = 3 * time.Second

// profiling begins to take a service's profiles, if the archive wants them. The
// returned function waits for the CPU's, which may outlast the work, and takes the
// heap's.
func (s *service) profiling(t *trial, a archive) (finish func()) {
	if a.Profile == "" {
		return func() {}
	}
	done := make(chan error, 1)
	go func() {
		done <- s.save(t.Context(), fmt.Sprintf("profile?seconds=%d", int(profileTime.Seconds())), a.Profile+".cpu.prof")
	}()
	return func() {
		err := <-done
		if err == nil {
			err = s.save(t.Context(), "heap", a.Profile+".heap.prof")
		}
		if err != nil {
			t.Fatalf("taking a profile: %v", err)
		}
	}
}

// save writes what /debug/pprof/ answers into a file.
func (s *service) save(ctx context.Context, what, file string) error {
	ctx, cancel := context.WithTimeout(ctx, profileTime+30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+"/debug/pprof/"+what, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", what, resp.Status, body)
	}
	return os.WriteFile(file, body, 0o644)
}
