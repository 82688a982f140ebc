//go:build unix

package rig

import (
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
	"sync"
	"time"
)

// Instance is `consumer run` with a configuration of its own.
type Instance struct {
	*Process
	Config string // file
	HTTP   string // address

	program string

	mu      sync.Mutex
	counted map[string]float64 // metrics of lives that have ended, as last looked at
	now     map[string]float64 // of the present life, as last looked at
	settled int                // the last life that counted has
}

// Settings are what instances differ in; what is zero is as usual.
type Settings struct {
	NATS, Store   string // addresses to connect to; NATS may be several URLs
	LeaseDisabled bool
	LeaseTTL      time.Duration // default 500 ms
	OSSTimeout    time.Duration // default 5 s
	Routes        string        // default: Routes
	More          string        // further top-level YAML
}

// NewInstance makes one, without starting it. name must be unlike others'.
func NewInstance(t T, program, dir, name string, s Settings) *Instance {
	t.Helper()
	i := &Instance{Config: filepath.Join(dir, name+".yaml"), HTTP: fmt.Sprintf("127.0.0.1:%d", FreePort(t)), program: program, counted: map[string]float64{}}
	i.Process = NewProcess(t, name, filepath.Join(dir, name+".log"), func() *exec.Cmd { return exec.Command(program, "run", "--config", i.Config) })
	i.Configure(s)
	return i
}

