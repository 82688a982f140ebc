package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/router"
)

var archiveName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// validator checks what a setting says against the others.
type validator struct {
	*decoder
	config   *Config
	warnings []Problem
}

// where finds the place of a setting, or of the nearest one around it.
func (v *validator) where(path string) place {
	for {
		if p, ok := v.at[path]; ok {
			return p
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return place{}
		}
		path = path[:i]
	}
}

func (v *validator) bad(path, what, mend string) { v.report(path, v.where(path), what, mend) }

func (v *validator) warn(path, what, mend string) {
	v.warnings = append(v.warnings, v.problem(path, v.where(path), what, mend, true))
}

func (v *validator) oneOf(path, value string, known ...string) {
	if slices.Contains(known, value) {
		return
	}
	mend := "use " + strings.Join(known, ", ")
	if c := closest(value, known); c != "" {
		mend = fmt.Sprintf("did you mean %q?", c)
	}
	v.bad(path, fmt.Sprintf("%q is not known", value), mend)
}

func (v *validator) atLeast(path string, value, least int64, unit string) {
	if value < least {
		v.bad(path, fmt.Sprintf("%d is too little", value), fmt.Sprintf("use at least %d%s", least, unit))
	}
}

func (v *validator) lasts(path string, value, least time.Duration) {
	if value < least {
		v.bad(path, fmt.Sprintf("%s is too short", value), fmt.Sprintf("use at least %s", least))
	}
}

func (v *validator) all() {
	c := v.config
	switch {
	case c.Archive.Name == "":
		v.bad("archive.name", "the archive has no name", "name it, once and for good: it stands in every frame and in the ledger")
	case !archiveName.MatchString(c.Archive.Name):
		v.bad("archive.name", fmt.Sprintf("%q is no name of an archive", c.Archive.Name), "use up to 64 letters, digits, - and _")
	}
	v.nats()
	v.oss()
	v.objects()
	v.limits()
	v.process()
	v.flush("defaults.flush", c.Defaults.Flush, c.Defaults.Roll)
	v.roll("defaults.roll", c.Defaults.Roll)
	v.oneOf("defaults.format", c.Defaults.Format, router.Formats...)
	v.oneOf("defaults.codec", c.Defaults.Codec, router.Codecs...)
	v.oneOf("defaults.payload", c.Defaults.Payload, router.Payloads...)
	v.sources()
}

func (v *validator) nats() {
	n := v.config.NATS
	for i, u := range n.URLs {
		at := fmt.Sprintf("nats.url[%d]", i)
		p, err := url.Parse(u)
		if err != nil {
			// The error would quote the address with its password.
			v.bad(at, "this is no address of a server", "write it as nats://host:4222")
			continue
		}
		if !slices.Contains([]string{"nats", "tls", "ws", "wss"}, p.Scheme) || p.Host == "" {
			v.bad(at, fmt.Sprintf("%q is no address of a server", p.Redacted()), "write it as nats://host:4222")
		}
		if p.User != nil && n.Creds+n.NKey+n.User+n.Token+n.TokenFile != "" {
			v.bad(at, "the address holds a login, and the settings name another", "keep one of them, best the setting")
		}
	}
	if n.Context != "" && v.config.Embedded.Enabled {
		v.bad("nats.context", "the embedded server needs none", "leave out nats.context, or embedded")
	}
	v.either("nats.password", n.Password, "nats.password_file", n.PasswordFile)
	v.either("nats.token", n.Token, "nats.token_file", n.TokenFile)
	var ways []string
	for _, w := range []struct{ name, value string }{{"creds", n.Creds}, {"nkey", n.NKey}, {"user", n.User}, {"token", n.Token + n.TokenFile}} {
		if w.value != "" {
			ways = append(ways, w.name)
		}
	}
	if len(ways) > 1 {
		v.bad("nats."+ways[1], "there are several ways to log in: "+strings.Join(ways, ", "), "keep one of them")
	}
	if n.User == "" && n.Password+n.PasswordFile != "" {
		v.bad("nats.user", "there is a password but no user", "set nats.user")
	}
	if (n.TLS.Cert == "") != (n.TLS.Key == "") {
		v.bad("nats.tls", "cert and key belong together", "set both, or neither")
	}
	if n.Domain != "" && n.APIPrefix != "" {
		v.bad("nats.jetstream_api_prefix", "nats.jetstream_domain is set too", "keep one of the two: a domain is the prefix $JS.<domain>.API")
	}
	if strings.ContainsAny(n.Domain, " \t.*>") {
		v.bad("nats.jetstream_domain", fmt.Sprintf("%q is no name of a domain", n.Domain), "write it as the server's configuration has it, without $JS. and .API")
	}
	v.prefix("nats.jetstream_api_prefix", n.APIPrefix, "JS.hub.API")
	v.prefix("nats.inbox_prefix", n.InboxPrefix, "_INBOX_ossuary")
}

