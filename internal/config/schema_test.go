package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("ossuary.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("ossuary.json") // against the meta-schema too
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// judge is what an editor says of the text.
func judge(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

func TestSchemaTakesTheExamples(t *testing.T) {
	s := compiled(t)
	files, _ := filepath.Glob("../../examples/*.yaml")
	if len(files) == 0 {
		t.Fatal("no examples")
	}
	for _, f := range files {
		p, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := judge(t, s, string(p)); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		c, err := Parse(f, p, func(string) (string, bool) { return "x", true })
		if err != nil {
			continue // another value would do
		}
		if err := judge(t, s, string(c.Print())); err != nil {
			t.Errorf("what check --print says of %s: %v", f, err)
		}
	}
	if err := judge(t, s, string(Default().Print())); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

// The schema and the loader say the same.
func TestSchemaAgreesWithTheLoader(t *testing.T) {
	s := compiled(t)
	route := func(more string) string { return head + source + more }
	for _, good := range []string{
		head + source,
		"embedded: {enabled: true}\n",
		head + source + "nats:\nlimits:\nlog: {level: }\n", // everything below them is commented out
		head + source + "nats: {url: nats://a:1}\n",
		head + source + "nats: {url: \"${N}\", name: 5, user: 010, password: true}\n",
		head + source + "ledger: {replicas: \"3\", interval: 1m30s}\nlease: {disabled: \"${B}\", ttl: \"${D}\"}\n",
		head + source + "limits: {memory: 1.5 GB, open_series: 10_000, max_event: 4096, max_ack_pending: \"${N}\"}\n",
		head + source + "log: {level: \"${L}\"}\n",
		strings.Replace(head, "oss-cn-hangzhou.aliyuncs.com\", bucket: bkt", "store.example\", region: a, bucket: bkt, path_style: true", 1) + source,
		ossHead("path_style: \"false\", shard_prefix: 2, traffic_limit: 245760") + source,
		head + source + "objects: {metadata: {team: 7}, tagging: {a: b}, expires: 2030-01-01T00:00:00Z, storage_class: \"\"}\n",
		route("        flush: {linger: 0, size: 64KiB}\n        roll: {idle: 0s, age: 1.5h}\n"),
		route("      - {subjects: b, skip: true}\n"),
		route("      - &r {subjects: [b.>], series: y, codec: zstd}\n      - <<: *r\n        subjects: c.>\n        name: c\n        series: z\n"),
		strings.Replace(head+source, "stream: S", "stream: S\n    start: 17\n    create: {subjects: a.>, max_age: 24h, max_bytes: 1GiB}", 1),
		strings.Replace(head+source, "stream: S", "stream: S\n    start: 2026-11-22T10:00:00Z", 1),
	} {
		if _, err := Parse("f.yaml", []byte(good), env(map[string]string{"N": "100000", "B": "true", "D": "3s", "L": "warn"})); err != nil && !strings.Contains(err.Error(), "nats.url") {
			t.Errorf("the loader refuses\n%s\n%v", good, err)
		}
		if err := judge(t, s, good); err != nil {
			t.Errorf("the schema refuses\n%s\n%v", good, err)
		}
	}
	for _, bad := range []string{
		head + source + "frobnicate: 1\n",
		source + "oss: {endpoint: \"https://oss-cn-hangzhou.aliyuncs.com\", bucket: bkt}\n",
		"archive: {name: a}\n" + source,
		head,
		head + "sources: []\n",
		head + "sources: S\n",
		"archive: a\n" + source,
		strings.Replace(head, "name: a", "name: a b", 1) + source,
		strings.Replace(head, "bucket: bkt", "bucket: BKT", 1) + source,
		strings.Replace(head, "oss: {", "oss: {access_key_secrt: x, ", 1) + source,
		ossHead("path_style: sometimes") + source,
		ossHead("credentials: {from: somewhere}") + source,
		ossHead("shard_prefix: 5") + source,
		head + source + "ledger: {interval: 5}\n",
		head + source + "ledger: {replicas: 6}\n",
		head + source + "ledger: {replicas: many}\n",
		head + source + "lease: {disabled: yes}\n",
		head + source + "lease: {ttl: soon}\n",
		head + source + "limits: {memory: lots}\n",
		head + source + "limits: {memory: 1000}\n",
		head + source + "limits: {open_series: 0}\n",
		head + source + "log: {level: loud}\n",
		head + source + "nats: {tls: {cert: [a]}}\n",
		head + source + "nats: {tls: {ca: a, certt: b}}\n",
		head + source + "objects: {storage_class: ColdArchive}\n",
		head + source + "objects: {expires: soon}\n",
		head + source + "defaults: {codec: lzma}\n",
		strings.Replace(head+source, "stream: S", "lanes: 1", 1),
		strings.Replace(head+source, "stream: S", "stream: S\n    start: never", 1),
		strings.Replace(head+source, "stream: S", "stream: S\n    lanes: 0", 1),
		strings.Replace(head+source, "stream: S", "stream: S\n    create: {storage: tape, subjects: a.>}", 1),
		strings.Replace(head+source, "stream: S", "stream: S\n    create: {storage: file}", 1),
		route("      - {subjects: [b]}\n"),
		route("      - {series: b}\n"),
		route("        codec: gzp\n"),
		route("        newline: keep\n"),
		route("        flush: {events: 0}\n"),
		route("        roll: {idle: never}\n"),
	} {
		if _, err := Parse("f.yaml", []byte(bad), env(nil)); err == nil {
			t.Errorf("the loader takes\n%s", bad)
		}
		if err := judge(t, s, bad); err == nil {
			t.Errorf("the schema takes\n%s", bad)
		}
	}
}

// The words that the schema offers are those that the loader takes.
func TestSchemaKnowsTheWords(t *testing.T) {
	offered := 0
	for path, r := range rules {
		if r.words == nil {
			continue
		}
		offered++
		err := parseWith(path, "nonsense-nonsense")
		if err == nil {
			t.Errorf("%s: the loader takes any word", path)
			continue
		}
		want := "use " + strings.Join(r.words, ", ")
		if !strings.Contains(err.Error(), "\"nonsense-nonsense\" is not") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the schema offers %q, the loader says: %v", path, r.words, err)
		}
		for _, w := range r.words {
			if err := parseWith(path, w); err != nil && strings.Contains(err.Error(), "is not known") {
				t.Errorf("%s: %s: %v", path, w, err)
			}
		}
	}
	if offered < 15 {
		t.Errorf("only %d settings have words", offered)
	}
}

// parseWith parses a sound configuration with one setting besides.
func parseWith(path, value string) error {
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(head+source+"    create: {subjects: [a]}\n"), &doc); err != nil {
		return err
	}
	at := doc
	words := strings.Split(path, ".")
	for _, w := range words[:len(words)-1] {
		if name, ok := strings.CutSuffix(w, "[]"); ok {
			at = at[name].([]any)[0].(map[string]any)
			continue
		}
		if at[w] == nil {
			at[w] = map[string]any{}
		}
		at = at[w].(map[string]any)
	}
	at[words[len(words)-1]] = value
	text, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	_, err = Parse("f.yaml", text, env(nil))
	return err
}

// Every setting is described, every rule has its setting, and what the schema says of
// a default is what holds.
func TestSchemaDescribesEverySetting(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var walk func(n map[string]any, path string)
	walk = func(n map[string]any, path string) {
		for name, p := range n["properties"].(map[string]any) {
			p, at := p.(map[string]any), strings.TrimPrefix(path+"."+name, ".")
			seen[at] = true
			if p["description"] == nil {
				t.Errorf("%s has no description: give its field in config.go a comment", at)
			}
			if items, ok := p["items"].(map[string]any); ok && items["properties"] != nil {
				p, at = items, at+"[]"
			}
			if p["properties"] != nil {
				walk(p, at)
			}
		}
	}
	walk(root, "")
	for path := range rules {
		if !seen[path] {
			t.Errorf("there is a rule for %s, which is no setting", path)
		}
	}
	if n := reflect.TypeFor[Config]().NumField(); len(seen) < 100 || len(root["properties"].(map[string]any)) != n-1 {
		t.Errorf("%d settings", len(seen))
	}
	lingers := root["properties"].(map[string]any)["defaults"].(map[string]any)["properties"].(map[string]any)["flush"].(map[string]any)["properties"].(map[string]any)["linger"].(map[string]any)
	if lingers["default"] != "1s" {
		t.Errorf("defaults.flush.linger: %v", lingers)
	}
}
