package event

import (
	"fmt"
	"strconv"
	"strings"
)

// Ext is the last part of a segment's key: what is in the object. Raw lines are
// not written in the Plain codec (a raw line could look like a frame's header);
// its name "log" is no extension that ParseExt takes.
func Ext(f Format, c Codec) string {
	base := "ndjson"
	if f == Raw {
		base = "log"
	}
	switch c {
	case Gzip:
		return base + ".gz"
	case Zstd:
		return base + ".zst"
	default:
		return base
	}
}

// ParseExt is the inverse of Ext; false for what no segment ends in.
func ParseExt(ext string) (Format, Codec, bool) {
	switch ext {
	case "ndjson.gz":
		return Envelope, Gzip, true
	case "ndjson.zst":
		return Envelope, Zstd, true
	case "ndjson":
		return Envelope, Plain, true
	case "log.gz":
		return Raw, Gzip, true
	case "log.zst":
		return Raw, Zstd, true
	}
	return 0, 0, false
}

// Key is the object key of a segment. Segments count from 1.
func Key(prefix, series string, segment int, ext string) string {
	return fmt.Sprintf("%s%s.%06d.%s", prefix, series, segment, ext)
}

// ParseKey takes a key apart. ok is false for keys that Key does not make:
// control objects, layouts, foreign objects.
func ParseKey(prefix, key string) (series string, segment int, ext string, ok bool) {
	rest, found := strings.CutPrefix(key, prefix)
	if !found {
		return "", 0, "", false
	}
	for _, ext := range []string{"ndjson.gz", "ndjson.zst", "ndjson", "log.gz", "log.zst"} {
		name, found := strings.CutSuffix(rest, "."+ext)
		if !found {
			continue
		}
		dot := strings.LastIndexByte(name, '.')
		if dot < 1 {
			continue
		}
		n, good := parseSegment(name[dot+1:])
		if !good {
			continue
		}
		return name[:dot], n, ext, true
	}
	return "", 0, "", false
}

// parseSegment accepts six digits, or more without a leading zero, so that a
// segment has one name only.
func parseSegment(s string) (int, bool) {
	if len(s) < 6 || len(s) > 9 || (len(s) > 6 && s[0] == '0') {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0
}
