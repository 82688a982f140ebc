package router

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxFilters is how many filters a lane's consumer gets at most. Many are slow to
// create (1000 take 83 ms, 5000 2.2 s), so that a longer list is replaced by one
// filter that contains them all; the router drops what it lets through.
const MaxFilters = 200

// The server keeps its functions for containment and collision of subjects in
// the package of the whole server. These are the same rules; the tests compare
// them with the server's.

// CheckFilter says what is wrong with s as a subject filter.
func CheckFilter(s string) error {
	if s == "" {
		return fmt.Errorf("the subject is empty")
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("the subject is not UTF-8")
	}
	if i := strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f }); i >= 0 {
		return fmt.Errorf("the subject has a space or a control character at byte %d", i+1)
	}
	rest, more := s, true
	for n := 1; more; n++ {
		var t string
		t, rest, more = strings.Cut(rest, ".")
		switch {
		case t == "":
			return fmt.Errorf("token %d of the subject is empty (a dot too many)", n)
		case t == ">" && more:
			return fmt.Errorf("> stands at token %d of the subject, it can only be the last one", n)
		}
	}
	return nil
}

// Contains reports whether every subject that inner matches is matched by outer.
func Contains(outer, inner string) bool {
	for {
		o, orest, omore := strings.Cut(outer, ".")
		i, irest, imore := strings.Cut(inner, ".")
		switch {
		case o == ">":
			return true
		case i == ">":
			return false
		case o != "*" && o != i:
			return false // also where i is * and o is not
		case omore != imore:
			return false
		case !omore:
			return true
		}
		outer, inner = orest, irest
	}
}

// Collide reports whether some subject is matched by both.
func Collide(a, b string) bool {
	for {
		s, arest, amore := strings.Cut(a, ".")
		t, brest, bmore := strings.Cut(b, ".")
		switch {
		case s == ">" || t == ">":
			return true
		case s != "*" && t != "*" && s != t:
			return false
		case amore != bmore:
			return false
		case !amore:
			return true
		}
		a, b = arest, brest
	}
}

// superset is the narrowest filter that contains both.
func superset(a, b string) string {
	s, t := strings.Split(a, "."), strings.Split(b, ".")
	var out []string
	for i := 0; ; i++ {
		switch {
		case i == len(s) && i == len(t):
			return strings.Join(out, ".")
		case i == len(s) || i == len(t):
			out[i-1] = ">" // they do not collide
			return strings.Join(out, ".")
		case s[i] == ">" || t[i] == ">":
			return strings.Join(append(out, ">"), ".")
		case s[i] == t[i]:
			out = append(out, s[i])
		default:
			out = append(out, "*")
		}
	}
}

// Union is a set of filters as a consumer takes it: no two collide, and there are
// MaxFilters at most. It contains all of filters: contained ones dropped,
// overlapping ones widened to a common one, and past MaxFilters all of them.
func Union(filters []string) []string {
	var out []string
	for _, f := range filters {
		for {
			i := slices.IndexFunc(out, func(o string) bool { return Collide(o, f) })
			if i < 0 {
				break
			}
			f = superset(out[i], f) // one of the two if it contains the other
			out = slices.Delete(out, i, i+1)
		}
		out = append(out, f)
	}
	if len(out) > MaxFilters {
		one := out[0]
		for _, f := range out[1:] {
			one = superset(one, f)
		}
		return []string{one}
	}
	slices.Sort(out)
	return out
}

// mismatch says why filter does not match the tokens of a subject.
func mismatch(filter string, tokens []string) string {
	want := strings.Split(filter, ".")
	for i, w := range want {
		switch {
		case i == len(tokens):
			if w == ">" {
				return fmt.Sprintf("the subject ends after token %d, > wants at least one more", i)
			}
			return fmt.Sprintf("the subject has %d tokens, the filter %d", len(tokens), len(want))
		case w == ">":
			return ""
		case w != "*" && w != tokens[i]:
			return fmt.Sprintf("token %d is %q, the filter wants %q", i+1, tokens[i], w)
		}
	}
	if len(tokens) != len(want) {
		return fmt.Sprintf("the subject has %d tokens, the filter %d", len(tokens), len(want))
	}
	return ""
}

// wildcards counts the wildcards of a filter.
func wildcards(filter string) int {
	n := 0
	for t := range strings.SplitSeq(filter, ".") {
		if t == "*" || t == ">" {
			n++
		}
	}
	return n
}