// prefix is one that subjects begin with.
func (v *validator) prefix(path, value, example string) {
	if value == "" {
		return
	}
	if err := router.CheckFilter(strings.TrimSuffix(value, ".")); err != nil || strings.ContainsAny(value, "*>") {
		v.bad(path, fmt.Sprintf("%q does not begin a subject", value), "write words with dots between them, as in "+example)
	}
}

func (v *validator) either(a, x, b, y string) {
	if x != "" && y != "" {
		v.bad(b, a+" is set too", "keep one of the two")
	}
}

func (v *validator) limits() {
	l := v.config.Limits
	v.atLeast("limits.memory", l.Memory, 1<<20, " bytes (1MiB)")
	v.atLeast("limits.open_series", int64(l.OpenSeries), 1, "")
	v.atLeast("limits.parallel_appends", int64(l.ParallelAppends), 1, "")
	v.atLeast("limits.max_ack_pending", int64(l.MaxAckPending), 1, "")
	v.atLeast("limits.max_event", int64(l.MaxEvent), 0, "")
	if l.MaxEvent > 0 && int64(l.MaxEvent) > l.Memory {
		v.warn("limits.max_event", "a single event may be larger than limits.memory", "raise limits.memory")
	}
}

func (v *validator) process() {
	c := v.config
	if r := c.Ledger.Replicas; r < 0 || r > 5 {
		v.bad("ledger.replicas", fmt.Sprintf("%d replicas", r), "use 1 to 5, or 0 for as many as the stream has")
	}
	v.lasts("ledger.interval", c.Ledger.Interval, 10*time.Millisecond)
	v.lasts("lease.ttl", c.Lease.TTL, 100*time.Millisecond)
	v.lasts("intake.audit", c.Intake.Audit, 100*time.Millisecond)
	v.lasts("intake.drain_timeout", c.Intake.DrainTimeout, 0)
	if c.HTTP.Listen != "" {
		if _, _, err := net.SplitHostPort(c.HTTP.Listen); err != nil {
			v.bad("http.listen", fmt.Sprintf("%q is no address to listen on", c.HTTP.Listen), `write host:port, as in 127.0.0.1:8080 or :8080, or "" to turn it off`)
		}
	}
	v.tracing()
	v.oneOf("log.level", c.Log.Level, "trace", "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "auto", "json", "console")
	if c.Embedded.Enabled && c.Embedded.DataDir == "" {
		v.bad("embedded.data_dir", "there is no directory for the embedded servers", "set it")
	}
	v.atLeast("lease.lanes", int64(c.Lease.Lanes), 0, "")
	if c.Lease.Disabled {
		v.warn("lease.disabled", "every instance will read every lane: the archive stays right, the work is done once per instance", "leave it out except in tests")
	}
}

func (v *validator) tracing() {
	t := v.config.Tracing
	if t.Endpoint != "" && t.Endpoint != "environment" {
		u, err := url.Parse(t.Endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
			v.bad("tracing.endpoint", "this is no collector's address", `write http://host:4318 or https://, environment for what OTEL_* say, or "" for none`)
		}
	}
	if !(t.Sample >= 0 && t.Sample <= 1) { // NaN neither
		v.bad("tracing.sample", fmt.Sprintf("%v is no part of all batches", t.Sample), "use a number from 0 to 1")
	}
}

func (v *validator) flush(path string, f Flush, r Roll) {
	v.atLeast(path+".size", int64(f.Size), 1, "")
	v.atLeast(path+".events", int64(f.Events), 1, "")
	v.lasts(path+".linger", f.Linger, 0)
	if int64(f.Size) > v.config.Limits.Memory {
		v.bad(path+".size", "a batch is larger than limits.memory", "lower it, or raise limits.memory")
	}
	if int64(f.Size) > r.Size {
		v.bad(path+".size", "a batch is larger than roll.size", "lower it, or raise roll.size")
	}
	// The consumer stops at max_ack_pending events that are not archived yet, and from
	// half of them on batches go early.
	if pending := v.config.Limits.MaxAckPending; pending > 0 && pending < 2*f.Events {
		v.warn("limits.max_ack_pending", fmt.Sprintf("%d events may wait for their append, and batches go early once half of them do: one of %d never fills", pending, f.Events),
			fmt.Sprintf("use at least %d, and no less than twice the stream's rate times linger and the time of an append", 2*f.Events))
	}
}

func (v *validator) roll(path string, r Roll) {
	switch {
	case r.Size < 1:
		v.atLeast(path+".size", r.Size, 1, "")
	case r.Size > maxRollSize:
		v.bad(path+".size", fmt.Sprintf("%s is too much: the store takes no append past %d bytes", formatSize(r.Size), int64(object.MaxSize)), "use at most 4.5GiB")
	}
	v.lasts(path+".age", r.Age, 0)
	v.lasts(path+".idle", r.Idle, 0)
}
