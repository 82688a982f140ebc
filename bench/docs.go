//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What stands between these lines of docs/PERFORMANCE.md is the bench's.
const (
	docsBegin = "<!-- bench: begin -->"
	docsEnd   = "<!-- bench: end -->"
)

// document puts the tables into PERFORMANCE.md in dir, and the picture beside it.
func (r *results) document(dir string) error {
	file := filepath.Join(dir, "PERFORMANCE.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out, err := between(string(text), r.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := r.draw(filepath.Join(dir, "performance.svg")); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(out), 0o644)
}

// between replaces what stands between the markers.
func between(text, by string) (string, error) {
	before, rest, ok1 := strings.Cut(text, docsBegin+"\n")
	_, after, ok2 := strings.Cut(rest, docsEnd)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("there must be a line %s and below it a line %s", docsBegin, docsEnd)
	}
	return before + docsBegin + "\n" + by + docsEnd + after, nil
}

func (r *results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Commit %s, %s. %s.\n%d events of the first kind, medians of up to %d rounds; three values are minimum – median – maximum.\n\n",
		r.Commit, r.When, r.Machine, r.Events, r.most())
	b.WriteString("![events per second](performance.svg)\n\n")
	b.WriteString(r.targetTable().RenderMarkdown() + "\n\n")
	b.WriteString(r.figureTable().RenderMarkdown() + "\n\n")
	b.WriteString(r.valueTable().RenderMarkdown() + "\n")
	if r.Busy != "" {
		fmt.Fprintf(&b, "\nBeware: %s.\n", r.Busy)
	}
	if r.Partial != "" {
		fmt.Fprintf(&b, "\nNot everything was measured: %s.\n", r.Partial)
	}
	for _, f := range r.Failures {
		first, _, _ := strings.Cut(f, "\n")
		fmt.Fprintf(&b, "\nFailed: %s\n", first)
	}
	return b.String()
}

// most is the number of rounds of the scenario that had the most.
func (r *results) most() (n int) {
	for _, x := range r.Rounds {
		n = max(n, len(x))
	}
	return n
}
