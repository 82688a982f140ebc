package main

import (
	"encoding/json"
	"slices"
	"testing"
)

// What the man pages are made of has each command that the help shows, and its flags.
func TestCommands(t *testing.T) {
	stdout, _ := wantCode(t, exitGood, "commands")
	var got command
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	names := func(flags []flag) (all []string) {
		for _, f := range flags {
			all = append(all, f.Name)
		}
		return all
	}
	if got.Use != "consumer" || !slices.Contains(names(got.Global), "config") {
		t.Errorf("the root is %+v", got)
	}
	seen := map[string]command{}
	for _, c := range got.Commands {
		seen[c.Use] = c
	}
	if v := seen["verify"]; !slices.Contains(names(v.Flags), "dir") || slices.Contains(names(v.Flags), "config") || v.Long == "" {
		t.Errorf("verify is %+v", v)
	}
	if l := seen["ledger"]; len(l.Commands) == 0 {
		t.Errorf("ledger is %+v", l)
	}
	for _, hidden := range []string{"commands", "completion", "help"} {
		if _, ok := seen[hidden]; ok {
			t.Errorf("%s is there", hidden)
		}
	}
}
