package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ossuary/internal/archive"
)

// The archive that the first version of the format wrote is proven and printed as
// it was then, whatever this version is.
func TestReadsTheFirst(t *testing.T) {
	const first = "../../internal/service/testdata/v1"
	golden := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	from := []string{"--dir", filepath.Join(first, "objects"), "--prefix", "shop/"}

	var want archive.Report
	if err := json.Unmarshal([]byte(golden("verify.json")), &want); err != nil {
		t.Fatal(err)
	}
	got := verified(t, exitGood, from...)
	// What it says of a note may be said better one day, but not of what.
	places := func(r archive.Report) (all []archive.Finding) {
		for _, f := range r.Notes {
			f.What, f.Mend = "", ""
			all = append(all, f)
		}
		return all
	}
	type counts struct {
		objects, segments                                 int
		bytes                                             int64
		events, deadLetters, skipped, duplicates, missing uint64
		problems                                          int
		result                                            string
	}
	count := func(r archive.Report) counts {
		return counts{r.Objects, r.Segments, r.Bytes, r.Events, r.DeadLetters, r.Skipped, r.Duplicates, r.Missing, len(r.Problems), r.Result}
	}
	if count(got) != count(want) {
		t.Errorf("verify says %+v, the first version %+v", got, want)
	}
	if a, b := places(got), places(want); !slices.Equal(a, b) {
		t.Errorf("verify has notes on %+v, the first version on %+v", a, b)
	}

	for name, args := range map[string][]string{"cat.ndjson": {"cat"}, "dead.ndjson": {"cat", "--dead"}} {
		if stdout, _ := wantCode(t, exitGood, append(args, from...)...); stdout != golden(name) {
			t.Errorf("consumer %v prints\n%s, the first version printed what stands in %s", args, stdout, name)
		}
	}
}
