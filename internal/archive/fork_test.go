package archive

import (
	"slices"
	"strings"
	"testing"

	"ossuary/internal/control"
	"ossuary/internal/event"
)

// Two first segments: an old writer began a series under its layout, with an event
// that was gone from the stream for a new one, which began it under another codec
// at the same time. The protocol does not rule that out, so it has to be noticed,
// and the object be named that no reader looks at.
func TestTwoFirstSegments(t *testing.T) {
	for name, c := range map[string]struct {
		old, new event.Codec
		rolls    bool // the new writer has gone on to a second segment
		twice    bool // one that knew of the old segment only has archived the events again
	}{
		"read first":         {old: event.Gzip, new: event.Zstd},
		"read last":          {old: event.Zstd, new: event.Gzip},
		"read first, rolled": {old: event.Gzip, new: event.Zstd, rolls: true},
		"read last, rolled":  {old: event.Zstd, new: event.Gzip, rolls: true},
		"twice":              {old: event.Gzip, new: event.Zstd, twice: true},
		"twice, read last":   {old: event.Zstd, new: event.Gzip, twice: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuilder(t, c.old)
			first := b.open("orders/eu").put(1)
			old := first.key
			b.layout.Routes[1].Codec = c.new.String()
			b.saveLayout(2)
			b.say(func(s *control.State) { s.Layouts = append(s.Layouts, control.Since{Layout: 2, Since: 2}) })
			delete(b.series, "orders/eu")
			b.codec = c.new
			second := b.open("orders/eu").put(2, 3)
			fork := second.key
			if c.rolls {
				second.seal().put(4)
			}
			if c.twice {
				b.codec = c.old
				first.ext = second.ext
				first.seal()
				b.codec = c.new
				first.put(2, 3)
			}
			opt := b.options()
			opt.Ledger = nil // which would say it in its own way
			r := verify(t, opt)
			unread := max(old, fork) // by name
			if r.Result != Damaged || !slices.ContainsFunc(r.Problems, func(p Finding) bool {
				return p.Key == unread && strings.HasPrefix(p.What, "no seal or break names this segment")
			}) {
				t.Errorf("verify does not name %s:\n%s", unread, dump(r))
			}
		})
	}
}
