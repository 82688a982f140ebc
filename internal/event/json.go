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
// raw newline. It does not recurse. White space is looked for only where what was
// expected does not stand: most JSON that machines write has none.
func skipValue(p []byte, i int) int {
	var objects [(maxDepth + 63) / 64]uint64 // bit d-1: level d is an object
	depth, object := 0, false                // object: the present level is one
	for {
		// A value starts here.
		if i = skipBlank(p, i); i >= len(p) {
			return -1
		}
		switch c := p[i]; c {
		case '"':
			i = skipString(p, i)
		case '{', '[':
			if depth == maxDepth {
				return -1
			}
			object = c == '{'
			bit := uint64(1) << (depth % 64)
			objects[depth/64] &^= bit
			if object {
				objects[depth/64] |= bit
			}
			depth++
			if i = skipBlank(p, i+1); i >= len(p) {
				return -1
			}
			if p[i] != c+2 { // the closing one, which stands two behind in ASCII
				if object {
					if i = skipName(p, i); i < 0 {
						return -1
					}
				}
				continue
			}
			i++
			depth--
			object = depth > 0 && objects[(depth-1)/64]>>((depth-1)%64)&1 == 1
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
		// Behind a value: close what closes, then go on to where the next value starts.
		for {
			if depth == 0 {
				return i
			}
			if i = skipBlank(p, i); i >= len(p) {
				return -1
			}
			c := p[i]
			i++
			if c == ',' {
				break
			}
			if object && c != '}' || !object && c != ']' {
				return -1
			}
			depth--
			object = depth > 0 && objects[(depth-1)/64]>>((depth-1)%64)&1 == 1
		}
		if object {
			if i = skipName(p, skipBlank(p, i)); i < 0 {
				return -1
			}
		}
	}
}

// skipName returns the index behind the name of an object's member and its colon.
func skipName(p []byte, i int) int {
	if i >= len(p) || p[i] != '"' {
		return -1
	}
	if i = skipString(p, i); i < 0 || i >= len(p) {
		return -1
	}
	if p[i] == ':' {
		return i + 1
	}
	if i = skipBlank(p, i); i >= len(p) || p[i] != ':' {
		return -1
	}
	return i + 1
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
	i++
	for {
		// Eight bytes at a time: most names and values end within the first.
		for len(p)-i >= 8 {
			w := binary.LittleEndian.Uint64(p[i:])
			hit := special(w)
			if hit == 0 {
				i += 8
				continue
			}
			if i += bits.TrailingZeros64(hit) / 8; p[i] == '"' {
				return i + 1
			}
			break
		}
		for i < len(p) && plain[p[i]] {
			i++
		}
		if i >= len(p) {
			return -1
		}
		switch p[i] {
		case '"':
			return i + 1
		case '\\':
			if len(p)-i < 2 {
				return -1
			}
			switch p[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if len(p)-i < 6 || !isHex(p[i+2]) || !isHex(p[i+3]) || !isHex(p[i+4]) || !isHex(p[i+5]) {
					return -1
				}
				i += 6
			default:
				return -1
			}
		default:
			return -1
		}
	}
}

// special has the high bit of the lowest byte of w that is a quote, a backslash or
// below 0x20, and perhaps of higher ones: in the lowest byte that matches the bit is
// right, above it the borrow may give false alarms.
func special(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return (((w - ones*0x20) &^ w) | ((quote - ones) &^ quote) | ((slash - ones) &^ slash)) & highs
}

// plainRun is the number of bytes at the start of p that need no escape.
func plainRun(p []byte) int {
	i := 0
	for ; i+8 <= len(p); i += 8 {
		if hit := special(binary.LittleEndian.Uint64(p[i:])); hit != 0 {
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
