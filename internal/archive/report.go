package archive

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Results of a verification.
const (
	OK      = "ok"
	Damaged = "damaged"
)

// maxFindings bounds what a report lists of problems and of notes; the rest is
// counted in a last entry, so that a broken archive does not fill the memory.
const maxFindings = 2000

// Finding is one thing that verification has to say.
type Finding struct {
	Source   string `json:"source"`
	Series   string `json:"series"`
	Key      string `json:"key"`
	Position int64  `json:"position"`
	What     string `json:"what"`
	Mend     string `json:"mend"`
}

func (f Finding) String() string {
	var b strings.Builder
	switch {
	case f.Key != "":
		fmt.Fprintf(&b, "%s at %d: ", f.Key, f.Position)
	case f.Series != "":
		fmt.Fprintf(&b, "series %s: ", f.Series)
	case f.Source != "":
		fmt.Fprintf(&b, "source %s: ", f.Source)
	}
	b.WriteString(f.What)
	if f.Mend != "" {
		b.WriteString("; " + f.Mend)
	}
	return b.String()
}

// Report is what verify found. Problems are what is wrong, or what had to be
// proven and could not be; notes are what is legal and worth knowing. Result is
// OK only without a problem.
type Report struct {
	Objects     int       `json:"objects"`      // read: segments, control logs, layouts
	Segments    int       `json:"segments"`     // of these
	Events      uint64    `json:"events"`       // archived, without dead letters
	Bytes       int64     `json:"bytes"`        // stored bytes read
	DeadLetters uint64    `json:"dead_letters"` // archived as dead letters
	Skipped     uint64    `json:"skipped"`      // left out by a route, as the tallies say
	Duplicates  uint64    `json:"duplicates"`   // events archived once more than once
	Missing     uint64    `json:"missing"`      // events that must be archived and are not
	Problems    []Finding `json:"problems"`
	Notes       []Finding `json:"notes"`
	Result      string    `json:"result"`
}

// collector gathers a report from concurrent walks.
type collector struct {
	mu               sync.Mutex
	r                Report
	problems, notes  int
	progress         func(done, total int64)
	done, total      int64
	progressInFlight sync.Mutex // progress is never called twice at once
}

func newCollector(progress func(done, total int64)) *collector {
	return &collector{r: Report{Problems: []Finding{}, Notes: []Finding{}}, progress: progress}
}

func (c *collector) problem(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems++
	if len(c.r.Problems) < maxFindings {
		c.r.Problems = append(c.r.Problems, f)
	}
}

func (c *collector) note(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes++
	if len(c.r.Notes) < maxFindings {
		c.r.Notes = append(c.r.Notes, f)
	}
}

func (c *collector) update(fn func(*Report)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(&c.r)
}

// read counts stored bytes and reports progress.
func (c *collector) read(n int64) {
	c.mu.Lock()
	c.done += n
	c.r.Bytes += n
	c.mu.Unlock()
	if c.progress == nil || !c.progressInFlight.TryLock() {
		return
	}
	defer c.progressInFlight.Unlock()
	c.mu.Lock()
	done, total := c.done, max(c.done, c.total)
	c.mu.Unlock()
	c.progress(done, total)
}

// report closes the collection. Findings come out in the order of keys and
// positions, whatever the order in which the walks met them.
func (c *collector) report() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	order := func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Series, b.Series),
			strings.Compare(a.Key, b.Key), cmp.Compare(a.Position, b.Position), strings.Compare(a.What, b.What))
	}
	r := c.r
	slices.SortStableFunc(r.Problems, order)
	slices.SortStableFunc(r.Notes, order)
	if n := c.problems - len(r.Problems); n > 0 {
		r.Problems = append(r.Problems, Finding{What: fmt.Sprintf("%d further problems are not listed", n)})
	}
	if n := c.notes - len(r.Notes); n > 0 {
		r.Notes = append(r.Notes, Finding{What: fmt.Sprintf("%d further notes are not listed", n)})
	}
	r.Result = OK
	if c.problems > 0 || r.Missing > 0 || r.Duplicates > 0 {
		r.Result = Damaged
	}
	return &r
}

// Range is an inclusive range of sequences.
type Range struct{ From, To uint64 }

func (r Range) String() string {
	if r.From == r.To {
		return fmt.Sprint(r.From)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// rangesText names the first few ranges.
func rangesText(rs []Range) string {
	const few = 10
	var b strings.Builder
	for i, r := range rs {
		if i == few {
			fmt.Fprintf(&b, " and %d more ranges", len(rs)-few)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(r.String())
	}
	return b.String()
}
