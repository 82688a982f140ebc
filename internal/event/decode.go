package event

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Line is an envelope line taken apart.
type Line struct {
	Event
	Reason, Route string // of a dead letter
	Dead          bool   // the line is a dead letter: it has a reason

	// Payload says how the line carries the payload: JSON, Text or Base64. Where a
	// route vouched for its producers (payload: json), Data may be no JSON after
	// all; whoever wants to know checks it.
	Payload Payload
}

const (
	memberSeq = 1 << iota
	memberTime
	memberSubject
	memberHeaders
	memberHeaders64
	memberReason
	memberRoute
	memberPayload
)

// DecodeLine takes an envelope line apart, with or without its newline. The event
// comes back as it was, byte for byte: Data may share p's memory. Members that it
// does not know are ignored. l is overwritten; after an error its content is
// undefined.
//
// The payload is the last member, so that even a data that is no JSON value has
// an end: the line's.
func DecodeLine(p []byte, l *Line) error {
	*l = Line{}
	if n := len(p); n > 0 && p[n-1] == '\n' {
		p = p[:n-1]
	}
	if len(p) < 2 || p[0] != '{' || p[len(p)-1] != '}' {
		return errors.New("line is no JSON object")
	}
	seen := 0
	for i := 1; ; i++ { // p[i-1] is the opening brace or a comma
		end := skipKey(p, i)
		if end < 0 {
			return fmt.Errorf("no member name at byte %d of the line", i)
		}
		name := p[i+1 : end-2]
		bit := memberBit(name)
		if seen&bit != 0 {
			return fmt.Errorf("line has %q twice", name)
		}
		seen |= bit
		if bit == memberPayload {
			if err := l.payload(name, p[end:len(p)-1]); err != nil {
				return err
			}
			break
		}
		next, err := l.member(name, p, end)
		if err != nil {
			return err
		}
		if next < 0 || next >= len(p) || p[next] != ',' {
			return fmt.Errorf("bad value of %q at byte %d of the line, or no payload after it", name, end)
		}
		i = next
	}
	const needed = memberSeq | memberTime | memberSubject
	if seen&needed != needed {
		return errors.New("line lacks seq, ts or subject")
	}
	l.Dead = seen&memberReason != 0
	return nil
}

// skipKey returns the index behind `"name":`.
func skipKey(p []byte, i int) int {
	if i >= len(p) || p[i] != '"' {
		return -1
	}
	if i = skipString(p, i); i < 0 || i >= len(p) || p[i] != ':' {
		return -1
	}
	return i + 1
}

func memberBit(name []byte) int {
	switch string(name) {
	case "seq":
		return memberSeq
	case "ts":
		return memberTime
	case "subject", "subject64":
		return memberSubject
	case "headers":
		return memberHeaders
	case "headers64":
		return memberHeaders64
	case "reason":
		return memberReason
	case "route":
		return memberRoute
	case "data", "text", "base64":
		return memberPayload
	}
	return 0
}

// member takes the value at i and returns the index behind it, -1 if it is no
// value of the kind that it must be.
func (l *Line) member(name, p []byte, i int) (next int, err error) {
	switch string(name) {
	case "seq":
		l.Sequence, next = parseSequence(p, i)
		return next, nil
	case "ts":
		l.Time, next, err = parseTime(p, i)
		return next, err
	case "headers", "headers64":
		return l.headers(p, i, len(name) == len("headers64"))
	case "subject", "subject64", "reason", "route":
		v, next, err := parseString(p, i)
		if err != nil || next < 0 {
			return next, err
		}
		switch string(name) {
		case "subject":
			l.Subject = string(v)
		case "subject64":
			v, err = unbase64(v)
			l.Subject = string(v)
		case "reason":
			l.Reason = string(v)
		default:
			l.Route = string(v)
		}
		return next, err
	}
	return skipValue(p, i), nil
}

func (l *Line) payload(name, p []byte) error {
	if string(name) == "data" {
		if len(p) == 0 {
			return errors.New("data is empty")
		}
		l.Payload, l.Data = JSON, p
		return nil
	}
	v, next, err := parseString(p, 0)
	if err != nil {
		return err
	}
	if next != len(p) {
		return fmt.Errorf("%s is no string, or not the line's last member", name)
	}
	l.Payload, l.Data = Text, v
	if string(name) == "base64" {
		l.Payload = Base64
		l.Data, err = unbase64(v)
	}
	return err
}

