package router

import (
	"slices"
	"strings"
)

// A shape is the language of the names that a template can make, seen coarsely:
// a sequence of atoms. Two templates share a name at most if their shapes do.
type atom struct {
	class class
	c     byte // of a lit
	more  bool // once or more
}

type class uint8

const (
	lit   class = iota
	digit       // 0-9
	tok         // what a subject token becomes: no slash, no dot
	val         // what any value becomes: no slash
)

func (a atom) meets(b atom) bool {
	if a.class > b.class {
		a, b = b, a
	}
	if a.class != lit {
		return true // the classes contain one another
	}
	switch b.class {
	case lit:
		return a.c == b.c
	case digit:
		return isDigit(a.c)
	case tok:
		return a.c != '/' && a.c != '.'
	default:
		return a.c != '/'
	}
}

// shape is t's under one filter of its route.
func (t *template) shape(filter string) []atom {
	var out []atom
	text := func(s string) {
		for i := range len(s) {
			out = append(out, atom{class: lit, c: s[i]})
		}
	}
	some := func(c class) { out = append(out, atom{class: c, more: true}) }
	tokens := strings.Split(filter, ".")
	filterToken := func(s string) {
		switch s {
		case "*":
			// A token of dots only cannot be; escapes hold no dot either.
			some(tok)
		case ">":
			some(val)
		default:
			text(Escape(s))
		}
	}
	for _, p := range t.parts {
		switch p.kind {
		case literal:
			text(p.text)
		case constant:
			if strings.TrimSpace(p.name) == "lane" {
				some(digit)
			} else {
				text(p.text)
			}
		case timeOf:
			timeShape(p.text, text, func(n int) {
				for range n {
					out = append(out, atom{class: digit})
				}
				if n == 0 {
					some(digit)
				}
			})
		case token:
			switch {
			case p.fallback != "" && p.n >= len(tokens):
				some(val)
			case p.n >= len(tokens) && tokens[len(tokens)-1] == ">":
				some(tok)
			default:
				filterToken(tokens[p.n-1])
			}
		case subject:
			for i, s := range tokens {
				if i > 0 {
					text(".")
				}
				filterToken(s)
			}
		case wildcard:
			if wildcards(filter) == p.n && strings.HasSuffix(filter, ">") {
				some(val)
			} else {
				some(tok)
			}
		default:
			some(val)
		}
	}
	return out
}

func timeShape(format string, text func(string), digits func(n int)) {
	eachSpec(format, func(_ int, s string) { text(s) }, func(_ int, flag, c byte) {
		switch {
		case flag == '-':
			digits(0)
		case c == 'F':
			timeShape("%Y-%m-%d", text, digits)
		case c == 'R':
			timeShape("%H:%M", text, digits)
		case c == 'T':
			timeShape("%H:%M:%S", text, digits)
		default:
			digits(timeSpecs[c].width)
		}
	})
}

// meets reports whether t and u can make the same name, in one layout or in two
// that have the same shards: then the shards are the same where the names are.
func (t *template) meets(u *template, tf, uf []string) bool {
	return t.meetsUnder(nil, u, nil, tf, uf)
}

// meetsUnder reports the same of templates with something before the names.
func (t *template) meetsUnder(before []atom, u *template, ubefore []atom, tf, uf []string) bool {
	if len(before) == len(ubefore) {
		before, ubefore = nil, nil
	}
	for _, f := range tf {
		a := append(slices.Clone(before), t.shape(f)...)
		for _, g := range uf {
			if intersect(a, append(slices.Clone(ubefore), u.shape(g)...)) {
				return true
			}
		}
	}
	return false
}

// intersect walks both shapes over the same (unknown) text. A state is how many
// atoms of each are done; an atom with more may also stay.
func intersect(a, b []atom) bool {
	width := len(b) + 1
	seen := make([]bool, (len(a)+1)*width)
	stack := []int{0}
	seen[0] = true
	push := func(i, j int) {
		if s := i*width + j; !seen[s] {
			seen[s] = true
			stack = append(stack, s)
		}
	}
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		i, j := s/width, s%width
		if i == len(a) && j == len(b) {
			return true
		}
		if i == len(a) || j == len(b) || !a[i].meets(b[j]) {
			continue
		}
		push(i+1, j+1)
		if a[i].more {
			push(i, j+1)
		}
		if b[j].more {
			push(i+1, j)
		}
	}
	return false
}
