package telemetry

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

type fixed struct{ reasons, warnings []Reason }

func (f fixed) NotReady() []Reason { return f.reasons }
func (f fixed) Warnings() []Reason { return f.warnings }
func (f fixed) Status(n int) any   { return map[string]int{"lanes": 2, "series": n} }

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestReadinessNamesItsReasons(t *testing.T) {
	held := []Reason{{What: "series", Name: "orders/eu", Reason: "AccessDenied"}}
	broken := []Reason{{What: "segment", Name: "orders/eu.000001.ndjson.gz", Reason: "the object is gone"}}
	for _, tt := range []struct {
		name              string
		reasons, warnings []Reason
		code              int
		status            string
	}{
		{"ready", nil, nil, 200, "ready"},
		{"a held series", held, nil, 503, "not ready"},
		{"a segment was left", nil, broken, 200, "ready"},
		{"both", held, broken, 503, "not ready"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(Handler(fixed{tt.reasons, tt.warnings}, prometheus.NewRegistry(), false, zerolog.Nop()))
			defer srv.Close()
			code, body := get(t, srv.URL+"/readyz")
			var got readiness
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			if code != tt.code || got.Status != tt.status || !slices.Equal(got.Reasons, tt.reasons) || !slices.Equal(got.Warnings, tt.warnings) {
				t.Errorf("got %d %+v, want %d %q %+v %+v", code, got, tt.code, tt.status, tt.reasons, tt.warnings)
			}
			if code, _ := get(t, srv.URL+"/livez"); code != 200 {
				t.Errorf("alive must not depend on ready: %d", code)
			}
			if code, body := get(t, srv.URL+"/status"); code != 200 || !strings.Contains(body, `"lanes": 2`) {
				t.Errorf("status: %d %s", code, body)
			}
		})
	}
}

// Who asks often asks for no series. What is no number of series is answered with
// what would be one.
func TestStatusHasAsManySeriesAsAreWanted(t *testing.T) {
	srv := httptest.NewServer(Handler(fixed{}, prometheus.NewRegistry(), false, zerolog.Nop()))
	defer srv.Close()
	for query, want := range map[string]int{"": MostSeries, "?": MostSeries, "?other=1": MostSeries, "?series=0": 0, "?series=7": 7, "?series=100": 100} {
		var got struct{ Series int }
		code, body := get(t, srv.URL+"/status"+query)
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || got.Series != want {
			t.Errorf("%q: %d %s %v, want %d series", query, code, body, err, want)
		}
	}
	for _, query := range []string{"series=", "series=-1", "series=101", "series=none", "series=1&series=2", "series=9999999999999999999", "series=%zz", "series=1;2"} {
		if code, body := get(t, srv.URL+"/status?"+query); code != 400 || !strings.Contains(body, "series=0") && !strings.Contains(body, "from 0 (none) to 100") {
			t.Errorf("%q: %d %s", query, code, body)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, Handler(fixed{}, prometheus.NewRegistry(), false, zerolog.Nop()))
	}()
	if code, _ := get(t, "http://"+l.Addr().String()+"/livez"); code != 200 {
		t.Fatalf("livez: %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the address still answers")
	}
}
