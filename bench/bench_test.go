//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The bench starts processes of its own binary, which is this one here.
func TestMain(m *testing.M) {
	beWhatWeAreTold()
	os.Exit(m.Run())
}

// One small scenario from end to end: everything is built and started, every
// contender comes to its end and is counted.
func TestBenchEndToEnd(t *testing.T) {
	dir := t.TempDir()
	file, svg := filepath.Join(dir, "bench.json"), filepath.Join(dir, "bench.svg")
	if err := os.WriteFile(filepath.Join(dir, "PERFORMANCE.md"), []byte("above\n"+docsBegin+"\nold\n"+docsEnd+"\nbelow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	args := []string{"--scenario", "series-1000,adoption", "--rounds", "1", "--events", "4000", "--json", file, "--svg", svg, "--docs", dir}
	if code := run(t.Context(), args, &out, &log); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, log.String(), out.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rounds["series-1000"]) != 1 {
		t.Fatalf("not one round: %s", text)
	}
	for _, c := range []string{bareExplicit, plain, known} {
		f := r.Rounds["series-1000"][0].Figures[c]
		if f.Events < 1000 || f.Seconds <= 0 || f.Peak == 0 || f.Mallocs <= 0 {
			t.Errorf("%s: %+v", c, f)
		}
		if c != bareExplicit && (f.Appends < 1000*1e6/4000 || f.LedgerWrites < f.Appends/2 || f.Bytes < 1024) {
			t.Errorf("%s: appends and ledger writes do not fit a thousand series: %+v", c, f)
		}
		if !strings.Contains(out.String(), c) {
			t.Errorf("the table lacks %s:\n%s", c, out.String())
		}
	}
	// A whole frame is read back and no more.
	if n := r.Rounds["adoption"][0].Values["bytes read per byte of the frame"]; n != 1 {
		t.Errorf("%v frames were read to adopt one", n)
	}
	if picture, err := os.ReadFile(svg); err != nil || !bytes.Contains(picture, []byte("Ossuary, 1,000 series")) {
		t.Errorf("the picture: %v %.100s", err, picture)
	}
	page, err := os.ReadFile(filepath.Join(dir, "PERFORMANCE.md"))
	if err != nil || !bytes.HasPrefix(page, []byte("above\n"+docsBegin+"\n")) || !bytes.HasSuffix(page, []byte(docsEnd+"\nbelow\n")) ||
		bytes.Contains(page, []byte("old")) || !bytes.Contains(page, []byte("| 1,000 series: pace")) {
		t.Errorf("the page: %v\n%s", err, page)
	}
}

func TestBadFlagsAreExplained(t *testing.T) {
	for _, tt := range []struct{ arg, want string }{
		{"--scenario=nosuch", "series-16"},
		{"--rounds=0", "at least 1"},
		{"--contender=(", "missing closing"},
		{"--events=5", "at least 1000"},
		{"--consumer=/no/such/file", "/no/such/file"},
		{"surplus", "no flag"},
	} {
		var out, log bytes.Buffer
		if code := run(t.Context(), []string{tt.arg}, &out, &log); code != 2 || !strings.Contains(log.String(), tt.want) {
			t.Errorf("%s: exit code %d, %q", tt.arg, code, log.String())
		}
	}
}

// A ratio pairs contenders of one round; a round that lacks one of them is left out.
func TestRatiosAreOfTheSameRound(t *testing.T) {
	at := func(rate float64) figures { return figures{Events: int(rate), Seconds: 1} }
	r := results{Rounds: map[string][]*round{"series-16": {
		{Figures: map[string]figures{plain: at(300), bareExplicit: at(100)}},
		{Figures: map[string]figures{plain: at(100), bareExplicit: at(200)}},
		{Figures: map[string]figures{plain: at(220), bareExplicit: at(200)}},
		{Figures: map[string]figures{plain: at(900)}},
	}}}
	r.judge()
	for _, o := range r.Targets {
		if o.Bound == 1.1 {
			if want := (spread{Min: 0.5, Median: 1.1, Max: 3, Rounds: 3}); o.Spread != want || !o.Met {
				t.Errorf("%+v", o)
			}
			return
		}
	}
	t.Fatalf("there is no such row: %+v", r.Targets)
}

func TestMedianOfAnEvenNumber(t *testing.T) {
	if got, want := spreadOf([]float64{4, 1, 2, 8}), (spread{1, 3, 8, 4}); got != want {
		t.Errorf("%+v", got)
	}
}

func TestPagesWithoutMarkersAreLeftAlone(t *testing.T) {
	for _, text := range []string{"", docsBegin + "\n", docsEnd + "\n" + docsBegin + "\n"} {
		if got, err := between(text, "x"); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestAckedSequence(t *testing.T) {
	for _, tt := range []struct {
		subject string
		want    int // 0: refused
	}{
		{"$JS.ACK.S.c.1.17.9.1700000000000000000.4", 17},
		{"$JS.ACK.hub.hash.S.c.1.17.9.1700000000000000000.4", 17},
		{"$JS.ACK.hub.hash.S.c.1.17.9.1700000000000000000.4.token", 17},
		{"$JS.ACK.S.c.1", 0},
		{"$JS.ACK.S.c.1.x.9.1700000000000000000.4", 0},
	} {
		if got, err := ackedSequence(tt.subject); got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%s: %d %v", tt.subject, got, err)
		}
	}
}

func TestPayloadIsJSONOfTheSizeAskedFor(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{128, 1024} {
		for i := range 200 {
			if p := payload(r, i, size); len(p) != size || !json.Valid(p) {
				t.Fatalf("%d bytes: %s", len(p), p)
			}
		}
	}
}

// A row that was not measured does not stand in the way of one that was.
func TestGreatestOfTheRowsThatThereAre(t *testing.T) {
	value := greatest(peak, plain, known)
	for _, tt := range []struct {
		figures map[string]figures
		want    float64
		ok      bool
	}{
		{map[string]figures{plain: {Peak: 3 << 20}, known: {Peak: 5 << 20}, knownSmall: {Peak: 9 << 20}}, 5, true},
		{map[string]figures{plain: {Peak: 3 << 20}}, 3, true},
		{map[string]figures{bareAll: {Peak: 3 << 20}}, 0, false},
	} {
		if got, ok := value(&round{Figures: tt.figures}); got != tt.want || ok != tt.ok {
			t.Errorf("%v: %v %v", tt.figures, got, ok)
		}
	}
}
