package replay

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/archive"
)

// The headers that say which event a replayed message is.
const (
	HeaderArchive     = "Ossuary-Archive"
	HeaderStream      = "Ossuary-Stream"
	HeaderIncarnation = "Ossuary-Incarnation"
	HeaderSequence    = "Ossuary-Sequence"
	HeaderTime        = "Ossuary-Time"
	HeaderSubject     = "Ossuary-Subject" // only where the subject was mapped

	// HeaderKept stands before the name of an original header that could not be
	// published under its own: the server would obey it, or it is one of these.
	HeaderKept = "Ossuary-Kept-"

	// HeaderCoded has a value for each original header that a client of NATS may not
	// publish as it is (a name with a space or a parenthesis, a value that ends in a
	// space): its name and its values in base64, with commas between.
	HeaderCoded = "Ossuary-Coded"
)

// The headers by which the server takes a message once, and in its place only. It
// stores them.
var guards = []string{jetstream.MsgIDHeader, jetstream.ExpectedStreamHeader, jetstream.ExpectedLastSeqHeader, jetstream.ExpectedLastMsgIDHeader}

const ownPrefix, natsPrefix = "Ossuary-", "Nats-"

// place is where an event stood in its stream.
type place struct {
	incarnation int
	sequence    uint64
}

func (p place) compare(q place) int {
	switch {
	case p.incarnation != q.incarnation:
		return p.incarnation - q.incarnation
	case p.sequence < q.sequence:
		return -1
	case p.sequence > q.sequence:
		return 1
	}
	return 0
}

func (p place) String() string {
	if p.incarnation == 0 {
		return fmt.Sprintf("sequence %d", p.sequence)
	}
	return fmt.Sprintf("sequence %d of incarnation %d", p.sequence, p.incarnation)
}

// origin is an archived stream: what replayed messages are told apart by.
type origin struct{ archive, stream string }

// messageID is an event's Nats-Msg-Id: unlike that of any other message, which an
// event's original one need not be.
func (o origin) messageID(p place) string {
	return fmt.Sprintf("ossuary:%s:%s:%d:%d", o.archive, o.stream, p.incarnation, p.sequence)
}

// isKept reports whether an original header is published under another name: all
// that the server gives or may some day give a meaning to when it takes a message,
// and our own (of a replay that was archived).
func isKept(name string) bool {
	return hasPrefixFold(name, ownPrefix) || hasPrefixFold(name, natsPrefix)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// isPlain reports whether a client publishes the header as it is.
func isPlain(name string, values []string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || strings.IndexByte("\"()/,:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return name != "" && !slices.ContainsFunc(values, func(v string) bool {
		return textproto.TrimString(v) != v || strings.ContainsAny(v, "\r\n")
	})
}

func coded(name string, values []string) string {
	b := base64.StdEncoding.EncodeToString([]byte(name))
	for _, v := range values {
		b += "," + base64.StdEncoding.EncodeToString([]byte(v))
	}
	return b
}

// decoded is the reverse of coded; not ok if it was not made by it.
func decoded(s string) (name string, values []string, ok bool) {
	for i, part := range strings.Split(s, ",") {
		b, err := base64.StdEncoding.DecodeString(part)
		switch {
		case err != nil:
			return "", nil, false
		case i == 0:
			name = string(b)
		default:
			values = append(values, string(b))
		}
	}
	return name, values, true
}

// message makes the message of an archived event.
func (o origin) message(r *archive.Record, subjects *Mapper) (*nats.Msg, error) {
	l, err := r.Event()
	if err != nil {
		return nil, err
	}
	p := place{r.Incarnation, r.Sequence}
	m := &nats.Msg{Subject: subjects.Map(l.Subject), Data: slices.Clone(l.Data), Header: nats.Header{}}
	if m.Subject == "" || strings.ContainsAny(m.Subject, " \t\r\n") {
		return nil, fmt.Errorf("%s: its subject %q cannot be published to; leave it out with --subject, or map it", p, m.Subject)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		values := l.Header[name]
		switch {
		case !isPlain(name, values):
			m.Header[HeaderCoded] = append(m.Header[HeaderCoded], coded(name, values))
		case isKept(name):
			m.Header[HeaderKept+name] = slices.Clone(values)
		default:
			m.Header[name] = slices.Clone(values)
		}
	}
	for name, value := range map[string]string{
		HeaderArchive: o.archive, HeaderStream: o.stream, HeaderIncarnation: strconv.Itoa(p.incarnation),
		HeaderSequence: strconv.FormatUint(p.sequence, 10), HeaderTime: r.Time.UTC().Format(time.RFC3339Nano),
		jetstream.MsgIDHeader: o.messageID(p),
	} {
		m.Header[name] = []string{value}
	}
	if m.Subject != l.Subject {
		m.Header[HeaderSubject] = []string{l.Subject}
	}
	return m, nil
}

// placeOf says which event of the origin a message is; ok is false if it is none.
func (o origin) placeOf(h nats.Header) (p place, ok bool) {
	if one(h, HeaderArchive) != o.archive || one(h, HeaderStream) != o.stream {
		return p, false
	}
	var err error
	if p.incarnation, err = strconv.Atoi(one(h, HeaderIncarnation)); err != nil {
		return p, false
	}
	p.sequence, err = strconv.ParseUint(one(h, HeaderSequence), 10, 64)
	return p, err == nil && p.sequence > 0
}

func one(h nats.Header, name string) string {
	if v := h[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// original takes off a replayed message's headers what replaying put there. nil if
// nothing is left.
func original(h nats.Header) map[string][]string {
	out := map[string][]string{}
	for name, values := range h {
		kept, isKept := strings.CutPrefix(name, HeaderKept)
		switch {
		case isKept:
			out[kept] = values
		case name == HeaderCoded:
			for _, v := range values {
				if name, values, ok := decoded(v); ok {
					out[name] = values
				}
			}
		case hasPrefixFold(name, ownPrefix), slices.Contains(guards, name):
		default:
			out[name] = values
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// differs says in words how a replayed message is not the event; "" if it is.
func differs(r *archive.Record, subjects *Mapper, m *stored) (string, error) {
	l, err := r.Event()
	if err != nil {
		return "", err
	}
	headers := original(m.header)
	switch {
	case subjects.Map(l.Subject) != m.subject:
		return fmt.Sprintf("subject %q, archived is %q", m.subject, l.Subject), nil
	case string(l.Data) != string(m.data):
		return fmt.Sprintf("a payload of %d bytes that is not the archived one of %d", len(m.data), len(l.Data)), nil
	case !maps.EqualFunc(headers, l.Header, slices.Equal):
		return fmt.Sprintf("headers %v, archived are %v", headers, l.Header), nil
	case one(m.header, HeaderTime) != r.Time.UTC().Format(time.RFC3339Nano):
		return fmt.Sprintf("time %s, archived is %s", one(m.header, HeaderTime), r.Time.UTC().Format(time.RFC3339Nano)), nil
	}
	return "", nil
}
