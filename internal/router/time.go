package router

import (
	"fmt"
	"strings"
	"time"

	"github.com/ncruces/go-strftime"
)

// timeSpec is a conversion that may stand in {{time(…)}}. Left out are those
// that depend on a locale, a zone, or more than one reading of them, and those
// that write spaces or fractions of a second.
type timeSpec struct {
	unit  int64 // seconds within which its text stays the same
	width int   // digits
}

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

var timeSpecs = map[byte]timeSpec{
	'Y': {day, 4}, 'y': {day, 2}, 'm': {day, 2}, 'd': {day, 2}, 'j': {day, 3},
	'G': {day, 4}, 'g': {day, 2}, 'V': {day, 2}, 'u': {day, 1}, 'w': {day, 1},
	'U': {day, 2}, 'W': {day, 2},
	'H': {hour, 2}, 'M': {minute, 2}, 'S': {1, 2}, 's': {1, 0},
	'F': {day, 0}, 'R': {minute, 0}, 'T': {1, 0},
}

// timeMends says what to write instead of conversions that are refused.
var timeMends = map[byte]string{
	'e': "use %d", 'k': "use %H", 'l': "use %H", 'I': "use %H", 'p': "use %H", 'P': "use %H", 'r': "use %T",
	'a': "use %u", 'A': "use %u", 'b': "use %m", 'B': "use %m", 'h': "use %m",
	'c': "use %F/%H", 'x': "use %F", 'X': "use %T", 'D': "use %Y/%m/%d", 'v': "use %F", '+': "use %F/%H",
	'z': "leave it out, times are in UTC", 'Z': "leave it out, times are in UTC",
	'L': "use %S", 'f': "use %S", 'N': "use %S", 'Q': "use %s", 'C': "use %Y",
	'n': "leave it out", 't': "leave it out", '%': "leave it out",
	'E': "leave out the E", 'O': "leave out the O",
}

// eachSpec calls lit for text and spec for conversions, with where they stand.
func eachSpec(format string, lit func(at int, s string), spec func(at int, flag, c byte)) {
	for i := 0; i < len(format); {
		if format[i] != '%' {
			n := strings.IndexByte(format[i:], '%')
			if n < 0 {
				n = len(format) - i
			}
			lit(i, format[i:i+n])
			i += n
			continue
		}
		at, flag := i, byte(0)
		if i++; i < len(format) && (format[i] == '-' || format[i] == ':') {
			flag = format[i]
			i++
		}
		if i == len(format) {
			spec(at, flag, 0)
			return
		}
		spec(at, flag, format[i])
		i++
	}
}

func checkTime(format string) (at int, what, mend string) {
	seen := false
	eachSpec(format, func(i int, s string) {
		if what == "" {
			if at, what, mend = checkLiteral(s); what != "" {
				at += i
			}
		}
	}, func(i int, flag, c byte) {
		seen = true
		if what != "" {
			return
		}
		_, ok := timeSpecs[c]
		switch {
		case c == 0:
			at, what, mend = i, "the time format ends with a lone %", "write a conversion, as in %Y"
		case !ok && timeMends[c] != "":
			at, what, mend = i, fmt.Sprintf("%%%c does not make one text that sorts and stays the same everywhere", c), timeMends[c]
		case !ok:
			at, what, mend = i, fmt.Sprintf("%%%c is no conversion known here", c), "use %Y %m %d %H %M %S %F %j %G %V and the like"
		case flag == ':':
			at, what, mend = i, fmt.Sprintf("%%%c%c is no conversion known here", flag, c), fmt.Sprintf("use %%%c", c)
		case flag == '-' && !strings.ContainsRune("mdHMS", rune(c)):
			at, what, mend = i, fmt.Sprintf("%%-%c is no conversion known here", c), fmt.Sprintf("use %%%c", c)
		}
	})
	if what == "" && !seen {
		return 0, fmt.Sprintf("the time format %q has no conversion", format), "write one, as in time(%Y/%m/%d/%H)"
	}
	return at, what, mend
}

func timeUnit(format string) int64 {
	unit := int64(day)
	eachSpec(format, func(int, string) {}, func(_ int, _, c byte) {
		unit = min(unit, timeSpecs[c].unit)
	})
	return unit
}

// timeSkeleton is the format with value in the place of every conversion.
func timeSkeleton(format, value string) string {
	var b strings.Builder
	eachSpec(format, func(_ int, s string) { b.WriteString(s) }, func(int, byte, byte) { b.WriteString(value) })
	return b.String()
}

func appendTime(dst []byte, format string, t time.Time) []byte {
	return strftime.AppendFormat(dst, format, t.UTC())
}

// bucket numbers the stretches of unit seconds, so that equal numbers mean
// equal text.
func bucket(t time.Time, unit int64) int64 {
	s := t.Unix()
	b := s / unit
	if s%unit < 0 {
		b--
	}
	return b
}
