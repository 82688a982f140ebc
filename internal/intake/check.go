package intake

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/router"
)

// Finding is something about a stream that keeps it from being archived, or that
// may cost events.
type Finding struct {
	Refuse bool   `json:"refuse"` // archiving does not start; else a warning
	What   string `json:"what"`
	Mend   string `json:"mend"`
}

func (f Finding) String() string { return f.What + "; " + f.Mend }

// CheckOptions says what is to be archived, and how.
type CheckOptions struct {
	Archive, Source, Lane string
	Filters               []string      // of the lane's consumer; empty: everything
	Start                 Start         // where a lane without a past begins
	MaxAckPending         int           // as configured
	LeaseOff              bool          //
	Outage                time.Duration // the longest that archiving should survive being down; 0 means 24 h
	ServerVersion         string        // "" means what the connection says
}

// The oldest server whose consumers carry metadata and several filters.
const minMajor, minMinor = 2, 10

const defaultOutage = 24 * time.Hour

// Check looks at the server and the stream. The error says that it could not
// look; what it saw is in the findings, refusals first.
func Check(ctx context.Context, js jetstream.JetStream, o CheckOptions) ([]Finding, error) {
	if f := checkServer(js, o); f != nil {
		return []Finding{*f}, nil
	}
	s, err := js.Stream(ctx, o.Source)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return []Finding{missing(o.Source)}, nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return []Finding{{true, "JetStream is not enabled on the server or for this account",
			"enable jetstream in the server's configuration or in the account's limits"}}, nil
	case err != nil:
		return nil, fmt.Errorf("looking at stream %s: %w", o.Source, err)
	}
	refusals, warnings := split(checkStream(s.CachedInfo(), o))
	foreign, err := checkConsumers(ctx, s, o)
	if err != nil {
		return nil, err
	}
	return append(append(refusals, foreign...), warnings...), nil
}

func split(all []Finding) (refusals, warnings []Finding) {
	for _, f := range all {
		if f.Refuse {
			refusals = append(refusals, f)
		} else {
			warnings = append(warnings, f)
		}
	}
	return refusals, warnings
}

func missing(stream string) Finding {
	return Finding{true, fmt.Sprintf("stream %s does not exist", stream),
		fmt.Sprintf("create it (nats stream add %s), or let Ossuary create it with `create` in the source's configuration", stream)}
}

func checkServer(js jetstream.JetStream, o CheckOptions) *Finding {
	v := o.ServerVersion
	if v == "" {
		v = js.Conn().ConnectedServerVersion()
	}
	major, minor, ok := parseVersion(v)
	if !ok || major > minMajor || major == minMajor && minor >= minMinor {
		return nil
	}
	return &Finding{true, fmt.Sprintf("the NATS server has version %s, and consumers there lack what archiving needs", v),
		fmt.Sprintf("update nats-server to %d.%d or newer", minMajor, minMinor)}
}

func parseVersion(v string) (major, minor int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return major, minor, err1 == nil && err2 == nil
}

