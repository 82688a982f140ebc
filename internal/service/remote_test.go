package service

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/archive"
	"ossuary/internal/config"
	"ossuary/internal/embedded/embeddedtest"
	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

// remote is the configuration of an archive of EVENTS whose servers are not in
// its process. front, if not nil, stands before the emulator.
func remote(t *testing.T, o ossemu.Options, front func(http.Handler) http.Handler) (*config.Config, *ossemutest.Server) {
	t.Helper()
	o.Region = ossemutest.Region
	emu := ossemutest.Start(t, o)
	h := emu.Handler()
	if front != nil {
		h = front(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := config.Default()
	cfg.Embedded.Enabled, cfg.HTTP.Listen = false, ""
	cfg.NATS.URLs = []string{embeddedtest.Start(t).ClientURL()}
	cfg.OSS.Endpoint, cfg.OSS.Region, cfg.OSS.Bucket = srv.URL, ossemutest.Region, ossemutest.Bucket
	cfg.OSS.AccessKeyID, cfg.OSS.AccessKeySecret = ossemutest.AccessKeyID, ossemutest.AccessKeySecret
	cfg.Sources[0].Routes[0].Flush.Linger = time.Millisecond
	return cfg, emu
}

// start opens and runs the service.
func start(t *testing.T, cfg *config.Config) (s *Service, stop func()) {
	t.Helper()
	s, err := Open(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	end := run(t, s)
	return s, func() {
		t.Helper()
		if _, err := end(); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

// wantWhole verifies that the archive holds all of n events, once.
func wantWhole(t *testing.T, cfg *config.Config, n int) {
	t.Helper()
	a, err := OpenArchive(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	r, err := a.Verify(t.Context(), time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Result != archive.OK || r.Events != uint64(n) || r.Duplicates+r.Missing+r.DeadLetters > 0 {
		t.Errorf("%+v", r)
	}
}
