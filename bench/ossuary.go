//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/rig"
)

// What all processes agree on.
const (
	accessKey  = "bench-key"
	secretKey  = "bench-secret"
	bucketName = "bench"
	region     = "cn-hangzhou"
)

// archive is one archive and the configuration it is written with.
type archive struct {
	Name   string
	Load   load
	Store  string // address
	Codec  string
	Linger time.Duration
	More   string // further top-level YAML

	Profile string // beginning of the names of profiles to take; "": none
}

// Prefix is what stands before the names of its objects.
func (a archive) Prefix() string { return a.Name + "/" }

// configuration is what a user would write: defaults, but for what a row of the
// table is about.
func (a archive) configuration(natsURL, http string) string {
	if a.Profile != "" {
		http += ", pprof: true"
	}
	return fmt.Sprintf(`archive: {name: %s}
nats: {url: %q}
oss:
  endpoint: http://%s
  region: %s
  bucket: %s
  prefix: %s
  access_key_id: %s
  access_key_secret: %s
sources:
  - stream: %s
    routes:
      - name: events
        subjects: ["%s.*"]
        series: "events/{{wildcard(1)}}"
        codec: %s
        flush: {linger: %s}
http: {listen: %s}
log: {level: info, format: json}
%s`, a.Name, natsURL, a.Store, region, bucketName, a.Prefix(), accessKey, secretKey,
		a.Load.stream(), a.Load.stream(), a.Codec, a.Linger, http, a.More)
}

// service is `consumer run` for an archive.
type service struct {
	*rig.Process
	t    *trial
	http string
}

// laneStatus is the part of a lane's /status that is of use here.
type laneStatus struct {
	State     string `json:"state"`
	Delivered int    `json:"delivered"`
	Archived  int    `json:"archived"`
	Series    int    `json:"open_series"`
}

// start starts the service of an archive.
func (b *bench) start(t *trial, a archive) *service {
	dir := t.dir()
	s := &service{t: t, http: fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))}
	file := filepath.Join(dir, "ossuary.yaml")
	if err := os.WriteFile(file, []byte(a.configuration(b.nats.url, s.http)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Process = rig.NewProcess(t, "ossuary", filepath.Join(dir, "ossuary.log"), func() *exec.Cmd { return exec.Command(b.consumer, "run", "--config", file) })
	s.Start()
	return s
}

var httpClient = &http.Client{Timeout: 10 * time.Second}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}

// poll asks for the status until ok says so, and fails where the service ends. Each
// time costs the service some 100 µs and 200 allocations.
func (s *service) poll(every time.Duration, what string, ok func(laneStatus) bool) {
	note := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(every) {
		if s.t.Context().Err() != nil {
			s.t.Fatalf("given up while waiting for: %s", what)
		}
		if !s.Alive() {
			s.t.Fatalf("the service ended: %s\n%s", s.Ended(), s.LogTail(20))
		}
		body, err := get(s.t.Context(), "http://"+s.http+"/status?series=0")
		var st struct{ Lanes []laneStatus }
		if err == nil {
			err = json.Unmarshal(body, &st)
		}
		if err != nil || len(st.Lanes) != 1 {
			note = fmt.Sprintf("%v %s", err, body)
			continue
		}
		if ok(st.Lanes[0]) {
			return
		}
		note = fmt.Sprintf("%+v", st.Lanes[0])
	}
	s.t.Fatalf("after %s still not: %s; %s", patience, what, note)
}

// patience is how long one step of a row may take.
const patience = 4 * time.Minute

// metric is the value of one of the process's metrics, summed over its labels.
func (s *service) metric(name string) float64 {
	body, err := get(s.t.Context(), "http://"+s.http+"/metrics")
	if err != nil {
		s.t.Fatalf("reading the metrics: %v", err)
	}
	sum := 0.0
	for l := range strings.Lines(string(body)) {
		rest, ok := strings.CutPrefix(l, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			s.t.Fatalf("metric %s: %v", name, err)
		}
		sum += v
	}
	return sum
}

