package router

import (
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// Escape makes a value safe to stand in a series name, in EscapeVersion 1:
//
//   - kept: A-Z a-z 0-9 - _ . = @ , and characters beyond ASCII that are seen;
//   - written as %XX, byte for byte: everything else, so `/`, `%`, spaces,
//     control characters, bytes that are no UTF-8, and the characters that are
//     invisible, reorder text or are not allowed in XML (see unseen);
//   - a value of dots only has its dots escaped too.
//
// Different values come out different, since % is always escaped and the rule
// for dots looks at the whole value. No value adds a `/`, and together with a
// value no text forms a `.` or `..` segment.
func Escape(s string) string { return string(appendEscaped(nil, s)) }

func appendEscaped(dst []byte, s string) []byte {
	dots := strings.Trim(s, ".") == ""
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if safe(c) && (c != '.' || !dots) {
				dst = append(dst, c)
			} else {
				dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || unseen(r) {
			for _, c := range []byte(s[i : i+n]) {
				dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
			}
		} else {
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return dst
}

func safe(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '-' || c == '_' || c == '.' || c == '=' || c == '@' || c == ','
}

// unseen lists ranges instead of asking package unicode, whose tables change
// from one Go release to the next while names must not.
func unseen(r rune) bool {
	switch {
	case r >= 0x80 && r <= 0xa0, // C1 controls, no-break space
		r == 0xad, r == 0x61c, r == 0x180e,
		r >= 0x2000 && r <= 0x200f, // spaces, zero width, marks of direction
		r >= 0x2028 && r <= 0x202f, // separators, embeddings
		r >= 0x205f && r <= 0x206f,
		r == 0x3000, r == 0xfeff,
		r >= 0xfdd0 && r <= 0xfdef, // no characters
		r >= 0xfff9 && r <= 0xfffb,
		r&0xfffe == 0xfffe,
		r >= 0xe0000 && r <= 0xe0fff: // tags
		return true
	}
	return false
}
