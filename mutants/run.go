package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// The ends that a mutant can come to.
const (
	caught   = "caught"   // a test fails with it, and passes without
	timedOut = "timeout"  // likewise, by taking too long
	survived = "SURVIVED" // all its tests pass
	broken   = "BROKEN"   // it could not be tried: see result.Why
	set      = "applies"  // -check: it is in its place and compiles
	same     = "equivalent"
)

// slack: a test counts as hanging only after so many times what it takes without
// the mutant, so that a slow machine catches nothing.
const slack = 5

// result is what became of a mutant.
type result struct {
	Name    string  `json:"name"`
	Package string  `json:"package"`
	File    string  `json:"file"`
	Rule    string  `json:"rule"`
	End     string  `json:"end"`
	Test    string  `json:"test,omitempty"`    // that failed first
	Command string  `json:"command,omitempty"` // that failed
	Why     string  `json:"why,omitempty"`
	Seconds float64 `json:"seconds"` // of all commands with the mutant, builds included
}

// runner tries mutants. The module's tree is only read: a mutant is laid over it
// for the one build (go build -overlay), and everything written goes to tmp.
type runner struct {
	root    string // of the module
	tmp     string
	timeout time.Duration

	mu     sync.Mutex
	builds map[string]*build // without mutants, by package
	runs   map[test]*clean
}

// build is a test binary.
type build struct {
	once  sync.Once
	path  string
	flags []string
	err   error
}

// clean is a command without mutants.
type clean struct {
	once sync.Once
	out  outcome
	err  error
}

// outcome is how a test command ended.
type outcome struct {
	passed, timedOut bool
	ran              int    // tests
	failed           string // first test to fail
	took             time.Duration
	text             string // the end of what it printed
}

func newRunner(root, tmp string, timeout time.Duration) *runner {
	return &runner{root: root, tmp: tmp, timeout: timeout, builds: map[string]*build{}, runs: map[test]*clean{}}
}

// try runs the mutant's tests until one fails.
func (r *runner) try(ctx context.Context, m *mutant) (res result) {
	res = m.result(survived)
	began := time.Now()
	defer func() { res.Seconds = time.Since(began).Seconds() }()
	dir, err := os.MkdirTemp(r.tmp, "mutant-")
	if err != nil {
		return res.broken(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // else with tmp
	overlay, err := r.overlay(m, dir)
	if err != nil {
		return res.broken(err)
	}
	for i, t := range m.Tests {
		res.Command = t.String()
		was, err := r.without(ctx, t)
		if err != nil {
			return res.broken(err)
		}
		bin := filepath.Join(dir, fmt.Sprintf("%d.test", i))
		if err := r.compile(ctx, t.In, bin, "-overlay", overlay); err != nil {
			return res.broken(err)
		}
		limit := max(r.timeout, slack*was.took)
		if m.Timeout > 0 {
			limit = max(m.Timeout, slack*was.took)
		}
		out, err := r.run(ctx, t, bin, dir, limit)
		switch {
		case err != nil:
			return res.broken(err)
		case out.timedOut:
			res.End, res.Test = timedOut, out.failed
			return res
		case !out.passed:
			res.End, res.Test = caught, out.failed
			return res
		}
		_ = os.Remove(bin)
	}
	return res
}

// check sees whether the mutant applies and compiles.
func (r *runner) check(ctx context.Context, m *mutant) (res result) {
	res = m.result(set)
	began := time.Now()
	defer func() { res.Seconds = time.Since(began).Seconds() }()
	dir, err := os.MkdirTemp(r.tmp, "mutant-")
	if err != nil {
		return res.broken(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := r.overlay(m, dir)
	if err == nil {
		// Into a file that nobody looks at, or a command would land in the tree.
		_, err = r.goTool(ctx, "build", "-o", filepath.Join(dir, "out"), "-overlay", overlay, "./"+m.pkg)
	}
	if err != nil {
		return res.broken(err)
	}
	return res
}

func (m *mutant) result(end string) result {
	return result{Name: m.Name, Package: m.pkg, File: m.File, Rule: m.Rule, End: end}
}

func (res result) broken(err error) result {
	res.End, res.Why = broken, err.Error()
	return res
}

// overlay writes the changed file and the description by which the go command
// takes it for the real one.
func (r *runner) overlay(m *mutant, dir string) (string, error) {
	changed, err := m.apply(r.root)
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, m.File)
	if err := os.WriteFile(source, changed, 0o600); err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(r.root, m.path()): source}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, body, 0o600)
}

func (t test) String() string { return fmt.Sprintf("go test ./%s -run '%s'", t.In, t.Run) }

// without runs a command without mutants, once for all that name it. It must
// pass, and run something.
func (r *runner) without(ctx context.Context, t test) (outcome, error) {
	r.mu.Lock()
	c := r.runs[t]
	if c == nil {
		c = &clean{}
		r.runs[t] = c
	}
	r.mu.Unlock()
	c.once.Do(func() {
		b := r.build(ctx, t.In)
		if c.err = b.err; c.err != nil {
			return
		}
		c.out, c.err = r.run(ctx, t, b.path, r.tmp, max(r.timeout, 5*time.Minute))
		switch {
		case c.err != nil:
		case !c.out.passed:
			c.err = fmt.Errorf("%s fails without the mutant too (%s):\n%s", t, c.out.failed, c.out.text)
		case c.out.ran == 0:
			c.err = fmt.Errorf("%s runs no test", t)
		}
	})
	return c.out, c.err
}

// build compiles a package's tests without mutants, once.
func (r *runner) build(ctx context.Context, pkg string) *build {
	r.mu.Lock()
	b := r.builds[pkg]
	if b == nil {
		b = &build{path: filepath.Join(r.tmp, strings.ReplaceAll(pkg, "/", "-")+".test")}
		r.builds[pkg] = b
	}
	r.mu.Unlock()
	b.once.Do(func() {
		if b.err = r.compile(ctx, pkg, b.path); b.err == nil {
			b.flags, b.err = r.flags(ctx, pkg)
		}
	})
	return b
}

// flags are what the package's tests are run with: those of rapid neither write
// into the tree what failed, nor catch one time what they miss the next.
func (r *runner) flags(ctx context.Context, pkg string) ([]string, error) {
	out, err := r.goTool(ctx, "list", "-f", "{{.TestImports}} {{.XTestImports}}", "./"+pkg)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(out, []byte("pgregory.net/rapid")) {
		return []string{"-rapid.nofailfile", "-rapid.seed=1"}, nil
	}
	return nil, nil
}

func (r *runner) compile(ctx context.Context, pkg, out string, more ...string) error {
	// Without symbols the linker, which has most of the work, needs a quarter of it.
	_, err := r.goTool(ctx, append(append([]string{"test", "-c", "-ldflags=-s -w", "-o", out}, more...), "./"+pkg)...)
	return err
}

func (r *runner) goTool(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = r.root
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, lastLines(said.String()+string(out)))
	}
	return out, nil
}