// ledger is the number of writes that an archive's ledger has taken, of tails and
// lanes, and the floor that it holds.
func (b *bench) ledger(t *trial, a archive) (writes, floor uint64) {
	s, err := b.js.Stream(t.Context(), "KV_OSSUARY_"+a.Name)
	if err != nil {
		t.Fatalf("looking at the ledger: %v", err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), "$KV.OSSUARY_"+a.Name+"."+a.laneKey())
	if err != nil {
		t.Fatalf("reading the lane in the ledger: %v", err)
	}
	var lane struct{ Floor uint64 }
	if err := json.Unmarshal(m.Data, &lane); err != nil {
		t.Fatalf("reading the lane in the ledger: %v", err)
	}
	return s.CachedInfo().State.LastSeq, lane.Floor
}

// laneKey is where the ledger keeps the floor of the one lane.
func (a archive) laneKey() string { return "lane." + a.Load.stream() + ".0" }

// dropLedger makes room: each archive is written for one row only.
func (b *bench) dropLedger(t *trial, a archive) {
	if err := b.js.DeleteKeyValue(t.Context(), "OSSUARY_"+a.Name); err != nil && !isGone(err) {
		t.Fatalf("deleting the ledger: %v", err)
	}
}

func isGone(err error) bool {
	return errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
}

// archiveAll runs the service from the stream's beginning to its end, and says
// what that took. The clock starts with the first delivery. When the last event
// was delivered the service is asked to stop: it writes what waits for its linger,
// stores the floor and ends, and with it the clock.
func (b *bench) archiveAll(t *trial, a archive, store *rig.Process) figures {
	return b.archiveFrom(t, a, store, 0)
}

// archiveBeginning has all series written to once, and returns the floor at which
// that ended. The stream's first events have all series; max_ack_pending keeps
// many more from being delivered.
func (b *bench) archiveBeginning(t *trial, a archive) uint64 {
	a.More = fmt.Sprintf("limits: {max_ack_pending: %d}\n", a.Load.Series)
	s := b.start(t, a)
	s.poll(2*time.Millisecond, "all series are known", func(l laneStatus) bool { return l.Delivered >= a.Load.Series })
	s.Stop()
	_, floor := b.ledger(t, a)
	if int(floor) < a.Load.Series || int(floor) >= a.Load.Events {
		t.Fatalf("the service stopped at floor %d of %d\n%s", floor, a.Load.Events, s.LogTail(10))
	}
	return floor
}

// archiveFrom is archiveAll for an archive that has a floor already.
func (b *bench) archiveFrom(t *trial, a archive, store *rig.Process, from uint64) figures {
	f := figures{Events: a.Load.Events - int(from)}
	wrote := uint64(0)
	if from > 0 {
		wrote, _ = b.ledger(t, a)
	}
	s := b.start(t, a)
	peak := s.watchMemory()
	first := s.firstDelivery()
	before := b.usage(t, s, store)
	mallocs := s.metric("go_memstats_mallocs_total")
	profiled := s.profiling(t, a)
	s.poll(50*time.Millisecond, "most events are delivered", func(l laneStatus) bool { return l.Delivered >= f.Events*9/10 })
	s.poll(5*time.Millisecond, "all events are delivered", func(l laneStatus) bool { return l.Delivered >= f.Events })
	f.Mallocs = (s.metric("go_memstats_mallocs_total") - mallocs) / float64(f.Events)
	profiled()
	s.Stop()
	f.Seconds = time.Since(first).Seconds()
	f.Peak = peak()
	f.spent(before, b.usage(t, s, store))
	writes, floor := b.ledger(t, a)
	if floor != uint64(a.Load.Events) {
		t.Fatalf("the service stopped at floor %d of %d\n%s", floor, a.Load.Events, s.LogTail(10))
	}
	f.LedgerWrites = float64(writes-wrote) / float64(f.Events) * 1e6
	return f
}

// firstDelivery waits for it, and returns the last moment at which there was none.
func (s *service) firstDelivery() time.Time {
	last := time.Now()
	var first time.Time
	s.poll(2*time.Millisecond, "the first event is delivered", func(l laneStatus) bool {
		first, last = last, time.Now()
		return l.Delivered > 0
	})
	return first
}

// watchMemory notes the peak of the process's resident memory until it ends. The
// returned function waits for that.
func (s *service) watchMemory() (peak func() uint64) {
	most, done := uint64(0), make(chan struct{})
	go func() {
		defer close(done)
		for s.Alive() {
			if _, p, err := memory(s.PID()); err == nil {
				most = max(most, p)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return func() uint64 { <-done; return most }
}
