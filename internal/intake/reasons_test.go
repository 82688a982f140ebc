package intake

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Dashboards and alerts know the reasons for which epochs end by name, and metrics
// begin with all of them at 0.
func TestEndReasonsAreComplete(t *testing.T) {
	pkgs, err := parser.ParseDir(token.NewFileSet(), ".", func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, 0) //nolint:staticcheck // build tags do not matter here
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"error": true} // of an end that nobody named
	for _, pkg := range pkgs {
		ast.Inspect(pkg, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			name := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			if name != "ended" && name != "gone" {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok {
				reason, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				used[reason] = true
			}
			return true
		})
	}
	for reason := range used {
		if !slices.Contains(EndReasons, reason) {
			t.Errorf("epochs end for %q, which EndReasons does not list", reason)
		}
	}
	for _, reason := range EndReasons {
		if !used[reason] {
			t.Errorf("EndReasons lists %q, for which no epoch ends", reason)
		}
	}
}
