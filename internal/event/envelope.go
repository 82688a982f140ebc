package event

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// pinHeader is added by the server at delivery time and differs from one
// delivery to the next; archived bytes must not depend on it.
const pinHeader = "Nats-Pin-Id"

// Encoder makes a line of an event. The zero value writes envelopes and looks at
// every payload. Equal events give equal bytes.
type Encoder struct {
	Format  Format
	Payload Payload // for Envelope
	Newline Newline // for Raw
}

// Append appends e as one line with its newline to dst. An event that cannot be
// encoded in this way gives a *PoisonError and dst as it was.
func (enc Encoder) Append(dst []byte, e *Event) ([]byte, error) {
	if enc.Format == Raw {
		return enc.appendRaw(dst, e)
	}
	out := appendFront(dst, e)
	out = appendHeaders(out, e.Header)
	out, reason := appendPayload(out, e.Data, enc.Payload)
	if reason != "" {
		return dst, &PoisonError{reason}
	}
	return append(out, '}', '\n'), nil
}

// AppendDeadLetter appends e as an envelope line that says why it could not go
// where its route wanted it. It always succeeds. route is "" where none matched.
func AppendDeadLetter(dst []byte, e *Event, reason, route string) []byte {
	dst = appendFront(dst, e)
	dst = append(dst, `,"reason":`...)
	dst = appendString(dst, strings.ToValidUTF8(reason, "\ufffd"))
	dst = append(dst, `,"route":`...)
	dst = appendString(dst, strings.ToValidUTF8(route, "\ufffd"))
	dst = appendHeaders(dst, e.Header)
	dst, _ = appendPayload(dst, e.Data, Auto)
	return append(dst, '}', '\n')
}

func appendFront(dst []byte, e *Event) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, e.Sequence, 10)
	dst = append(dst, `,"ts":"`...)
	dst = e.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	if utf8.ValidString(e.Subject) {
		dst = append(dst, `,"subject":`...)
		return appendString(dst, e.Subject)
	}
	dst = append(dst, `,"subject64":`...)
	return appendBase64(dst, e.Subject)
}

// appendHeaders writes names in ascending order of their bytes. A name goes to
// headers64, with all its values and everything in base64, if the name or one
// of the values is not UTF-8.
func appendHeaders(dst []byte, header map[string][]string) []byte {
	if len(header) == 0 {
		return dst
	}
	var few [16]string // stays on the stack
	names, binary := few[:0], 0
	for name, values := range header {
		if name == pinHeader {
			continue
		}
		names = append(names, name)
		if !textual(name, values) {
			binary++
		}
	}
	slices.Sort(names)
	if len(names) > binary {
		dst = appendHeaderObject(dst, `,"headers":{`, names, header, true)
	}
	if binary > 0 {
		dst = appendHeaderObject(dst, `,"headers64":{`, names, header, false)
	}
	return dst
}

func appendHeaderObject(dst []byte, open string, names []string, header map[string][]string, text bool) []byte {
	dst = append(dst, open...)
	first := true
	for _, name := range names {
		values := header[name]
		if textual(name, values) != text {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendHeaderString(dst, name, text)
		dst = append(dst, ':', '[')
		for i, v := range values {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendHeaderString(dst, v, text)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendHeaderString(dst []byte, s string, text bool) []byte {
	if text {
		return appendString(dst, s)
	}
	return appendBase64(dst, s)
}

func textual(name string, values []string) bool {
	if !utf8.ValidString(name) {
		return false
	}
	for _, v := range values {
		if !utf8.ValidString(v) {
			return false
		}
	}
	return true
}

// appendPayload appends the last member of the line, or returns the reason why
// mode cannot carry data.
func appendPayload(dst, data []byte, mode Payload) (out []byte, poison string) {
	switch mode {
	case JSON:
		if bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0 {
			return dst, "payload holds a raw newline, which a json payload cannot"
		}
		// An empty payload is no JSON value, and outer white space would be lost to
		// readers: these go the way of Auto even where the route vouches for JSON.
		if len(data) == 0 || isSpace(data[0]) || isSpace(data[len(data)-1]) {
			return appendAuto(dst, data), ""
		}
		dst = append(dst, `,"data":`...)
		return append(dst, data...), ""
	case Text:
		if !utf8.Valid(data) {
			return dst, "payload is not UTF-8, which a text payload must be"
		}
		dst = append(dst, `,"text":`...)
		return appendText(dst, data), ""
	case Base64:
		dst = append(dst, `,"base64":`...)
		return appendBase64(dst, data), ""
	default:
		return appendAuto(dst, data), ""
	}
}

func appendAuto(dst, data []byte) []byte {
	switch {
	case embeddable(data):
		dst = append(dst, `,"data":`...)
		return append(dst, data...)
	case utf8.Valid(data):
		dst = append(dst, `,"text":`...)
		return appendText(dst, data)
	default:
		dst = append(dst, `,"base64":`...)
		return appendBase64(dst, data)
	}
}

func appendBase64[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	n := base64.StdEncoding.EncodedLen(len(s))
	dst = slices.Grow(dst, n+1)
	// In pieces through the stack, so that a string is not copied to the heap.
	var piece [384]byte
	for len(s) > 0 {
		k := copy(piece[:], s)
		dst = base64.StdEncoding.AppendEncode(dst, piece[:k])
		s = s[k:]
	}
	return append(dst, '"')
}
