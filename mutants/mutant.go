package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

//go:embed *.yaml
var lists embed.FS

// list is one file of mutants, those of a package.
type list struct {
	Package string    `yaml:"package"` // below the module's root, as in internal/event
	Mutants []*mutant `yaml:"mutants"`
}

// mutant is a rule and the change that takes it out of the code.
type mutant struct {
	Name string `yaml:"name"`
	Rule string `yaml:"rule"` // what holds, or what would go wrong without it
	File string `yaml:"file"` // in the package
	Old  string `yaml:"old"`  // occurs in the file once
	New  string `yaml:"new"`
	// Tests are tried in this order until one fails.
	Tests   []test        `yaml:"tests"`
	Timeout time.Duration `yaml:"timeout"` // of each of the commands; 0: the flag's
	// Equivalent says what else keeps the rule, for one that no test can miss. It is
	// held against the code like the others, but not counted.
	Equivalent string `yaml:"equivalent"`

	pkg string
}

// test is a command: go test of a package with -run.
type test struct {
	In  string `yaml:"in"` // package; "": the mutant's
	Run string `yaml:"run"`
}

// load reads the lists, in the order of their names.
func load(from fs.FS) (all []*mutant, err error) {
	names, err := fs.Glob(from, "*.yaml")
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for _, name := range names {
		data, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, err
		}
		var l list
		if err := yaml.UnmarshalWithOptions(data, &l, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, m := range l.Mutants {
			m.pkg = l.Package
			for i := range m.Tests {
				if m.Tests[i].In == "" {
					m.Tests[i].In = l.Package
				}
			}
			if err := m.sound(); err != nil {
				return nil, fmt.Errorf("%s: mutant %q: %w", name, m.Name, err)
			}
			if other := known[m.Name]; other != "" {
				return nil, fmt.Errorf("%s: mutant %q is in %s too", name, m.Name, other)
			}
			known[m.Name] = name
			all = append(all, m)
		}
	}
	return all, nil
}

// sound refuses a mutant that says too little.
func (m *mutant) sound() error {
	switch {
	case m.pkg == "" || m.Name == "" || m.Rule == "" || m.File == "" || m.Old == "":
		return errors.New("package, name, rule, file and old are needed")
	case m.Old == m.New:
		return errors.New("it changes nothing")
	case len(m.Tests) == 0 && m.Equivalent == "":
		return errors.New("no test is named that catches it")
	case len(m.Tests) > 0 && m.Equivalent != "":
		return errors.New("it is equivalent, so no test can catch it")
	}
	for _, t := range m.Tests {
		if t.Run == "" {
			return errors.New("a test without run would be all tests")
		}
	}
	return nil
}

// widen has the mutant tried with all tests of the packages that it names.
func (m *mutant) widen() {
	var wide []test
	for _, t := range m.Tests {
		if t.Run = "."; !slices.Contains(wide, t) {
			wide = append(wide, t)
		}
	}
	m.Tests = wide
}

// path is where the mutant's file is below the module's root.
func (m *mutant) path() string { return filepath.Join(filepath.FromSlash(m.pkg), m.File) }

// apply returns the file as the mutant has it.
func (m *mutant) apply(root string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(root, m.path()))
	if err != nil {
		return nil, err
	}
	text := string(data)
	switch n := strings.Count(text, m.Old); n {
	case 1:
		return []byte(strings.Replace(text, m.Old, m.New, 1)), nil
	case 0:
		return nil, fmt.Errorf("%s does not have what the mutant replaces: the code has moved, and the list has to follow it", m.path())
	default:
		return nil, fmt.Errorf("%s has what the mutant replaces %d times, so that it is not clear which is meant", m.path(), n)
	}
}
