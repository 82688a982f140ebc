package event

import (
	"bytes"
	"fmt"
	"time"
)

// Sequences yields the stream sequence of each line of a data frame, in order,
// with its timestamp (zero in the raw format, which has none). It fails with a
// *CorruptError where lines and header disagree on count, order or bounds,
// possibly after it has yielded some; if yield returns false it ends early,
// without an error. A seal or break has no lines.
func Sequences(f *Frame, body []byte, yield func(seq uint64, t time.Time) bool) error {
	n := &f.Content
	if n.Kind != KindData {
		return nil
	}
	corrupt := func(format string, a ...any) error {
		return &CorruptError{f.Place.Position, fmt.Sprintf(format, a...)}
	}
	if lines := bytes.Count(body, []byte{'\n'}); lines != n.Count {
		return corrupt("%d lines, the header counts %d", lines, n.Count)
	}
	if n.Format == Raw {
		err := DecodeSeqs(n.Seqs, n.First, n.Last, n.Count, func(seq uint64) bool { return yield(seq, time.Time{}) })
		if err != nil {
			return corrupt("%v", err)
		}
		return nil
	}
	var last uint64
	var least, greatest time.Time
	for i := 0; i < n.Count; i++ {
		end := bytes.IndexByte(body, '\n')
		seq, t, ok := lineFront(body[:end])
		body = body[end+1:]
		switch {
		case !ok:
			return corrupt("line %d does not start with seq and ts", i+1)
		case i == 0 && seq != n.First:
			return corrupt("the first line has sequence %d, the header says %d", seq, n.First)
		case i > 0 && seq <= last:
			return corrupt("sequence %d comes after %d", seq, last)
		}
		last = seq
		if i == 0 || t.Before(least) {
			least = t
		}
		if i == 0 || t.After(greatest) {
			greatest = t
		}
		if !yield(seq, t) {
			return nil
		}
	}
	switch {
	case last != n.Last:
		return corrupt("the last line has sequence %d, the header says %d", last, n.Last)
	case !least.Equal(n.MinTime) || !greatest.Equal(n.MaxTime):
		return corrupt("the lines' timestamps are not within the bounds that the header says")
	}
	return nil
}

// lineFront reads the two members that every envelope line starts with.
func lineFront(p []byte) (seq uint64, t time.Time, ok bool) {
	const front, middle = `{"seq":`, `,"ts":`
	if !bytes.HasPrefix(p, []byte(front)) {
		return 0, t, false
	}
	seq, i := parseSequence(p, len(front))
	if i < 0 || !bytes.HasPrefix(p[i:], []byte(middle)) {
		return 0, t, false
	}
	t, i, err := parseTime(p, i+len(middle))
	return seq, t, err == nil && i >= 0
}
