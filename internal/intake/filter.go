package intake

import (
	"slices"
	"strings"
)

// maxFilters: beyond that a consumer takes a common widening and the rest is
// skipped here. Many filters are slow to create (1000 take 83 ms, 5000 2.2 s).
const maxFilters = 200

// covers reports whether every subject that b matches is matched by a.
func covers(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i, t := range as {
		if t == ">" {
			return len(bs) > i
		}
		if i >= len(bs) || bs[i] == ">" {
			return false
		}
		if t != "*" && t != bs[i] {
			return false
		}
	}
	return len(as) == len(bs)
}

// overlap reports whether a subject exists that both filters match.
func overlap(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) && i < len(bs); i++ {
		if as[i] == ">" || bs[i] == ">" {
			return true
		}
		if as[i] != bs[i] && as[i] != "*" && bs[i] != "*" {
			return false
		}
	}
	return len(as) == len(bs)
}

// union makes of filters a set that JetStream accepts for one consumer: none
// covered by another, none overlapping. Of two that overlap without one covering
// the other, both become their common widening, so the union may take more than
// was asked for, never less. nil means everything.
func union(filters []string) []string {
	set := slices.Clone(filters)
	slices.Sort(set)
	set = slices.Compact(set)
again:
	for i := range set {
		for j := i + 1; j < len(set); j++ {
			if !overlap(set[i], set[j]) {
				continue
			}
			set[i] = widen(set[i], set[j])
			set = slices.Delete(set, j, j+1)
			goto again
		}
	}
	if len(set) > maxFilters {
		one := set[0]
		for _, f := range set[1:] {
			one = widen(one, f)
		}
		set = []string{one}
	}
	if slices.Contains(set, ">") {
		return nil
	}
	return set
}

// widen returns the narrowest single filter that covers a and b.
func widen(a, b string) string {
	switch {
	case covers(a, b):
		return a
	case covers(b, a):
		return b
	}
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	var out []string
	for i := 0; i < len(as) && i < len(bs); i++ {
		switch {
		case as[i] == ">" || bs[i] == ">":
			return strings.Join(append(out, ">"), ".")
		case as[i] == bs[i]:
			out = append(out, as[i])
		default:
			out = append(out, "*")
		}
	}
	if len(as) != len(bs) {
		if len(out) == min(len(as), len(bs)) {
			out = out[:len(out)-1]
		}
		return strings.Join(append(out, ">"), ".")
	}
	return strings.Join(out, ".")
}

// anyOverlap reports whether a message exists that both sets take; an empty set
// takes everything.
func anyOverlap(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if overlap(x, y) {
				return true
			}
		}
	}
	return false
}
