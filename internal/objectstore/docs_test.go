package objectstore

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that docs/OSS.md says show something are there.
func TestDocumentsNameTests(t *testing.T) {
	text, err := os.ReadFile("../../docs/OSS.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z]+)\\.(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Fatalf("it names %d tests", len(named))
	}
	known := map[string]string{}
	for _, m := range named {
		pkg, name := m[1], m[2]
		if known[pkg] == "" {
			dir := "../" + pkg
			if pkg == "main" {
				dir = "../../cmd/consumer"
			}
			files, err := filepath.Glob(dir + "/*_test.go")
			if err != nil || len(files) == 0 {
				t.Fatalf("package %s has no tests: %v", pkg, err)
			}
			for _, f := range files {
				p, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				known[pkg] += string(p)
			}
		}
		if !strings.Contains(known[pkg], "\nfunc "+name+"(") {
			t.Errorf("there is no test %s.%s", pkg, name)
		}
	}
}
