package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// Every mutant still finds what it replaces, once, and names tests that there are.
// Whether they catch it is for the command to show.
func TestListFollowsTheCode(t *testing.T) {
	all, err := load(lists)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("the list is empty")
	}
	names := map[string][]string{}
	for _, m := range all {
		if _, err := m.apply(".."); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		for _, c := range m.Tests {
			if names[c.In] == nil {
				names[c.In] = testsIn(t, filepath.Join("..", filepath.FromSlash(c.In)))
			}
			top, _, _ := strings.Cut(c.Run, "/")
			pattern, err := regexp.Compile(top)
			if err != nil {
				t.Errorf("%s: %v", m.Name, err)
				continue
			}
			found := false
			for _, name := range names[c.In] {
				found = found || pattern.MatchString(name)
			}
			if !found {
				t.Errorf("%s: %s has no test that %s would run", m.Name, c.In, c)
			}
		}
	}
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)

func testsIn(t *testing.T, dir string) (names []string) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		p, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunc.FindAllSubmatch(p, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names
}

// The command must tell the ends apart: what does not compile, or fails anyway, is
// no catch.
func TestEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a dozen test binaries")
	}
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example\n\ngo 1.26\n",
		"p/p.go": "package p\n\nfunc Two() int { return 2 }\n\nfunc Three() int { return 3 }\n",
		"p/p_test.go": `package p

import "testing"

func TestTwo(t *testing.T) {
	t.Run("really", func(t *testing.T) {
		for Two() < 0 {
		}
		if Two() != 2 {
			t.Error(Two())
		}
	})
}

func TestFails(t *testing.T) { t.Error("always") }

func TestElsewhere(t *testing.T) {
	done := make(chan struct{})
	go func() {
		_ = make([]int, 4)[Two()+Two()-1]
		close(done) // not deferred: the test could end before the panic ends the process
	}()
	<-done
}
`,
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := load(fstest.MapFS{"p.yaml": {Data: []byte(`
package: p
mutants:
  - {name: two, rule: two is 2, file: p.go, old: return 2, new: return 3, tests: [{run: ^TestTwo$}]}
  - {name: second, rule: a later test may catch it, file: p.go, old: return 2, new: return 9, tests: [{run: ^TestTwo$/^none$}, {run: ^TestTwo$}]}
  - {name: panics, rule: a panic beside the test is a failure, file: p.go, old: return 2, new: return 3, tests: [{run: ^TestElsewhere$}]}
  - {name: hangs, rule: two is not negative, file: p.go, old: return 2, new: return -2, timeout: 1s, tests: [{run: ^TestTwo$}]}
  - {name: three, rule: nobody tests three, file: p.go, old: return 3, new: return 4, tests: [{run: ^TestTwo$}]}
  - {name: moved, rule: it was there once, file: p.go, old: return 5, new: return 6, tests: [{run: ^TestTwo$}]}
  - {name: unclear, rule: it is there twice, file: p.go, old: return, new: panic, tests: [{run: ^TestTwo$}]}
  - {name: compiles-not, rule: Go is strict, file: p.go, old: return 2, new: return two, tests: [{run: ^TestTwo$}]}
  - {name: fails-anyway, rule: the test is red, file: p.go, old: return 2, new: return 3, tests: [{run: ^TestFails$}]}
  - {name: runs-nothing, rule: the test is none, file: p.go, old: return 2, new: return 3, tests: [{run: ^TestNone$}]}
  - {name: equivalent, rule: nothing shows it, file: p.go, old: return 2, new: return 1+1, equivalent: it is 2}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := options{parallel: 2, timeout: time.Minute}
	code, err := o.tryAll(t.Context(), newRunner(root, t.TempDir(), o.timeout), all, &out)
	if err != nil || code != 1 {
		t.Errorf("exit code %d, %v", code, err)
	}
	for name, want := range map[string]string{
		"two": caught, "second": caught, "panics": caught, "hangs": timedOut, "three": survived, "moved": broken, "unclear": broken,
		"compiles-not": broken, "fails-anyway": broken, "runs-nothing": broken, "equivalent": same,
	} {
		if !regexp.MustCompile(`(?m)^` + want + ` +` + name + ` `).Match(out.Bytes()) {
			t.Errorf("%s: want %s", name, want)
		}
	}
	for _, want := range []string{"4 of 10 mutants caught, 1 by timeout, 1 survived, in ", "5 mutants could not be tried", "TestTwo/really", "TestElsewhere (panic)", "1 equivalent mutants were not tried"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestUnsoundLists(t *testing.T) {
	const good = `{name: a, rule: r, file: f.go, old: x, new: y, tests: [{run: T}]}`
	for name, list := range map[string]string{
		"no package":           "mutants: [" + good + "]",
		"a name twice":         "package: p\nmutants: [" + good + ", " + good + "]",
		"an unknown key":       "package: p\nmutants: [" + strings.Replace(good, "rule", "rules", 1) + "]",
		"no rule":              "package: p\nmutants: [" + strings.Replace(good, "rule: r, ", "", 1) + "]",
		"no change":            "package: p\nmutants: [" + strings.Replace(good, "new: y", "new: x", 1) + "]",
		"no test":              "package: p\nmutants: [" + strings.Replace(good, "{run: T}", "", 1) + "]",
		"all tests":            "package: p\nmutants: [" + strings.Replace(good, "{run: T}", "{in: p}", 1) + "]",
		"equivalent and tests": "package: p\nmutants: [" + strings.Replace(good, "{name", "{equivalent: so, name", 1) + "]",
	} {
		if _, err := load(fstest.MapFS{"p.yaml": {Data: []byte(list)}}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := load(fstest.MapFS{"p.yaml": {Data: []byte("package: p\nmutants: [" + good + "]")}}); err != nil {
		t.Error(err)
	}
}
