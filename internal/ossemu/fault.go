package ossemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Rule plants a fault. Of the rules that match a request, the first that fires
// decides.
type Rule struct {
	ID  string `json:"id,omitempty"`  // given if empty
	Op  string `json:"op,omitempty"`  // append, put, get, head, delete, list, create_bucket, bucket_info, ...; "" for all
	Key string `json:"key,omitempty"` // a pattern in which * stands for anything, slashes too; "" for all

	// Nth: only the n-th matching request, from 1; with Count as many from it on.
	Nth   int `json:"nth,omitempty"`
	Count int `json:"count,omitempty"` // how often at most; 0: without limit, or once where Nth is set
	// Probability that a matching request is hit; 0 means 1.
	Probability float64 `json:"probability,omitempty"`

	// When: "before" (also "") the request is carried out, and then it is not,
	// or "after".
	When string `json:"when,omitempty"`
	// Action:
	//	error    answer with Status and Code
	//	cut      reset the connection; with CutAfter, after so many bytes of the answer's body
	//	reset    reset the connection while the request comes: after CutAfter bytes of its body; before only
	//	close    end the connection as if all were well, without an answer
	//	throttle answer 503 (or Status and Code) with x-oss-qos-delay-time of Delay, at once
	//	late     reset the connection, and carry the request out later: after
	//	         Delay, or without one when the next request of anybody has been answered
	//	delay    wait for Delay, then go on as if nothing were wrong
	//	headers  change the answer: Status if set, and Headers ("" removes one).
	//	         Before: answer so, with 200 unless Status says otherwise, and do nothing
	Action   string            `json:"action"`
	Status   int               `json:"status,omitempty"`
	Code     string            `json:"code,omitempty"`
	Message  string            `json:"message,omitempty"`
	Delay    Duration          `json:"delay,omitempty"` // waited for with every action
	CutAfter int64             `json:"cut_after,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`

	Matched int `json:"matched,omitempty"` // so far
	Fired   int `json:"fired,omitempty"`
}

// Duration is a time.Duration that reads and writes itself as "150ms".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(p []byte) error {
	v, err := time.ParseDuration(string(p))
	*d = Duration(v)
	return err
}

type faults struct {
	mu     sync.Mutex
	rules  []*Rule
	next   int
	rand   *rand.Rand
	counts map[string]uint64
	held   int        // how many requests have been held so far
	late   []lateItem // those not yet carried out
	over   bool
}

// lateItem is a held request; n is its number among all that were held.
type lateItem struct {
	n     int
	apply func()
}

func newFaults(seed uint64) *faults {
	return &faults{rand: rand.New(rand.NewPCG(seed, seed)), counts: map[string]uint64{}}
}

func (f *faults) seed(seed uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rand = rand.New(rand.NewPCG(seed, seed))
}

func (f *faults) add(r Rule) (string, error) {
	switch r.When {
	case "", "before", "after":
	default:
		return "", fmt.Errorf("when is %q: before or after", r.When)
	}
	if !isOp(r.Op) {
		return "", fmt.Errorf("op is %q: append, put, get, head, delete, list, or as a request log names it", r.Op)
	}
	switch r.Action {
	case "error":
		if r.Status == 0 {
			r.Status, r.Code = 500, "InternalError"
		}
		if r.Status < 300 || r.Status > 599 {
			return "", fmt.Errorf("status %d is no error", r.Status)
		}
	case "headers":
		if r.Status != 0 && (r.Status < 200 || r.Status > 599) {
			return "", fmt.Errorf("status %d is not one", r.Status)
		}
	case "late", "reset":
		if r.When == "after" {
			return "", fmt.Errorf("%s happens before", r.Action)
		}
	case "throttle":
		if r.Status == 0 {
			r.Status = 503
		}
		if r.Code == "" {
			r.Code = "TotalQpsLimitExceeded"
		}
		if r.Status < 400 || r.Status > 599 {
			return "", fmt.Errorf("status %d is no error", r.Status)
		}
	case "cut", "close", "delay":
	default:
		return "", fmt.Errorf("action is %q: error, cut, reset, close, throttle, late, delay or headers", r.Action)
	}
	if r.Probability < 0 || r.Probability > 1 || r.Nth < 0 || r.Count < 0 || r.Delay < 0 || r.CutAfter < 0 {
		return "", errors.New("numbers must not be negative, and a probability not above 1")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	if r.ID == "" {
		r.ID = strconv.Itoa(f.next)
	}
	r.Matched, r.Fired = 0, 0
	f.rules = append(f.rules, &r)
	return r.ID, nil
}

func (f *faults) clear(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = slices.DeleteFunc(f.rules, func(r *Rule) bool { return id == "" || r.ID == id })
}

func (f *faults) list() []Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Rule, 0, len(f.rules))
	for _, r := range f.rules {
		out = append(out, *r)
	}
	return out
}

func (f *faults) count(op string) {
	if op == "" {
		op = "other"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[op]++
}

func (f *faults) counters() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]uint64, len(f.counts))
	for k, v := range f.counts {
		out[k] = v
	}
	return out
}

