package ledger

import (
	"fmt"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// EscapeName makes one key token of any name: bytes outside [-_/a-zA-Z0-9]
// become =XX, so that the dots of a name are not taken for the dots between
// tokens. The empty name, which can be no token, becomes a lone "=".
func EscapeName(name string) string {
	if name == "" {
		return "="
	}
	var b strings.Builder
	b.Grow(len(name))
	for i := 0; i < len(name); i++ {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// UnescapeName is the inverse of EscapeName. It refuses what EscapeName does not
// make, so that no two keys stand for one name.
func UnescapeName(token string) (string, error) {
	if token == "=" {
		return "", nil
	}
	var b strings.Builder
	b.Grow(len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if plain(c) {
			b.WriteByte(c)
			continue
		}
		if c != '=' || i+2 >= len(token) {
			return "", fmt.Errorf("ledger: %q is no escaped name", token)
		}
		hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) {
			return "", fmt.Errorf("ledger: %q is no escaped name", token)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("ledger: an empty token is no escaped name")
	}
	return b.String(), nil
}

func plain(c byte) bool {
	return c == '-' || c == '_' || c == '/' ||
		'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func laneKey(source, lane string) string {
	return "lane." + EscapeName(source) + "." + EscapeName(lane)
}

func tailPrefix(source, lane string) string {
	return "tail." + EscapeName(source) + "." + EscapeName(lane) + "."
}

func tailKey(source, lane, series string) string {
	return tailPrefix(source, lane) + EscapeName(series)
}

// parseKey takes a key apart; series is "" and tail false for a lane's.
func parseKey(key string) (source, lane, series string, tail, ok bool) {
	parts := strings.Split(key, ".")
	switch {
	case len(parts) == 3 && parts[0] == "lane":
	case len(parts) == 4 && parts[0] == "tail":
		tail = true
	default:
		return "", "", "", false, false
	}
	names := make([]string, 3)
	for i, p := range parts[1:] {
		n, err := UnescapeName(p)
		if err != nil {
			return "", "", "", false, false
		}
		names[i] = n
	}
	return names[0], names[1], names[2], tail, true
}