// Configure writes the configuration with which the instance starts from now on.
func (i *Instance) Configure(s Settings) {
	i.t.Helper()
	if s.LeaseTTL == 0 {
		s.LeaseTTL = 500 * time.Millisecond
	}
	if s.OSSTimeout == 0 {
		s.OSSTimeout = 5 * time.Second
	}
	if s.Routes == "" {
		s.Routes = Routes
	}
	text := fmt.Sprintf(`archive: {name: %s}
nats: {url: %q, name: %s}
oss:
  endpoint: http://%s
  region: cn-hangzhou
  bucket: %s
  prefix: %s
  access_key_id: %s
  access_key_secret: %s
  timeout: %s
sources:
  - stream: %s
    routes:
%slease: {ttl: %s, disabled: %t, replace: true}
ledger: {interval: 50ms}
intake: {audit: 300ms}
http: {listen: "%s"}
log: {level: debug, format: json}
%s`, ArchiveName, s.NATS, i.Name, s.Store, BucketName, KeyPrefix, AccessKey, SecretKey,
		s.OSSTimeout, StreamName, s.Routes, s.LeaseTTL, s.LeaseDisabled, i.HTTP, s.More)
	// One that starts at this moment reads the old file or the new one.
	err := os.WriteFile(i.Config+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(i.Config+".new", i.Config)
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

// Start returns when the instance answers, whatever it does then.
func (i *Instance) Start() {
	i.t.Helper()
	i.Process.Start()
	Eventually(i.t, 30*time.Second, i.Name+" answers", func() (bool, string) {
		if !i.Alive() {
			i.t.Fatalf("%s ended: %s\n%s", i.Name, i.Ended(), i.LogTail(10))
		}
		_, err := i.Status()
		return err == nil, fmt.Sprint(err)
	})
}

// Kill notes the metrics and kills.
func (i *Instance) Kill() { i.t.Helper(); i.Look(); i.Process.Kill(); i.Settle() }

// Stop notes the metrics and stops.
func (i *Instance) Stop() { i.t.Helper(); i.Look(); i.Process.Stop(); i.Settle() }

// Status is what /status says of a lane.
type Status struct {
	State       string `json:"state"`
	Reason      string `json:"reason"`
	Source      string `json:"source"`
	Incarnation int    `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
	Floor       uint64 `json:"floor"`
	Delivered   uint64 `json:"delivered"`
	Open        int    `json:"open"`
	Archived    int64  `json:"archived"`
	Appends     int64  `json:"appends"`
	LastErr     string `json:"last_error"`
}

// httpClient asks instances; a paused one must not keep anybody waiting.
var httpClient = &http.Client{Timeout: 2 * time.Second}

// Ask returns the code and the body with which the instance answers for a path.
func (i *Instance) Ask(path string) (int, []byte, error) {
	resp, err := httpClient.Get("http://" + i.HTTP + path)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// Get is Ask without the code.
func (i *Instance) Get(path string) ([]byte, error) {
	_, b, err := i.Ask(path)
	return b, err
}

// Lanes are what /status says of all lanes.
func (i *Instance) Lanes() ([]Status, error) {
	b, err := i.Get("/status")
	if err != nil {
		return nil, err
	}
	var doc struct{ Lanes []Status }
	err = json.Unmarshal(b, &doc)
	return doc.Lanes, err
}

// Status is that of the one lane.
func (i *Instance) Status() (Status, error) {
	lanes, err := i.Lanes()
	if err != nil {
		return Status{}, err
	}
	if len(lanes) != 1 {
		return Status{}, errors.New("not one lane")
	}
	return lanes[0], nil
}

// Ready is what /readyz answers, 0 if nothing does.
func (i *Instance) Ready() int {
	code, _, err := i.Ask("/readyz")
	if err != nil {
		return 0
	}
	return code
}

// WaitFor waits until the instance's status is as wanted.
func (i *Instance) WaitFor(what string, ok func(Status) bool) {
	i.t.Helper()
	Eventually(i.t, Patience, i.Name+": "+what, func() (bool, string) {
		if !i.Alive() {
			i.t.Fatalf("%s ended: %s\n%s", i.Name, i.Ended(), i.LogTail(20))
		}
		s, err := i.Status()
		return err == nil && ok(s), fmt.Sprintf("%+v %v", s, err)
	})
}

// WaitFloor waits until everything up to a sequence is archived.
func (i *Instance) WaitFloor(sequence uint64) {
	i.t.Helper()
	i.WaitFor(fmt.Sprintf("floor %d", sequence), func(s Status) bool { return s.Floor >= sequence })
}

// scrape sums each metric over its labels.
func (i *Instance) scrape() (map[string]float64, error) {
	b, err := i.Get("/metrics")
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for l := range strings.Lines(string(b)) {
		if strings.HasPrefix(l, "ossuary_") {
			name, value, ok := strings.Cut(strings.TrimSpace(l), " ")
			if end := strings.LastIndexByte(l, '}'); end >= 0 {
				name, value, ok = l[:strings.IndexByte(l, '{')], strings.TrimSpace(l[end+1:]), true
			}
			if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
				out[name] += v
			}
		}
	}
	return out, nil
}

// Look notes the metrics of the present life; what is counted between the last
// look and a kill is not known.
func (i *Instance) Look() {
	starts := i.Starts()
	m, err := i.scrape()
	if err != nil || i.Starts() != starts {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.settled < starts {
		i.now = m
	}
}

// Settle adds what was noted of a life that has ended to the sum.
func (i *Instance) Settle() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for name, v := range i.now {
		i.counted[name] += v
	}
	i.now, i.settled = nil, i.Starts()
}

// Metric is a counter's value over all lives of the instance, as last looked at.
func (i *Instance) Metric(name string) float64 {
	if i.Alive() {
		i.Look()
	}
	return i.Noted(name)
}

// Noted is Metric without another look.
func (i *Instance) Noted(name string) float64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.counted[name] + i.now[name]
}

// Report is what `consumer verify --json` prints.
type Report struct {
	Objects, Segments   int
	Events, Skipped     uint64
	DeadLetters         uint64 `json:"dead_letters"`
	Duplicates, Missing uint64
	Problems, Notes     []Finding
	Result              string
}

// Finding is a problem or a note of a Report.
type Finding struct{ Key, Series, What, Mend string }

// Verify runs `consumer verify` with the instance's configuration.
func (i *Instance) Verify() (int, Report) {
	i.t.Helper()
	code, out, errs := Run(i.t, i.program, 5*time.Minute, "verify", "--config", i.Config, "--json", "--log-level", "warn")
	var r Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		i.t.Fatalf("verify: exit %d, %v\n%s\n%s", code, err, out, errs)
	}
	return code, r
}
