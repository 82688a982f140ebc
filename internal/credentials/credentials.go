// Package credentials finds the keys that requests to OSS are signed with, and
// keeps temporary ones fresh.
//
// A Get is asked at each request. It answers from memory wherever it can, so
// that no append waits while keys are renewed. What cannot be renewed is used on:
// whether a key is still good is for the service to say, not for a clock here.
//
// The ways to temporary keys (the ECS instance's role, AssumeRole, OIDC) are
// those of the vendor's credentials library, which is used for nothing else. It
// makes its requests over http.DefaultTransport: it heeds HTTPS_PROXY, HTTP_PROXY
// and NO_PROXY where no proxy is given, and trusts the system's authorities.
package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Keys sign a request. Token is for temporary ones (STS).
type Keys struct{ ID, Secret, Token string }

// Get returns the keys that hold now. It is safe for concurrent use.
type Get func() (Keys, error)

// Environment reads OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and
// OSS_SESSION_TOKEN; keys that are not set are empty.
func Environment() Keys {
	return Keys{os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"), os.Getenv("OSS_SESSION_TOKEN")}
}

// File reads keys from a JSON file, again whenever it has changed, so that key,
// secret and token change together. It has the members AccessKeyId,
// AccessKeySecret and, for temporary keys, SecurityToken, at the top or within
// Credentials, as STS and the metadata service of ECS answer them. While a file
// is being written, or if it has become unreadable, the keys that were read last
// are used on, and log says so.
func File(path string, log zerolog.Logger) Get {
	f := &file{path: path, log: log}
	return f.get
}

type file struct {
	path string
	log  zerolog.Logger

	mu    sync.Mutex
	seen  os.FileInfo // when it was read last, well or badly
	keys  Keys
	known bool
	err   error
}

func (f *file) get() (Keys, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && f.seen != nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime()) && info.Size() == f.seen.Size() {
		return f.last()
	}
	f.seen = info
	var keys Keys
	if err != nil {
		err = fmt.Errorf("reading the access key: %w", err)
	} else {
		keys, err = readFile(f.path)
	}
	if err == nil {
		f.keys, f.known, f.err = keys, true, nil
		return f.keys, nil
	}
	if f.known && f.err == nil {
		f.log.Warn().Err(err).Msg("the file of the access key cannot be read; going on with the last one")
	}
	f.err = err
	return f.last()
}

// last is what was read last, if anything was.
func (f *file) last() (Keys, error) {
	if f.known {
		return f.keys, nil
	}
	return Keys{}, f.err
}

func readFile(path string) (Keys, error) {
	p, err := os.ReadFile(path)
	if err != nil {
		return Keys{}, fmt.Errorf("reading the access key: %w", err)
	}
	type answer struct{ AccessKeyID, AccessKeySecret, SecurityToken string }
	var v struct {
		answer
		Credentials answer
	}
	if err := json.Unmarshal(p, &v); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return Keys{}, fmt.Errorf("reading the access key: %s is no JSON, from byte %d", path, syntax.Offset)
		}
		return Keys{}, fmt.Errorf("reading the access key: %s: AccessKeyId, AccessKeySecret and SecurityToken must be texts", path) // the error may quote a value
	}
	a := v.answer
	if a.AccessKeyID == "" {
		a = v.Credentials
	}
	if a.AccessKeyID == "" || a.AccessKeySecret == "" {
		return Keys{}, fmt.Errorf("reading the access key: %s has no AccessKeyId and AccessKeySecret", path)
	}
	return Keys{a.AccessKeyID, a.AccessKeySecret, a.SecurityToken}, nil
}

// RenewEvery is how often temporary keys are asked for. They live a quarter of an
// hour at least, and the library renews them in their last three minutes: this
// leaves it five attempts. What was good two minutes ago is good in any case.
const RenewEvery = 30 * time.Second

const (
	staleAfter = 4 // times the time between two renewals
	// After an idle time a request waits that long for new keys before it tries the
	// old ones, and not at all where the last attempt has failed.
	patience = 5 * time.Second
)

// Fresh keeps what renew returns in memory and renews it behind the scenes, no
// more often than every. renew is asked by one goroutine at a time.
func Fresh(renew Get, every time.Duration, log zerolog.Logger) Get {
	f := &fresh{renew: renew, every: every, log: log}
	return f.get
}

type fresh struct {
	renew Get
	every time.Duration
	log   zerolog.Logger

	mu      sync.Mutex
	keys    Keys
	err     error // of the last attempt
	renewed time.Time
	began   time.Time     // of the last attempt
	running chan struct{} // closed when the attempt under way ends; nil: none is
}

func (f *fresh) get() (Keys, error) {
	f.mu.Lock()
	now := time.Now()
	known, age := !f.renewed.IsZero(), now.Sub(f.renewed)
	if known && age < f.every {
		defer f.mu.Unlock()
		return f.keys, nil
	}
	if f.running == nil && (!known || now.Sub(f.began) >= f.every/3) {
		f.running, f.began = make(chan struct{}), now
		go f.attempt(f.running)
	}
	running, began, failing := f.running, f.began, f.err != nil
	f.mu.Unlock()

	switch {
	case running == nil: // the last attempt has just failed
	case !known:
		<-running
	case age >= staleAfter*f.every && !failing:
		t := time.NewTimer(patience - now.Sub(began)) // at once, if that is over
		select {
		case <-running:
		case <-t.C:
		}
		t.Stop()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.renewed.IsZero() {
		return Keys{}, f.err
	}
	return f.keys, nil
}

func (f *fresh) attempt(done chan struct{}) {
	keys, err := f.safely()
	f.mu.Lock()
	defer f.mu.Unlock()
	defer close(done)
	f.running = nil
	switch {
	case err != nil && f.err == nil && !f.renewed.IsZero():
		f.log.Warn().Err(err).Msg("the access key cannot be renewed; going on with the last one")
	case err == nil && f.err != nil && !f.renewed.IsZero():
		f.log.Info().Msg("the access key is renewed again")
	}
	if f.err = err; err == nil {
		f.keys, f.renewed = keys, time.Now()
	}
}

// safely keeps a fault of the library, which trusts the answers that it gets,
// from ending the process.
func (f *fresh) safely() (keys Keys, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("renewing the access key: %v", r)
		}
	}()
	return f.renew()
}
