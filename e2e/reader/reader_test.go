package reader

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The reader finds what is wrong: one that finds nothing proves nothing.
func TestReaderFindsWhatIsWrong(t *testing.T) {
	const good = `{"seq":1,"ts":"2026-11-22T10:00:00Z","subject":"s.a","headers":{"H":["v"]},"data":{"n":1}}
{"seq":2,"ts":"2026-11-22T10:00:01Z","subject":"s.a","text":"two"}
{"seq":4,"ts":"2026-11-22T10:00:02Z","subject":"s.a","base64":"/w=="}
`
	at := func(s int) time.Time { return time.Date(2026, 11, 22, 10, 0, s, 0, time.UTC) }
	want := func() map[uint64]Expected {
		return map[uint64]Expected{
			1: {"a", "s.a", at(0), map[string][]string{"H": {"v"}}, sha256.Sum256([]byte(`{"n":1}`))},
			2: {"a", "s.a", at(1), nil, sha256.Sum256([]byte("two"))},
			4: {"a", "s.a", at(2), nil, sha256.Sum256([]byte{0xff})},
		}
	}
	lines := strings.SplitAfter(good, "\n")
	for _, tt := range []struct{ name, a1, a2, says string }{
		{"good", good, "", ""},
		{"missing", lines[0] + lines[2], "", "missing: 2"},
		{"twice in a segment", good + lines[2], "", "twice: 4"},
		{"twice in another", good, lines[0], "twice: 1"},
		{"out of order", lines[1] + lines[0] + lines[2], "", "order: "},
		{"payload", strings.Replace(good, "two", "tow", 1), "", "payload: "},
		{"header", strings.Replace(good, `["v"]`, `["w"]`, 1), "", "headers: "},
		{"subject", strings.Replace(good, "s.a", "s.b", 1), "", "subject: "},
		{"time", strings.Replace(good, "00:01Z", "00:01.1Z", 1), "", "time: "},
		{"unknown", good, strings.Replace(lines[2], `"seq":4`, `"seq":5`, 1), "unknown: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, text := range []string{tt.a1, tt.a2} {
				name := filepath.Join(dir, []string{"a.000001.ndjson", "a.000002.ndjson"}[i])
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			a, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(a.Compare(want()).Words, "\n")
			if (tt.says == "") != (said == "") || !strings.Contains(said, tt.says) {
				t.Errorf("want %q, the reader says:\n%s", tt.says, said)
			}
		})
	}
}
