package credentials

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("OSS_ACCESS_KEY_ID", "i")
	t.Setenv("OSS_ACCESS_KEY_SECRET", "s")
	t.Setenv("OSS_SESSION_TOKEN", "t")
	if k := Environment(); k != (Keys{"i", "s", "t"}) {
		t.Errorf("%+v", k)
	}
}

// A file is read again when it changes, whichever way it is replaced; while it is
// half written or away the last keys are used on.
func TestFile(t *testing.T) {
	var logged bytes.Buffer
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	get := File(path, zerolog.New(&logged))
	if _, err := get(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(k Keys) {
		t.Helper()
		if got, err := get(); err != nil || got != k {
			t.Errorf("got %+v, %v, want %+v", got, err, k)
		}
	}
	write(`{"AccessKeyId":"a","AccessKeySecret":"b"}`)
	want(Keys{"a", "b", ""})
	want(Keys{"a", "b", ""})
	// As the metadata service answers, and as STS does.
	write(`{"Code":"Success","AccessKeyId":"STS.c","AccessKeySecret":"d","SecurityToken":"e","Expiration":"2026-11-25T18:00:00Z"}`)
	want(Keys{"STS.c", "d", "e"})
	write(`{"RequestId":"r","Credentials":{"AccessKeyId":"STS.f","AccessKeySecret":"g","SecurityToken":"h"}}`)
	want(Keys{"STS.f", "g", "h"})
	if logged.Len() > 0 {
		t.Errorf("logged %s", &logged)
	}
	for _, bad := range []string{`{"AccessKeyId":"x","AccessKeySec`, `{"AccessKeyId":"hunter2"}`, `{"AccessKeyId":"x","AccessKeySecret":["hunter2"]}`, ""} {
		write(bad)
		want(Keys{"STS.f", "g", "h"})
		want(Keys{"STS.f", "g", "h"})
		if _, err := readFile(path); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("logged %d lines: %s", n, &logged)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want(Keys{"STS.f", "g", "h"})
	// As a mounted secret of Kubernetes changes: another file under the name.
	next := filepath.Join(dir, "next")
	if err := os.WriteFile(next, []byte(`{"AccessKeyId":"i","AccessKeySecret":"j"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	want(Keys{"i", "j", ""})
}

// provider counts how it is asked, and answers as it is told.
type provider struct {
	asked atomic.Int32
	takes atomic.Int64 // time.Duration
	fails atomic.Bool
	alone atomic.Int32
}

func (p *provider) get() (Keys, error) {
	if p.alone.Add(1) > 1 {
		panic("asked by two at once")
	}
	defer p.alone.Add(-1)
	n := p.asked.Add(1)
	time.Sleep(time.Duration(p.takes.Load()))
	if p.fails.Load() {
		return Keys{}, errors.New("STS is away")
	}
	return Keys{ID: string('a' + n - 1)}, nil
}

// Nobody but the first waits for new keys while the old ones are good.
func TestFreshRenewsBehindTheScenes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		p.takes.Store(int64(3 * time.Second))
		get := Fresh(p.get, RenewEvery, zerolog.Nop())
		waits := func(id string, limit time.Duration) {
			t.Helper()
			start := time.Now()
			k, err := get()
			if err != nil || k.ID != id || time.Since(start) > limit {
				t.Errorf("got %+v, %v after %s; want %s within %s", k, err, time.Since(start), id, limit)
			}
		}
		for range 3 { // at once, and one question for all
			go waits("a", 3*time.Second)
		}
		waits("a", 3*time.Second)
		waits("a", 0)
		time.Sleep(RenewEvery)
		waits("a", 0) // this one starts the renewal
		time.Sleep(time.Second)
		waits("a", 0)
		time.Sleep(3 * time.Second)
		waits("b", 0)
		if n := p.asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
		// After an idle time the keys may have expired: better to wait.
		time.Sleep(time.Hour)
		waits("c", 3*time.Second)
	})
}

// Keys that cannot be renewed are used on, and hold no request up.
func TestFreshKeepsWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		p := &provider{}
		get := Fresh(p.get, RenewEvery, zerolog.New(&logged))
		p.fails.Store(true)
		if _, err := get(); err == nil || !strings.Contains(err.Error(), "STS is away") {
			t.Errorf("no keys at all: %v", err)
		}
		p.fails.Store(false)
		if _, err := get(); err != nil {
			t.Errorf("asked again: %v", err)
		}
		p.fails.Store(true)
		p.takes.Store(int64(15 * time.Second)) // a connection that times out
		var waited time.Duration
		for begin := time.Now(); time.Since(begin) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			start := time.Now()
			if k, err := get(); err != nil || k.ID != "b" {
				t.Fatalf("%+v, %v", k, err)
			}
			waited += time.Since(start)
		}
		if waited > 0 {
			t.Errorf("requests waited for %s in ten minutes", waited)
		}
		if n := strings.Count(logged.String(), "cannot be renewed"); n != 1 {
			t.Errorf("logged %d times: %s", n, &logged)
		}
		p.fails.Store(false)
		p.takes.Store(0)
		time.Sleep(time.Minute)
		get()
		synctest.Wait()
		if k, err := get(); err != nil || k.ID == "b" {
			t.Errorf("never renewed: %+v, %v", k, err)
		}
		if !strings.Contains(logged.String(), "renewed again") {
			t.Errorf("logged %s", &logged)
		}
	})
}

func TestFreshSurvivesPanics(t *testing.T) {
	var none *Keys
	get := Fresh(func() (Keys, error) { return *none, nil }, RenewEvery, zerolog.Nop())
	if _, err := get(); err == nil || !strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("%v", err)
	}
}
