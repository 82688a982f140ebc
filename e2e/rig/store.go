//go:build unix

package rig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ossuary/internal/ossemu"
)

// Store is the emulator in a process of its own. Rules for faults are gone when
// it was started again.
type Store struct {
	*Process
	Addr string
	dir  string
}

// NewStore makes one whose files lie below dir, without starting it.
func NewStore(t T, program, dir string) *Store {
	t.Helper()
	s := &Store{Addr: fmt.Sprintf("127.0.0.1:%d", FreePort(t)), dir: filepath.Join(dir, "oss")}
	s.Process = NewProcess(t, "store", filepath.Join(dir, "store.log"), func() *exec.Cmd {
		return exec.Command(program, "emulator", "--listen", s.Addr, "--dir", s.dir,
			"--bucket", BucketName, "--access-key", AccessKey, "--secret-key", SecretKey, "--admin")
	})
	return s
}

// Objects is the directory in which the archive's objects lie.
func (s *Store) Objects() string {
	return filepath.Join(s.dir, BucketName, filepath.FromSlash(strings.TrimSuffix(KeyPrefix, "/")))
}

// Start returns when the store serves.
func (s *Store) Start() {
	s.t.Helper()
	s.Process.Start()
	Eventually(s.t, 30*time.Second, "the store serves", func() (bool, string) {
		if !s.Alive() {
			s.t.Fatalf("the store ended: %s", s.LogTail(10))
		}
		resp, err := http.Get("http://" + s.Addr + "/_ossemu/counters")
		if err != nil {
			return false, err.Error()
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, resp.Status
	})
}

func (s *Store) admin(method, path string, body, answer any) {
	s.t.Helper()
	b := Must(json.Marshal(body))
	req := Must(http.NewRequest(method, "http://"+s.Addr+"/_ossemu/"+path, bytes.NewReader(b)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("asking the store: %v", err)
	}
	defer resp.Body.Close()
	b, err = io.ReadAll(resp.Body)
	if err == nil && answer != nil {
		err = json.Unmarshal(b, answer)
	}
	if err != nil || resp.StatusCode/100 != 2 {
		s.t.Fatalf("%s %s: %s %v %s", method, path, resp.Status, err, b)
	}
}

// Fault plants a rule. Rules with probabilities follow the seed of Reseed.
func (s *Store) Fault(r ossemu.Rule) { s.t.Helper(); s.admin("POST", "faults", r, nil) }

// Reseed starts faults by probability anew.
func (s *Store) Reseed(seed uint64) {
	s.t.Helper()
	s.admin("POST", "seed?n="+strconv.FormatUint(seed, 10), nil, nil)
}

// Faults returns the rules with how often they fired.
func (s *Store) Faults() (out []ossemu.Rule) {
	s.t.Helper()
	s.admin("GET", "faults", nil, &out)
	return out
}

// ClearFaults removes all rules.
func (s *Store) ClearFaults() { s.t.Helper(); s.admin("DELETE", "faults", nil, nil) }