// pick returns a copy of the rule that hits the request, or nil.
func (f *faults) pick(op, key string) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.Op != "" && r.Op != op || r.Key != "" && !match(r.Key, key) {
			continue
		}
		r.Matched++
		limit := r.Count
		if r.Nth > 0 && limit == 0 {
			limit = 1
		}
		if r.Matched < r.Nth || limit > 0 && r.Fired >= limit || r.Probability > 0 && f.rand.Float64() >= r.Probability {
			continue
		}
		r.Fired++
		hit := *r
		return &hit
	}
	return nil
}

// match says whether s fits a pattern in which * stands for any bytes.
func match(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, last)
}

// hold keeps a request for later.
func (f *faults) hold(delay time.Duration, apply func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	if delay > 0 {
		time.AfterFunc(delay, func() {
			f.mu.Lock()
			over := f.over
			f.mu.Unlock()
			if !over {
				apply()
			}
		})
		return
	}
	f.held++
	f.late = append(f.late, lateItem{f.held, apply})
}

// mark returns a point in time for arrive.
func (f *faults) mark() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// arrive carries out what had been held at mark: a request that began later is
// the next one, and has been answered now.
func (f *faults) arrive(mark int) {
	f.mu.Lock()
	var due []lateItem
	for len(f.late) > 0 && f.late[0].n <= mark {
		due = append(due, f.late[0])
		f.late = f.late[1:]
	}
	f.mu.Unlock()
	for _, it := range due {
		it.apply()
	}
}

// drop forgets what is held: the connection of a server that goes away.
func (f *faults) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over, f.late = true, nil
}

// withFaults carries the request out by answer, or fails it as a rule says.
func (s *Server) withFaults(w http.ResponseWriter, r *request, answer func(http.ResponseWriter, *request)) {
	rule := s.faults.pick(r.op, r.key)
	if rule == nil {
		answer(w, r)
		return
	}
	r.fault = rule.ID
	after := rule.When == "after"
	delay := time.Duration(rule.Delay)
	if rule.Action == "throttle" {
		delay = 0 // that is for the client to wait
	}
	switch {
	case rule.Action == "late":
		s.answerLate(w, r, rule, answer)
		return
	case !after:
		sleep(r, delay)
	case rule.Action == "headers" || rule.Action == "cut" && rule.CutAfter > 0:
		// These change the answer on its way.
	case rule.Action == "delay":
		kept := &memoryWriter{header: w.Header()}
		answer(kept, r)
		sleep(r, delay)
		w.WriteHeader(kept.status)
		w.Write(kept.body.Bytes())
		return
	default:
		answer(&memoryWriter{header: http.Header{}}, r)
		sleep(r, delay)
	}
	s.fail(w, r, rule, answer)
}

// fail does what a rule says; what it does after the request was carried out, has
// been.
func (s *Server) fail(w http.ResponseWriter, r *request, rule *Rule, answer func(http.ResponseWriter, *request)) {
	switch rule.Action {
	case "delay":
		answer(w, r)
	case "error", "throttle":
		e := errorf(rule.Status, rule.Code, rule.Message, "0000-00000000")
		e.Header = maps.Clone(rule.Headers)
		if e.Message == "" {
			e.Message = "planted by a rule"
		}
		if rule.Action == "throttle" {
			if e.Header == nil {
				e.Header = map[string]string{}
			}
			e.Header[delayHeader] = strconv.FormatInt(time.Duration(rule.Delay).Milliseconds(), 10)
		}
		writeError(w, r.Request, r.id, e)
	case "cut":
		if rule.CutAfter > 0 {
			answer(&cutWriter{ResponseWriter: w, left: rule.CutAfter}, r)
			return
		}
		reset(w)
	case "reset":
		_, _ = io.CopyN(io.Discard, r.Body, rule.CutAfter) // a body that is shorter is cut at its end
		reset(w)
	case "close":
		_, _ = io.Copy(io.Discard, r.Body) // with unread bytes the end would be a reset
		closeInOrder(w)
	case "headers":
		cw := &changingWriter{ResponseWriter: w, rule: rule}
		if rule.When == "after" {
			answer(cw, r)
			return
		}
		w.Header().Set("Content-Length", "0")
		cw.WriteHeader(http.StatusOK)
	}
}

// answerLate gives up on the connection and carries the request out later, as a
// network does that delivers a request after its sender has lost patience.
func (s *Server) answerLate(w http.ResponseWriter, r *request, rule *Rule, answer func(http.ResponseWriter, *request)) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		reset(w)
		return
	}
	later := *r
	later.Request = r.Clone(context.WithoutCancel(r.Context()))
	later.Body = io.NopCloser(bytes.NewReader(data))
	apply := func() { answer(&memoryWriter{header: http.Header{}}, &later) }
	// Before the client can know, so that its next request is the next one.
	s.faults.hold(time.Duration(rule.Delay), apply)
	reset(w)
}

func sleep(r *request, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}
