package service

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"ossuary/internal/telemetry"
)

// What the server says of a subject that the user may not use. It says it beside
// the request, which then just gets no answer.
var denial = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]+)"`)

const (
	// maxDenials bounds what is remembered.
	maxDenials = 20
	// deniedFor is how long a denial counts: what is wanted still is denied again by
	// then, and nobody tells when it is granted.
	deniedFor = 2 * time.Minute
)

// denials are the subjects that the server lately refused to a connection's user.
type denials struct {
	mu   sync.Mutex
	seen []denied // the oldest first
	told func()   // called at each, if not nil
}

type denied struct {
	what, subject string // publish or subscribe
	since, last   time.Time
}

// note takes an error of the connection, and reports whether it was a denial.
func (d *denials) note(err error, log zerolog.Logger) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	m := denial.FindStringSubmatch(err.Error())
	if m == nil {
		return false
	}
	now := time.Now().UTC()
	x := denied{what: "publish to", subject: m[2], since: now, last: now}
	if strings.EqualFold(m[1], "subscription") {
		x.what = "subscribe to"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.told != nil {
		defer d.told()
	}
	if i := slices.IndexFunc(d.seen, func(o denied) bool { return o.what == x.what && o.subject == x.subject }); i >= 0 {
		d.seen[i].last = now
		return true // logged already
	}
	if len(d.seen) == maxDenials {
		d.seen = d.seen[1:]
	}
	d.seen = append(d.seen, x)
	log.Error().Str("what", x.String()).Msg("NATS permissions")
	return true
}

// tell has f called whenever something is denied; nil ends that.
func (d *denials) tell(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = f
}

func (x denied) String() string {
	return fmt.Sprintf("the NATS user may not %s %s; grant it: docs/NATS.md lists what is needed", x.what, x.subject)
}

// recent are those of the last two minutes.
func (d *denials) recent() []denied {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = slices.DeleteFunc(d.seen, func(x denied) bool { return time.Since(x.last) > deniedFor })
	return slices.Clone(d.seen)
}

// explain adds to an error what is likely to be its cause.
func (d *denials) explain(err error) error {
	if err == nil {
		return nil
	}
	if seen := d.recent(); len(seen) > 0 {
		return fmt.Errorf("%w; %s", err, seen[len(seen)-1])
	}
	return err
}

func (d *denials) warnings() (out []telemetry.Reason) {
	for _, x := range d.recent() {
		out = append(out, telemetry.Reason{What: "nats", Name: x.subject, Reason: x.String(), Since: x.since})
	}
	return out
}
