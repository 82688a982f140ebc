package service

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"ossuary/internal/ossemu"
)

// The settings of the connection arrive at the connection: TLS with an authority
// of one's own, a proxy, and what goes with every append.
func TestConnectionSettings(t *testing.T) {
	t.Parallel()
	var last atomic.Pointer[http.Header]
	note := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				header := r.Header.Clone()
				last.Store(&header)
			}
			h.ServeHTTP(w, r)
		})
	}
	cfg, emu := remote(t, ossemu.Options{Domain: "oss.test"}, note)
	cfg.OSS.ContentMD5, cfg.OSS.TrafficLimit = true, 819_200
	plain := cfg.OSS.Endpoint

	t.Run("TLS", func(t *testing.T) {
		srv := httptest.NewTLSServer(note(emu.Handler()))
		defer srv.Close()
		cfg.OSS.Endpoint = srv.URL
		if got := Check(t.Context(), cfg, zerolog.Nop()); Worst(got) != CheckProblem {
			t.Error("a server that nobody vouches for is trusted")
		} else {
			wantFound(t, got, found{"oss", CheckProblem, "certificate", "not trusted here"})
		}
		cfg.OSS.TLS.CA = filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(cfg.OSS.TLS.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		wantFound(t, Check(t.Context(), cfg, zerolog.Nop()), found{ofRoute, CheckOK, "", ""})
		if h := *last.Load(); h.Get("Content-Md5") == "" || h.Get("X-Oss-Traffic-Limit") != "819200" || !strings.HasPrefix(h.Get("User-Agent"), "ossuary/") {
			t.Errorf("an append carries %v", h)
		}
	})
	t.Run("proxy", func(t *testing.T) {
		to, err := url.Parse(plain)
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int32
		srv := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			asked.Add(1)
			host := r.In.Host
			r.SetURL(to)
			r.Out.Host = host
		}})
		defer srv.Close()
		cfg.OSS.Endpoint, cfg.OSS.Proxy, cfg.OSS.TLS.CA = "http://oss.test", srv.URL, ""
		wantFound(t, Check(t.Context(), cfg, zerolog.Nop()), found{ofRoute, CheckOK, "", ""})
		if asked.Load() == 0 {
			t.Error("the proxy was not asked")
		}
	})
}