// checkStream judges the stream's settings.
func checkStream(info *jetstream.StreamInfo, o CheckOptions) []Finding {
	var all []Finding
	refuse := func(what, mend string) { all = append(all, Finding{true, what, mend}) }
	warn := func(what, mend string) { all = append(all, Finding{false, what, mend}) }
	cfg, name := info.Config, o.Source
	edit := func(flags string) string { return fmt.Sprintf("nats stream edit %s %s", name, flags) }

	if cfg.Storage == jetstream.MemoryStorage {
		warn(fmt.Sprintf("stream %s is kept in memory: what is not archived is lost when its servers restart", name),
			"make it anew with file storage")
	}
	if info.Cluster != nil && info.Cluster.Name != "" && cfg.Replicas == 1 {
		warn(fmt.Sprintf("stream %s has one replica in a cluster: while its server is down nothing is archived, and its disk is the only copy", name),
			edit("--replicas 3"))
	}
	outage := o.Outage
	if outage == 0 {
		outage = defaultOutage
	}
	if cfg.MaxAge > 0 && cfg.MaxAge < outage {
		warn(fmt.Sprintf("stream %s keeps messages for %s: an outage of OSS or of Ossuary that lasts longer loses events", name, cfg.MaxAge),
			fmt.Sprintf("raise max_age to %s or more (%s)", outage, edit("--max-age "+outage.String())))
	}
	if cfg.AllowMsgTTL {
		warn(fmt.Sprintf("stream %s allows messages a TTL of their own: one that expires before it was archived is not archived", name),
			"give messages no Nats-TTL shorter than the longest outage to survive")
	}
	if cfg.MaxMsgsPerSubject > 0 {
		warn(fmt.Sprintf("stream %s keeps %d messages per subject: a message that newer ones push out before it was archived is not archived", name, cfg.MaxMsgsPerSubject),
			"remove max_msgs_per_subject if every message matters")
	}
	limited := cfg.MaxMsgs > 0 || cfg.MaxBytes > 0
	switch {
	case limited && cfg.Discard == jetstream.DiscardOld && cfg.Retention != jetstream.LimitsPolicy:
		warn(fmt.Sprintf("stream %s discards its oldest messages when it is full, archived or not", name),
			"refuse new ones instead, so that publishers notice ("+edit("--discard new")+")")
	case limited && cfg.Discard == jetstream.DiscardOld:
		warn(fmt.Sprintf("stream %s discards its oldest messages when it is full: make sure that its limits hold an outage's worth of them", name),
			fmt.Sprintf("size max_bytes and max_msgs for %s of traffic", outage))
	case limited && cfg.Discard == jetstream.DiscardNew && cfg.Retention == jetstream.LimitsPolicy && cfg.MaxAge == 0:
		warn(fmt.Sprintf("stream %s refuses new messages when it is full, and archiving frees no room on limits retention", name),
			"set max_age, or use interest or workqueue retention")
	}
	if cfg.Retention == jetstream.WorkQueuePolicy {
		if !o.Start.IsZero() {
			refuse(fmt.Sprintf("stream %s is a work queue, which can only be read from its first message", name),
				"remove `start` from the source's configuration")
		}
		if o.LeaseOff {
			refuse(fmt.Sprintf("stream %s is a work queue, on which two instances cannot read at once", name),
				"remove `lease.disabled`")
		}
	}
	lim := cfg.ConsumerLimits
	if lim.MaxAckPending > 0 && o.MaxAckPending > lim.MaxAckPending {
		refuse(fmt.Sprintf("stream %s allows its consumers %d unacknowledged messages, and %d are configured", name, lim.MaxAckPending, o.MaxAckPending),
			fmt.Sprintf("set limits.max_ack_pending to %d or less, or raise the stream's consumer limit", lim.MaxAckPending))
	}
	if lim.InactiveThreshold > 0 && cfg.Retention == jetstream.InterestPolicy {
		warn(fmt.Sprintf("stream %s removes consumers that were away for %s: events published after that are lost to the archive", name, lim.InactiveThreshold),
			"remove inactive_threshold from the stream's consumer limits")
	}
	if o.MaxAckPending > 0 && o.MaxAckPending < 1000 {
		warn(fmt.Sprintf("with limits.max_ack_pending %d a lane reads at most that many events per append", o.MaxAckPending),
			"raise it above rate x (linger + append time), 10000 or more")
	}
	if n := cfg.MaxConsumers; n > 0 && info.State.Consumers >= n {
		warn(fmt.Sprintf("stream %s has all of the %d consumers that it allows, and a new epoch needs one more for a moment", name, n),
			edit("--max-consumers "+strconv.Itoa(n+1)))
	}
	return all
}

// checkConsumers finds foreign consumers that share a work queue with the lane:
// each message goes to one of them only, so the archive would have holes, and
// the server refuses our consumer anyway.
func checkConsumers(ctx context.Context, s jetstream.Stream, o CheckOptions) ([]Finding, error) {
	if s.CachedInfo().Config.Retention != jetstream.WorkQueuePolicy {
		return nil, nil
	}
	var all []Finding
	list := s.ListConsumers(ctx)
	for c := range list.Info() {
		if c.Config.Metadata[metaArchive] == o.Archive && c.Config.Metadata[metaSource] == o.Source {
			continue
		}
		if anyOverlap(filtersOf(&c.Config), o.Filters) {
			all = append(all, Finding{true,
				fmt.Sprintf("stream %s is a work queue and its consumer %s takes messages that the archive should have", o.Source, c.Name),
				fmt.Sprintf("delete that consumer (nats consumer rm %s %s), archive a stream that sources this one, or use interest retention", o.Source, c.Name)})
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("listing the consumers of stream %s: %w", o.Source, err)
	}
	return all, nil
}

func filtersOf(c *jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return c.FilterSubjects
}

// anyOverlap reports whether a message exists that both sets take; an empty set
// takes everything.
func anyOverlap(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if router.Collide(x, y) {
				return true
			}
		}
	}
	return false
}
