package redrive

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/event"
)

// The headers of a letter that was sent again. Of an event that becomes a dead
// letter more than once, those of its origin stay what they were the first time.
const (
	HeaderID       = "Ossuary-Redrive"  // archive/stream/incarnation/sequence of the dead letter, unlike for all
	HeaderReason   = "Ossuary-Reason"   // why it was one
	HeaderStream   = "Ossuary-Stream"   // of its origin
	HeaderSequence = "Ossuary-Sequence" // likewise
	HeaderTime     = "Ossuary-Time"     // likewise: the stream timestamp

	msgIDPrefix = "ossuary-redrive:"
	natsHeaders = "Nats-"
)

// Letter is one dead letter.
type Letter struct {
	Name
	Series string // that it stands in
	event.Event
	Reason string
	Route  string // "" where none matched

	Raw bool // it would be archived in the raw form, in which nobody knows it again
}

// ID is the value of HeaderID. The parts but for the archive's name are as in a
// frame; the archive's and the stream's name have no slash.
func (n Name) ID(archive, source string) string {
	return fmt.Sprintf("%s/%s/%d/%d", archive, source, n.Incarnation, n.Sequence)
}

// ParseID is the letter that a HeaderID names, if it is one of this source.
func ParseID(id, archive, source string) (n Name, ok bool) {
	rest, ok := strings.CutPrefix(id, archive+"/"+source+"/")
	if !ok {
		return n, false
	}
	inc, seq, ok := strings.Cut(rest, "/")
	if !ok {
		return n, false
	}
	var err1, err2 error
	n.Incarnation, err1 = strconv.Atoi(inc)
	n.Sequence, err2 = strconv.ParseUint(seq, 10, 64)
	return n, err1 == nil && err2 == nil && n.ID(archive, source) == id
}

// Message is what is published of a letter. Payload and headers are the event's
// own, without those that the server acts on: a message id of long ago, a
// condition that held then, a roll-up that would empty the subject once more.
func (l *Letter) Message(archive, source, subject string) *nats.Msg {
	id := l.ID(archive, source)
	h := nats.Header{}
	for k, v := range l.Header {
		if !strings.HasPrefix(k, natsHeaders) {
			h[k] = v
		}
	}
	if _, again := h[HeaderStream]; !again {
		h.Set(HeaderStream, source)
		h.Set(HeaderSequence, strconv.FormatUint(l.Sequence(), 10))
		h.Set(HeaderTime, l.Time.UTC().Format(time.RFC3339Nano))
	}
	h.Set(HeaderReason, strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, l.Reason))
	h.Set(HeaderID, id)
	h.Set(jetstream.MsgIDHeader, msgIDPrefix+id)
	return &nats.Msg{Subject: subject, Header: h, Data: l.Data}
}

// Sequence is the letter's own. (Name and Event both have one, and they agree.)
func (l *Letter) Sequence() uint64 { return l.Name.Sequence }
