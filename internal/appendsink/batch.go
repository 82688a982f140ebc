package appendsink

import (
	"time"

	"ossuary/internal/event"
)

// What an event costs in a batch besides its line.
const eventOverhead = 8 + 8 + 8 + 8

// maxSeqs bounds the sequence list that the header of a raw frame carries, in
// bytes before base64, so that a header always fits a gzip extra field.
const maxSeqs = 30 << 10

// Grown is how many bytes of lines, but for the last one, a batch takes that is sent
// with size of them: while an append of its series is under way the next batch goes on
// to fill. So appends are small while the store keeps up, and larger when it does not.
func Grown(size int) int {
	const growth, most = 4, 16 << 20
	return max(size, min(growth*size, most))
}

// batch is the events of one append: their lines, ready to be framed, and what
// is needed to drop some of them again. Guarded by the Set's mu while it fills;
// owned by the series' worker afterwards.
type batch struct {
	spec  *Spec
	body  body
	ends  []int // end of each line in body
	seqs  []uint64
	times []int64 // Unix nanoseconds
	slots []uint64
	marks []mark // nil: none is marked

	seqBytes int       // raw: an upper bound of the header's sequence list
	cost     int64     // bytes of the budget that it holds
	due      time.Time // when it is sent although it is not full
	enough   bool      // to be sent once the line is free; until then it takes more
	full     bool
}

// mark is what reading forward found out about a waiting event.
type mark uint8

const (
	unmarked  mark = iota
	inSeries       // an adopted frame holds it
	overtaken      // adopted frames have passed it, but do not hold it
	// fresh: besides, the frames stand behind the last place where the object is
	// known to hold what was read.
	fresh mark = 1 << 7
)

// found is what is known about an event, fresh or not.
func (b *batch) found(i int) mark {
	if b.marks == nil {
		return unmarked
	}
	return b.marks[i] &^ fresh
}

func (b *batch) mark(i int, m mark) {
	if b.marks == nil && m != unmarked {
		b.marks = make([]mark, len(b.seqs), cap(b.seqs))
	}
	if b.marks != nil {
		b.marks[i] = m
	}
}

func (b *batch) len() int { return len(b.seqs) }

func (b *batch) line(i int) []byte {
	start := 0
	if i > 0 {
		start = b.ends[i-1]
	}
	return b.body.line(start, b.ends[i])
}

// push records the event whose line was added to body.
func (b *batch) push(e *event.Event, slot uint64) {
	if b.spec.Encoder.Format == event.Raw {
		b.seqBytes += 3
		if n := len(b.seqs); n > 0 && e.Sequence-b.seqs[n-1] >= 1<<21 {
			b.seqBytes += 7
		}
	}
	if b.seqs == nil { // not from one on: that would be three more times to make room
		const few = 4
		b.ends, b.seqs, b.times, b.slots = make([]int, 0, few), make([]uint64, 0, few), make([]int64, 0, few), make([]uint64, 0, few)
	}
	b.ends = append(b.ends, b.body.size)
	b.seqs = append(b.seqs, e.Sequence)
	b.times = append(b.times, e.Time.UnixNano())
	b.slots = append(b.slots, slot)
	if b.marks != nil {
		b.marks = append(b.marks, unmarked)
	}
	f := &b.spec.Flush
	b.enough = b.body.size >= f.Size
	b.full = b.enough && int64(b.body.size) >= min(int64(Grown(f.Size)), b.spec.rollSize()) || len(b.seqs) >= f.Events || b.seqBytes > maxSeqs
}

// memory is what the batch's buffers take.
func (b *batch) memory() int64 {
	return b.body.memory + eventOverhead*int64(cap(b.seqs))
}

// keep drops every event for which keep is false.
func (b *batch) keep(keep func(i int) bool) {
	kept := make([]bool, len(b.seqs))
	for i := range kept {
		kept[i] = keep(i)
	}
	b.body.cut(b.ends, func(i int) bool { return kept[i] })
	n, start, size := 0, 0, 0
	for i, end := range b.ends {
		if kept[i] {
			size += end - start
			b.ends[n], b.seqs[n], b.times[n], b.slots[n] = size, b.seqs[i], b.times[i], b.slots[i]
			if b.marks != nil {
				b.marks[n] = b.marks[i]
			}
			n++
		}
		start = end
	}
	b.ends, b.seqs, b.times, b.slots = b.ends[:n], b.seqs[:n], b.times[:n], b.slots[:n]
	if b.marks != nil {
		b.marks = b.marks[:n]
	}
}

// span returns the smallest and greatest timestamp.
func (b *batch) span() (lo, hi time.Time) {
	l, h := b.times[0], b.times[0]
	for _, t := range b.times[1:] {
		l, h = min(l, t), max(h, t)
	}
	return time.Unix(0, l).UTC(), time.Unix(0, h).UTC()
}
