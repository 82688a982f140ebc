package event

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
	"unsafe"
)

// maxDepth is how deep arrays and objects may be nested in a payload that is
// embedded as JSON. Deeper payloads are carried as text: common readers give up
// on deep nesting (jq 1.6 at 256), and one that recurses can be made to crash.
const maxDepth = 200

// embeddable reports whether p can stand verbatim as a JSON value within one
// line: one valid JSON value in valid UTF-8 without leading or trailing white
// space (readers that take the value out would lose it), raw CR or LF, and too
// deep nesting.
func embeddable(p []byte) bool {
	if len(p) == 0 || isSpace(p[0]) || isSpace(p[len(p)-1]) {
		return false
	}
	end := skipValue(p, 0)
	return end == len(p) && utf8.Valid(p)
}

// isSpace is JSON white space, raw newlines included.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// skipValue returns the index behind the JSON value that starts at i, or -1 if
// there is none. It takes blank and tab as white space between tokens, but no
// raw newline. It does not recurse.
func skipValue(p []byte, i int) int {
	var objects [(maxDepth + 63) / 64]uint64 // bit d-1: level d is an object
	depth := 0
	for {
		// A value starts here.
		i = skipBlank(p, i)
		if i >= len(p) {
			return -1
		}
		opened := false
		switch c := p[i]; c {
		case '{', '[':
			if depth == maxDepth {
				return -1
			}
			bit := uint64(1) << (depth % 64)
			objects[depth/64] &^= bit
			if c == '{' {
				objects[depth/64] |= bit
			}
			depth++
			i, opened = i+1, true
		case '"':
			i = skipString(p, i)
		case 't':
			i = skipWord(p, i, "true")
		case 'f':
			i = skipWord(p, i, "false")
		case 'n':
			i = skipWord(p, i, "null")
		default:
			i = skipNumber(p, i)
		}
		if i < 0 {
			return -1
		}
		// Behind a value, or just inside an opened level: close what closes, then
		// go on to where the next value starts.
		for {
			if depth == 0 {
				return i
			}
			object := objects[(depth-1)/64]>>((depth-1)%64)&1 == 1
			i = skipBlank(p, i)
			if i >= len(p) {
				return -1
			}
			c := p[i]
			if (object && c == '}') || (!object && c == ']') {
				depth--
				i, opened = i+1, false
				continue
			}
			if !opened {
				if c != ',' {
					return -1
				}
				i = skipBlank(p, i+1)
			}
			if object {
				if i >= len(p) || p[i] != '"' {
					return -1
				}
				if i = skipString(p, i); i < 0 {
					return -1
				}
				if i = skipBlank(p, i); i >= len(p) || p[i] != ':' {
					return -1
				}
				i++
			}
			break
		}
	}
}

func skipBlank(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\t') {
		i++
	}
	return i
}

func skipWord(p []byte, i int, word string) int {
	if len(p)-i < len(word) || string(p[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// plain holds the bytes that stand for themselves in a JSON string. Bytes of
// 0x80 and above do; whether they are UTF-8 is checked for the whole at once.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return t
}()

// skipString returns the index behind the string that starts at i with a quote.
func skipString(p []byte, i int) int {
	for i++; ; i++ {
		i += plainRun(p[i:])
		if i >= len(p) {
			return -1
		}
		switch p[i] {
		case '"':
			return i + 1
		case '\\':
			i++
			if i >= len(p) {
				return -1
			}
			switch p[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(p)-i < 5 || !isHex(p[i+1]) || !isHex(p[i+2]) || !isHex(p[i+3]) || !isHex(p[i+4]) {
					return -1
				}
				i += 4
			default:
				return -1
			}
		default:
			return -1
		}
	}
}

// plainRun is the number of bytes at the start of p that need no escape. Names
// and values are mostly short, so it begins byte by byte and only then goes by
// eight.
func plainRun(p []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for _, c := range p[:min(len(p), 16)] {
		if !plain[c] {
			return i
		}
		i++
	}
	for ; i+8 <= len(p); i += 8 {
		w := binary.LittleEndian.Uint64(p[i:])
		quote := w ^ ones*'"'
		slash := w ^ ones*'\\'
		// In the lowest byte that matches, the high bit is right; higher ones may
		// be false alarms of the borrow, which the count of trailing zeros ignores.
		hit := ((w - ones*0x20) &^ w) | ((quote - ones) &^ quote) | ((slash - ones) &^ slash)
		if hit &= highs; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for i < len(p) && plain[p[i]] {
		i++
	}
	return i
}

func isHex(c byte) bool {
	return c-'0' <= 9 || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func isDigit(c byte) bool { return c-'0' <= 9 }

func skipNumber(p []byte, i int) int {
	if i < len(p) && p[i] == '-' {
		i++
	}
	switch {
	case i >= len(p) || !isDigit(p[i]):
		return -1
	case p[i] == '0':
		i++
	default:
		i = skipDigits(p, i)
	}
	if i < len(p) && p[i] == '.' {
		i++
		if i >= len(p) || !isDigit(p[i]) {
			return -1
		}
		i = skipDigits(p, i)
	}
	if i < len(p) && p[i]|0x20 == 'e' {
		i++
		if i < len(p) && (p[i] == '+' || p[i] == '-') {
			i++
		}
		if i >= len(p) || !isDigit(p[i]) {
			return -1
		}
		i = skipDigits(p, i)
	}
	return i
}

func skipDigits(p []byte, i int) int {
	for i < len(p) && isDigit(p[i]) {
		i++
	}
	return i
}

// appendString appends s, which is valid UTF-8, as a JSON string. Only quote,
// backslash and the control characters below 0x20 are escaped, so that equal
// strings have one form.
func appendString(dst []byte, text string) []byte {
	// Only read, and not beyond this call.
	return appendText(dst, unsafe.Slice(unsafe.StringData(text), len(text)))
}

// appendText is appendString for bytes.
func appendText(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for {
		n := plainRun(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		switch c := s[n]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		s = s[n+1:]
	}
}
