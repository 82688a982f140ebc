package event

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// The header's JSON, written by hand: encoding/json took eight times as long for it
// and made 16 of a frame's 19 allocations. The bytes are those of encoding/json
// without HTML escapes, to the last (TestHeaderIsJSON, FuzzHeaderIsJSON), and stay so:
// the chain hashes them, and equal content shall have equal frames whoever wrote them.

// appendContent appends n as compact JSON. Text that is not UTF-8 would be altered,
// which n.wrong refuses.
func appendContent(dst []byte, n *Content) (_ []byte, err error) {
	dst = append(dst, `{"v":`...)
	dst = strconv.AppendInt(dst, int64(n.Version), 10)
	for i, s := range n.Must {
		if i == 0 {
			dst = append(dst, `,"must":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendQuoted(dst, s)
		if i == len(n.Must)-1 {
			dst = append(dst, ']')
		}
	}
	dst = appendField(dst, `,"kind":`, n.Kind)
	dst = appendField(dst, `,"archive":`, n.Archive)
	dst = appendField(dst, `,"source":`, n.Source)
	dst = appendField(dst, `,"stream":{"name":`, n.Stream.Name)
	if dst, err = appendTime(dst, `,"created":`, n.Stream.Created); err != nil {
		return nil, err
	}
	dst = appendNumber(dst, `,"incarnation":`, int64(n.Stream.Incarnation))
	dst = appendNumber(dst, `},"layout":`, int64(n.Layout))
	dst = appendField(dst, `,"lane":`, n.Lane)
	dst = appendField(dst, `,"series":`, n.Series)
	dst = appendNumber(dst, `,"segment":`, int64(n.Segment))
	dst = appendNumber(dst, `,"frame":`, int64(n.Frame))
	if int(n.Format) >= len(formatNames) {
		return nil, fmt.Errorf("unknown format %d", n.Format)
	}
	dst = appendField(dst, `,"format":`, formatNames[n.Format])
	if n.First != 0 {
		dst = strconv.AppendUint(append(dst, `,"first":`...), n.First, 10)
	}
	if n.Last != 0 {
		dst = strconv.AppendUint(append(dst, `,"last":`...), n.Last, 10)
	}
	for _, t := range []struct {
		name string
		time time.Time
	}{{`,"min_time":`, n.MinTime}, {`,"max_time":`, n.MaxTime}, {`,"greatest":`, n.Greatest}} {
		if t.time.IsZero() {
			continue
		}
		if dst, err = appendTime(dst, t.name, t.time); err != nil {
			return nil, err
		}
	}
	if n.Count != 0 {
		dst = appendNumber(dst, `,"count":`, int64(n.Count))
	}
	dst = appendHash(dst, `,"sha256":`, &n.SHA256)
	dst = appendHash(dst, `,"prev":`, &n.Prev)
	if n.EventsRoot != nil {
		dst = appendHash(dst, `,"events":`, n.EventsRoot)
	}
	if n.Seqs != "" {
		dst = appendField(dst, `,"seqs":`, n.Seqs)
	}
	if n.Next != "" {
		dst = appendField(dst, `,"next":`, n.Next)
	}
	if n.Reason != "" {
		dst = appendField(dst, `,"reason":`, n.Reason)
	}
	if n.Valid != 0 {
		dst = appendNumber(dst, `,"valid":`, n.Valid)
	}
	if n.SegmentRoot != nil {
		dst = appendHash(dst, `,"segment_root":`, n.SegmentRoot)
	}
	return append(dst, '}'), nil
}

// appendPlace does so with p.
func appendPlace(dst []byte, p *Place) ([]byte, error) {
	dst = appendNumber(dst, `{"position":`, p.Position)
	dst = appendNumber(dst, `,"length":`, p.Length)
	if p.Trailer != 0 {
		dst = appendNumber(dst, `,"trailer":`, p.Trailer)
	}
	if int(p.Codec) >= len(codecNames) {
		return nil, fmt.Errorf("unknown codec %d", p.Codec)
	}
	dst = appendField(dst, `,"codec":`, codecNames[p.Codec])
	if p.Enc != "" {
		dst = appendField(dst, `,"enc":`, p.Enc)
	}
	dst = appendHash(dst, `,"content":`, &p.Content)
	return append(dst, '}'), nil
}

func appendNumber(dst []byte, name string, v int64) []byte {
	return strconv.AppendInt(append(dst, name...), v, 10)
}

func appendField(dst []byte, name, v string) []byte {
	return appendQuoted(append(dst, name...), v)
}

func appendHash(dst []byte, name string, h *Hash) []byte {
	dst = append(append(dst, name...), '"')
	return append(hex.AppendEncode(dst, h[:]), '"')
}

// appendTime fails where RFC 3339 has no form for t.
func appendTime(dst []byte, name string, t time.Time) ([]byte, error) {
	dst, err := t.AppendText(append(append(dst, name...), '"'))
	return append(dst, '"'), err
}

// appendQuoted appends s as a JSON string. Unlike appendString's, its escapes are
// encoding/json's, which is asked where there are any.
func appendQuoted(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || !plain[c] {
			return append(dst, quoted(s)...)
		}
	}
	dst = append(append(dst, '"'), s...)
	return append(dst, '"')
}

func quoted(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string has no way to fail
	return bytes.TrimSuffix(b.Bytes(), newline)
}
