package event

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// appendRaw appends the payload and a newline.
func (enc Encoder) appendRaw(dst []byte, e *Event) ([]byte, error) {
	p := e.Data
	if enc.Newline == EscapeNewline {
		for {
			i := bytes.IndexAny(p, "\\\n\r")
			if i < 0 {
				break
			}
			dst = append(dst, p[:i]...)
			switch p[i] {
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			default:
				dst = append(dst, '\\', '\\')
			}
			p = p[i+1:]
		}
	} else if bytes.IndexByte(p, '\n') >= 0 || bytes.IndexByte(p, '\r') >= 0 {
		return dst, &PoisonError{"payload holds a newline, which a raw line cannot (newline: escape would)"}
	}
	dst = append(dst, p...)
	return append(dst, '\n'), nil
}

// AppendSeqs appends the text of Content.Seqs for a raw frame's sequences, which
// rise: the base64 of one uvarint per event after the first, its distance from
// the event before. Sequences without a gap are told by First and Last alone and
// give nothing.
func AppendSeqs(dst []byte, seqs []uint64) []byte {
	n := len(seqs)
	if n == 0 || seqs[n-1]-seqs[0] == uint64(n-1) {
		return dst
	}
	deltas := make([]byte, 0, n+n/8)
	for i := 1; i < n; i++ {
		deltas = binary.AppendUvarint(deltas, seqs[i]-seqs[i-1])
	}
	return base64.StdEncoding.AppendEncode(dst, deltas)
}

// DecodeSeqs yields the sequences of a raw frame, in order, from its header's
// Seqs, First, Last and Count. It fails where these do not agree, possibly after
// it has yielded some, and ends early, without an error, if yield returns false.
func DecodeSeqs(s string, first, last uint64, count int, yield func(seq uint64) bool) error {
	if count < 1 || last < first || uint64(count-1) > last-first {
		return fmt.Errorf("%d sequences do not fit into %d to %d", count, first, last)
	}
	if s == "" {
		if last-first != uint64(count-1) {
			return fmt.Errorf("%d sequences from %d to %d have gaps, but seqs is missing", count, first, last)
		}
		for i := range uint64(count) {
			if !yield(first + i) {
				return nil
			}
		}
		return nil
	}
	deltas, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return fmt.Errorf("seqs: %w", err)
	}
	at := first
	if !yield(at) {
		return nil
	}
	for range count - 1 {
		d, n := binary.Uvarint(deltas)
		if n <= 0 || d == 0 || d > last-at {
			return errors.New("seqs does not rise from first to last")
		}
		at, deltas = at+d, deltas[n:]
		if !yield(at) {
			return nil
		}
	}
	if len(deltas) > 0 || at != last {
		return errors.New("seqs does not end at last")
	}
	return nil
}
