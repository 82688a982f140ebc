package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The five commands of the README, as they stand there: from nothing to an archived,
// verified and replayed stream.
func TestReadmeCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the command")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s)\nFive commands[^\n]*\n\n(.*?)\n\n`).FindSubmatch(readme)
	if block == nil {
		t.Fatal("README.md has no five commands")
	}
	var commands []string
	for line := range strings.Lines(string(block[1])) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), "  #")
		commands = append(commands, strings.TrimSpace(command))
	}
	if len(commands) != 5 || !strings.HasPrefix(commands[0], "go install ") {
		t.Fatalf("README.md has these commands: %q", commands)
	}
	home := t.TempDir()
	bin := filepath.Join(home, "bin")
	out := make([]string, len(commands))
	for i, command := range commands {
		dir := home
		if i == 0 {
			dir = "../.." // the only one that needs the source; the others write into their directory
		}
		out[i] = shell(t, dir, command, "GOBIN="+bin, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	for i, want := range []string{"", "verify: ok, 0 duplicates, 0 missing", " ok", `"subject":"orders.`, "verify: equal"} {
		if !strings.Contains(out[i], want) {
			t.Errorf("%s: no %q in:\n%s", commands[i], want, out[i])
		}
	}
}

func shell(t *testing.T, dir, command string, env ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "sh", "-c", command)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}
