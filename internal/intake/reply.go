package intake

import (
	"math"
	"strconv"
	"strings"
)

// How a delivery's reply subject is kept. To acknowledge a message is to publish to
// its reply, byte for byte as it came; but of all replies of a window one in some
// thousands is ever published to, and each would keep a hundred bytes of heap. All that
// differs among those of an epoch are numbers, which a slot has anyway. So the rest is
// kept once, and a reply that is not made up just so is kept as it came.

// reply is a delivery's reply subject with what was read of it.
type reply struct {
	text                         string
	from, to                     int  // where its numbers stand, with the dots between them
	plain                        bool // no number has a zero before it
	delivered, consumer, pending uint64
}

// due is an acknowledgement to be sent.
type due struct {
	n    uint64
	slot slot
	odd  string // the reply, if it was kept
}

// replies makes the replies of an epoch.
type replies struct {
	known          bool
	prefix, suffix string // before and behind the numbers
}

// makes reports whether the reply of slot n can be made of the slot again; the first
// one says how. It is the numbers of that reply that the slot has.
func (m *replies) makes(r *reply, n uint64) bool {
	if !r.plain || r.delivered != 1 || r.consumer != n || r.pending > math.MaxUint32 {
		return false
	}
	if !m.known {
		// Copies: the slices would keep the reply, and perhaps what it was cut from.
		m.known, m.prefix, m.suffix = true, strings.Clone(r.text[:r.from]), strings.Clone(r.text[r.to:])
	}
	return r.text[:r.from] == m.prefix && r.text[r.to:] == m.suffix
}

// of is the reply of a slot.
func (m *replies) of(d *due) string {
	if d.odd != "" {
		return d.odd
	}
	var room [160]byte
	b := append(room[:0], m.prefix...)
	b = append(b, "1."...)
	b = strconv.AppendUint(b, d.slot.sequence, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, d.n, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(d.slot.at), 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(d.slot.pending), 10)
	b = append(b, m.suffix...)
	return string(b)
}
