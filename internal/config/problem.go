package config

import (
	"fmt"
	"regexp"
	"strings"
)

// Problem is one thing wrong with a configuration.
type Problem struct {
	File         string // "" if it has no place in a file
	Line, Column int    // from 1; 0 if it has no place in a file
	Path         string // of the setting: sources[0].routes[1].series
	What         string
	Mend         string
	Excerpt      string // lines of the file with a marker, secrets cut off
}

func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Place())
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.What)
	if p.Mend != "" {
		b.WriteString("; " + p.Mend)
	}
	if p.Excerpt != "" {
		b.WriteString("\n" + p.Excerpt)
	}
	return b.String()
}

// Place is where it stands, as editors and terminals read it: "file:line:column: ".
func (p Problem) Place() string {
	switch {
	case p.Line > 0:
		return fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	case p.File != "":
		return p.File + ": "
	}
	return ""
}

// Error is all that is wrong with a configuration.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	var parts []string
	for _, p := range e.Problems {
		parts = append(parts, p.Error())
	}
	return strings.Join(parts, "\n")
}

// Lines that may hold a secret are shown up to the colon.
var mayHoldSecret = regexp.MustCompile(`(?i)(secr|passw|token|nkey|key_id|cred|//[^/]*@)`)

// excerpt shows the line with a marker of the given width below it. Without
// values nothing behind the marker is shown: what a mistyped key was meant to
// be, and whether its value is secret, nobody knows.
func excerpt(lines []string, line, column, width int, values bool) string {
	if line < 1 || line > len(lines) {
		return ""
	}
	text := strings.TrimRight(lines[line-1], "\r")
	if runes := []rune(text); !values && column-1+width < len(runes) {
		text = string(runes[:column-1+width]) + " …"
	}
	if i := strings.Index(text, ":"); i >= 0 && mayHoldSecret.MatchString(text) {
		text = text[:i+1] + " …"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%6d | %s\n", line, text)
	// A tab is copied, so that the marker stands below its sign.
	var pad strings.Builder
	for i, c := range []rune(lines[line-1]) {
		if i >= column-1 {
			break
		}
		if c != '\t' {
			c = ' '
		}
		pad.WriteRune(c)
	}
	fmt.Fprintf(&b, "       | %s%s", pad.String(), strings.Repeat("^", max(width, 1)))
	return b.String()
}

// closest is the known word nearest to s, "" if none is near.
func closest(s string, known []string) string {
	best, at := "", max(len(s)/3, 1)+1
	for _, k := range known {
		if d := distance(strings.ToLower(s), strings.ToLower(k)); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions, changes and swaps of neighbours
// that make b of a.
func distance(a, b string) int {
	var older []int
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], older[j-2]+1)
			}
		}
		older, prev = prev, cur
	}
	return prev[len(b)]
}