func (l *Line) headers(p []byte, i int, binary bool) (int, error) {
	if i >= len(p) || p[i] != '{' {
		return -1, nil
	}
	if l.Header == nil {
		l.Header = make(map[string][]string)
	}
	if i+1 < len(p) && p[i+1] == '}' {
		return i + 2, nil
	}
	for {
		name, next, err := parseHeaderString(p, i+1, binary)
		if err != nil || next < 0 || next+1 >= len(p) || p[next] != ':' || p[next+1] != '[' {
			return -1, err
		}
		if _, twice := l.Header[name]; twice {
			return -1, fmt.Errorf("line has header %q twice", name)
		}
		values := []string{}
		if next++; next+1 < len(p) && p[next+1] == ']' {
			next++
		} else {
			for {
				var v string
				v, next, err = parseHeaderString(p, next+1, binary)
				if err != nil || next < 0 || next >= len(p) {
					return -1, err
				}
				values = append(values, v)
				if p[next] != ',' {
					break
				}
			}
		}
		if p[next] != ']' || next+1 >= len(p) {
			return -1, nil
		}
		l.Header[name] = values
		i = next + 1
		switch p[i] {
		case ',':
		case '}':
			return i + 1, nil
		default:
			return -1, nil
		}
	}
}

func parseHeaderString(p []byte, i int, binary bool) (string, int, error) {
	v, next, err := parseString(p, i)
	if err == nil && next >= 0 && binary {
		v, err = unbase64(v)
	}
	return string(v), next, err
}

// parseSequence takes a decimal uint64 in its one form.
func parseSequence(p []byte, i int) (seq uint64, next int) {
	end := skipDigits(p, i)
	if i >= end || (p[i] == '0' && end > i+1) {
		return 0, -1
	}
	var n uint64
	for _, c := range p[i:end] {
		high, low := bits.Mul64(n, 10)
		sum, carry := bits.Add64(low, uint64(c-'0'), 0)
		if high|carry != 0 {
			return 0, -1
		}
		n = sum
	}
	return n, end
}

// parseTime takes an RFC 3339 time in UTC.
func parseTime(p []byte, i int) (t time.Time, next int, err error) {
	next = -1
	if i < len(p) && p[i] == '"' {
		next = skipString(p, i)
	}
	if next < 0 {
		return t, -1, nil
	}
	text := p[i+1 : next-1]
	if len(text) == 0 || text[len(text)-1] != 'Z' {
		return t, -1, fmt.Errorf("time %q is not in UTC", text)
	}
	if err := t.UnmarshalText(text); err != nil {
		return t, -1, err
	}
	return t, next, nil
}

// parseString takes a JSON string; what it returns shares p's memory where
// nothing was escaped.
func parseString(p []byte, i int) (v []byte, next int, err error) {
	if i >= len(p) || p[i] != '"' {
		return nil, -1, nil
	}
	next = skipString(p, i)
	if next < 0 {
		return nil, -1, nil
	}
	s := p[i+1 : next-1]
	n := plainRun(s)
	if n == len(s) {
		if !utf8.Valid(s) {
			return nil, -1, errors.New("string is not UTF-8")
		}
		return s, next, nil
	}
	out := make([]byte, 0, len(s))
	for {
		out = append(out, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			break
		}
		var used int
		out, used = unescape(out, s)
		s = s[used:]
		n = plainRun(s)
	}
	if !utf8.Valid(out) {
		return nil, -1, errors.New("string is not UTF-8")
	}
	return out, next, nil
}

// unescape appends what the escape at the start of s stands for. skipString has
// seen that it is well-formed. Half a surrogate pair becomes U+FFFD; Append
// writes none.
func unescape(dst, s []byte) (out []byte, used int) {
	switch c := s[1]; c {
	case 'n':
		return append(dst, '\n'), 2
	case 'r':
		return append(dst, '\r'), 2
	case 't':
		return append(dst, '\t'), 2
	case 'b':
		return append(dst, '\b'), 2
	case 'f':
		return append(dst, '\f'), 2
	case 'u':
		r := hexRune(s[2:6])
		if utf16.IsSurrogate(r) {
			if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
				if pair := utf16.DecodeRune(r, hexRune(s[8:12])); pair != utf8.RuneError {
					return utf8.AppendRune(dst, pair), 12
				}
			}
			r = utf8.RuneError
		}
		return utf8.AppendRune(dst, r), 6
	default: // quote, backslash, slash
		return append(dst, c), 2
	}
}

func hexRune(p []byte) (r rune) {
	for _, c := range p {
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}

func unbase64(p []byte) ([]byte, error) {
	out, err := base64.StdEncoding.Strict().AppendDecode(nil, p)
	if err != nil {
		return nil, fmt.Errorf("base64: %w", err)
	}
	return out, nil
}