var (
	failLine = regexp.MustCompile(`^\s*--- FAIL: (\S+)`)
	runLine  = regexp.MustCompile(`^=== (?:RUN|CONT|NAME)\s+(\S+)`)
)

// run runs a test binary as go test would.
func (r *runner) run(ctx context.Context, t test, bin, dir string, limit time.Duration) (out outcome, err error) {
	// The binary ends itself at its limit, with a word about where it hangs.
	ctx, cancel := context.WithTimeout(ctx, limit+30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append([]string{"-test.run=" + t.Run, "-test.v", "-test.failfast", "-test.paniconexit0",
		fmt.Sprintf("-test.timeout=%s", limit)}, r.build(ctx, t.In).flags...)...)
	cmd.Dir = filepath.Join(r.root, filepath.FromSlash(t.In))
	cmd.Env = append(os.Environ(), "TMPDIR="+dir) // a test that is ended leaves things behind
	cmd.WaitDelay = 5 * time.Second
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	began := time.Now()
	err = cmd.Run()
	out.took = time.Since(began)
	last, panicked := "", false
	sc := bufio.NewScanner(bytes.NewReader(text.Bytes()))
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		line := sc.Text()
		if m := runLine.FindStringSubmatch(line); m != nil {
			last = m[1]
			if strings.HasPrefix(line, "=== RUN") {
				out.ran++
			}
		}
		// A test comes before those it consists of: the longest name says the most.
		if m := failLine.FindStringSubmatch(line); m != nil && (out.failed == "" || strings.HasPrefix(m[1], out.failed+"/")) {
			out.failed = m[1]
		}
		out.timedOut = out.timedOut || strings.HasPrefix(line, "panic: test timed out after")
		panicked = panicked || strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
	}
	out.text = lastLines(text.String())
	if out.failed == "" && panicked {
		out.failed = last + " (panic)"
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		out.passed = true
		return out, nil
	case out.timedOut || errors.Is(ctx.Err(), context.DeadlineExceeded):
		out.timedOut, out.failed = true, last
		return out, nil
	case errors.As(err, &exit) && out.failed != "":
		return out, nil
	}
	return out, fmt.Errorf("%s: %w, and no test failed:\n%s", t, err, out.text)
}

// lastLines is the end of a long text.
func lastLines(s string) string {
	const most = 40
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > most {
		lines = append([]string{"…"}, lines[len(lines)-most:]...)
	}
	return strings.Join(lines, "\n")
}
