package appendsink

import (
	"fmt"
	"strings"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/ledger"
)

// tail is what a writer knows of a series: where the next append goes and what
// the frames before it hold. It may lag behind the object.
type tail struct {
	key      string
	codec    event.Codec
	format   event.Format
	position int64
	crc      uint64 // of the segment's bytes before position
	chain    event.Chain
	events   uint64    // in the segment
	bytes    int64     // uncompressed, in the segment
	opened   time.Time // first append of the segment, or when it was found; zero if none
	written  time.Time // last append or adoption

	// proven is the chain where length and CRC-64 of the whole object last agreed
	// with it. Frames adopted since may stand behind bytes that do not hold.
	proven  event.Chain
	before  event.Chain // of a rescan: what the segment follows, as far as that is known
	entered bool        // at a segment's start, before frames that are there
	looked  bool        // spent: there is no segment above, or was none a moment ago
	suspect bool        // the segment's bytes are not what was known of them: read it from its start

	// The frames of the segment, for its seal. complete: from the first on.
	index    []event.IndexEntry
	hashes   []event.Hash
	complete bool
}

// newTail is the tail of a segment nothing is known of but its key.
func (t *Set) newTail(series, key string) (*tail, error) {
	name, segment, ext, ok := event.ParseKey(t.opt.Prefix, key)
	if !ok || name != series {
		return nil, fmt.Errorf("object %s is no segment of series %s", key, series)
	}
	format, codec, ok := event.ParseExt(ext)
	if !ok {
		return nil, fmt.Errorf("object %s: the ending %q is of no known codec; it was written by a newer version", key, ext)
	}
	n := &tail{key: key, codec: codec, format: format, complete: true,
		chain: event.Chain{Archive: t.opt.Archive, Source: t.opt.Source, Lane: t.opt.Lane, Series: series, Segment: segment}}
	n.proven = n.chain
	return n, nil
}

// anchor says that nothing came before the tail.
func (n *tail) anchor() { n.chain.Anchored, n.proven.Anchored = true, true }

// tailOf is the tail that a ledger entry remembers.
func (t *Set) tailOf(series string, e ledger.Tail) (*tail, error) {
	n, err := t.newTail(series, e.Key)
	if err != nil {
		return nil, err
	}
	n.position, n.crc, n.events, n.bytes, n.opened, n.written = e.Position, e.CRC64, e.Events, e.Bytes, e.Opened, e.Written
	n.complete = e.Position == 0
	c := &n.chain
	c.Frame, c.Prev, c.Anchored = e.Frames, e.Hash, true
	c.Last, c.Greatest, c.Created, c.Incarnation = e.Last, e.Greatest, e.Created, e.Incarnation
	n.proven = n.chain
	return n, nil
}

func (n *tail) entry(route string) ledger.Tail {
	c := &n.chain
	return ledger.Tail{Version: ledger.Version, Key: n.key, Segment: c.Segment, Position: n.position, CRC64: n.crc,
		Frames: c.Frame, Last: c.Last, Greatest: c.Greatest, Created: c.Created, Incarnation: c.Incarnation, Hash: c.Prev,
		Events: n.events, Bytes: n.bytes, Opened: n.opened, Written: n.written, Sealed: n.spent(), Route: route}
}

// spent says that the series ended with a seal and nothing came after it.
func (n *tail) spent() bool { return n.position == 0 && n.chain.Segment > 1 }

// advance moves the tail behind a frame of size bytes, after which the segment's
// CRC-64 is crc.
func (n *tail) advance(f *event.Frame, size int64, crc uint64, uncompressed int) {
	if n.chain.Frame == 0 && n.position == 0 {
		// Not the events' time: a backlog may be older than any segment gets.
		n.opened = time.Now().UTC()
	}
	if n.complete {
		n.index = append(n.index, event.IndexEntry{Position: n.position, First: f.Content.First, MinTime: f.Content.MinTime})
		n.hashes = append(n.hashes, f.Hash)
	}
	n.chain.Advance(f)
	n.position += size
	n.crc = crc
	n.events += uint64(f.Content.Count)
	n.bytes += int64(uncompressed)
	n.written = time.Now().UTC()
}

// follow moves the tail to the segment that a seal or a break names.
func (t *Set) follow(n *tail, key string) (*tail, error) {
	next, err := t.newTail(n.chain.Series, key)
	if err != nil {
		return nil, err
	}
	next.chain = n.chain
	// Behind a seal or break the chain has moved on already; a segment that was
	// left without one has not.
	_, segment, _, _ := event.ParseKey(t.opt.Prefix, key)
	next.chain.Segment, next.chain.Frame = segment, 0
	next.written = n.written
	next.proven = next.chain
	return next, nil
}

// clip keeps a reason short enough for a header, whatever foreign bytes said.
func clip(reason string) string {
	const most = 400
	if len(reason) <= most {
		return reason
	}
	return strings.ToValidUTF8(reason[:most], "") + "…"
}

// segmentRoot is the RFC 6962 root over the content hashes of a segment.
func segmentRoot(hashes []event.Hash) event.Hash {
	var t event.Tree
	for i := range hashes {
		t.Add(hashes[i][:])
	}
	return t.Root()
}
