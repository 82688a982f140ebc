package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"ossuary/internal/router"
)

func env(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

const head = `archive: {name: a}
oss: {endpoint: "https://oss-cn-hangzhou.aliyuncs.com", bucket: bkt}
`

const source = `sources:
  - stream: S
    routes:
      - subjects: ["a.>"]
        series: "x/{{subject}}"
`

func TestExamplesLoad(t *testing.T) {
	t.Setenv("OSS_ACCESS_KEY_ID", "id")
	t.Setenv("OSS_ACCESS_KEY_SECRET", "secret")
	files, _ := filepath.Glob("../../examples/*.yaml")
	if len(files) == 0 {
		t.Fatal("no examples")
	}
	for _, f := range files {
		c, err := Load(f)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if len(c.Warnings) > 0 {
			t.Errorf("%s: %v", f, c.Warnings)
		}
		for _, l := range c.Layouts() {
			if _, err := router.New(l); err != nil {
				t.Errorf("%s: %v", f, err)
			}
		}
	}
}

// What the example shows as a default is the default.
func TestExampleShowsDefaults(t *testing.T) {
	data, err := os.ReadFile("../../examples/ossuary.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, tail, ok := strings.Cut(string(data), "# What routes do that do not say.\n")
	if !ok {
		t.Fatal("the example has changed its shape")
	}
	tail = regexp.MustCompile(`(?m)^# ?`).ReplaceAllString(tail, "")
	_, oss, ok1 := strings.Cut(string(data), "  # credentials:")
	oss, _, ok2 := strings.Cut(oss, "\nsources:")
	if !ok1 || !ok2 {
		t.Fatal("the example has changed its shape")
	}
	oss = regexp.MustCompile(`(?m)^  # `).ReplaceAllString("  # credentials:"+oss, "  ")
	shown := strings.Replace(head, "oss: {endpoint: \"https://oss-cn-hangzhou.aliyuncs.com\", bucket: bkt}\n",
		"oss:\n  endpoint: https://oss-cn-hangzhou.aliyuncs.com\n  bucket: bkt\n"+oss+"\n", 1)
	got, err := Parse("example", []byte(shown+source+tail), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("example", []byte(head+source), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if g, w := string(got.Print()), string(want.Print()); g != w {
		t.Errorf("the example says\n%s\nthe defaults are\n%s", g, w)
	}
}

func TestDefault(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Error(c.Warnings)
	}
	l := c.Layouts()[0]
	r, err := router.New(l)
	if err != nil {
		t.Fatal(err)
	}
	got := r.Resolve(&router.Message{Subject: "events.a", Time: time.Date(2026, 11, 22, 10, 59, 0, 0, time.UTC)})
	if got.Series != "events/2026/11/22/10" || c.Sources[0].Stream != "EVENTS" || c.NATS.URLs[0] != "nats://127.0.0.1:4222" || !c.Embedded.Enabled {
		t.Errorf("%+v, %+v", got, c)
	}
	if n := c.Sources[0].Routes[0].Name; n != "events.>" {
		t.Errorf("route is called %q", n)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct{ name, yaml, want string }{
		{"unknown setting", head + "sources:\n  - stream: S\n    routes:\n      - subject: [a]\n        serie: x\n",
			"f.yaml:6:9: sources[0].routes[0].subject: unknown setting; did you mean \"subjects\"?\n     6 |       - subject …\n       |         ^^^^^^^"},
		{"second of several", head + "sources:\n  - stream: S\n    routes:\n      - subject: [a]\n        serie: x\n",
			"f.yaml:7:9: sources[0].routes[0].serie: unknown setting; did you mean \"series\"?"},
		{"secret in a mistyped line", "oss:\n  access_key_secrt: hunter2\n",
			"f.yaml:2:3: oss.access_key_secrt: unknown setting; did you mean \"access_key_secret\"?\n     2 |   access_key_secrt …\n       |   ^^^^^^^^^^^^^^^^"},
		{"no such word", "frobnicate: 1\n", "f.yaml:1:1: frobnicate: unknown setting; known are archive, nats,"},
		{"duration", head + "ledger: {interval: 5}\n" + source, "f.yaml:3:20: ledger.interval: \"5\" is no duration; write a number with its unit"},
		{"size", head + "limits:\n  memory: lots\n" + source, "f.yaml:4:11: limits.memory: \"lots\" is no size"},
		{"lanes of an instance", head + "lease: {lanes: -1}\n" + source, "lease.lanes: -1 is too little; use at least 0"},
		{"bool", head + "lease: {disabled: yes}\n" + source, "lease.disabled: \"yes\" is neither true nor false"},
		{"start", head + strings.Replace(source, "stream: S", "stream: S\n    start: never", 1), "f.yaml:5:12: sources[0].start: \"never\" is no place to start; use all, new"},
		{"list", head + "sources: S\n", "f.yaml:3:10: sources: this wants a list; begin each entry with -"},
		{"struct", "archive: a\n", "f.yaml:1:10: archive: this wants settings of its own; write them below it, indented: name"},
		{"unquoted template", head + strings.Replace(source, `"x/{{subject}}"`, `{{subject}}`, 1), `a value that begins with {{ must stand in quotes`},
		{"template column, quoted", head + strings.Replace(source, "{{subject}}", "{{wildcard(3)}}", 1),
			"f.yaml:7:31: sources[0].routes[0].series: wildcard(3): the subject a.> has only 1; use wildcard(1) to wildcard(1)"},
		{"syntax", "a: [1\nb: 2", "f.yaml:"},
		{"duplicate key", head + head, "f.yaml:3:1: "},
		{"second document", head + source + "---\na: 1\n", "a second document; put everything into one"},
		{"archive", strings.Replace(head, "name: a", "name: a b", 1) + source, "f.yaml:1:17: archive.name: \"a b\" is no name of an archive; use up to 64"},
		{"no archive, no place", source + "oss: {endpoint: \"https://oss-cn-hangzhou.aliyuncs.com\", bucket: bkt}\n", "archive.name: the archive has no name; name it"},
		{"region", strings.Replace(head, "oss-cn-hangzhou.aliyuncs.com", "store.example", 1) + source, "oss.region: the region does not follow"},
		{"raw plain", head + source + "        format: raw\n        codec: plain\n", "f.yaml:9:16: sources[0].routes[0].codec: the raw format has no room"},
		{"near word", head + source + "        codec: gzp\n", "f.yaml:8:16: sources[0].routes[0].codec: \"gzp\" is not known; use gzip, zstd, plain"},
		{"unreachable", head + source + "      - {subjects: [a.b], series: y}\n", "sources[0].routes[1].subjects: a.b is never reached: route \"a.>\" takes a.> before; move this route up"},
		{"same name", head + source + "      - {subjects: [b.*], series: y, name: a.>}\n", "sources[0].routes[1].name: route 1 has the name \"a.>\" too"},
		{"same series, other form", head + source + "      - {subjects: [b.*], series: \"x/{{token(1)}}\", codec: zstd}\n",
			""},
		{"same series, other form 2", head + source + "      - {subjects: [\"b.*\", \"*.c\"], series: \"x/{{subject}}\", codec: zstd}\n",
			"sources[0].routes[1].series: route \"a.>\" can write the same series as envelope gzip, this one as envelope zstd"},
		{"same stream", head + source + strings.TrimPrefix(source, "sources:\n"), "f.yaml:8:13: sources[1].stream: sources[0] is the stream S too"},
		{"two sources, one series", head + source + strings.Replace(strings.TrimPrefix(source, "sources:\n"), "stream: S", "stream: T", 1),
			"sources[1].routes[0].series: route \"a.>\" of stream S can write the same series"},
		{"roll", head + source + "        roll: {size: 5GiB}\n", "f.yaml:8:22: sources[0].routes[0].roll.size: 5GiB is too much"},
		{"flush above memory", head + source + "        flush: {size: 512MiB}\n", "flush.size: a batch is larger than limits.memory"},
		{"flush above roll", head + source + "        flush: {size: 8MiB}\n        roll: {size: 4MiB}\n", "flush.size: a batch is larger than roll.size"},
		{"lanes", head + strings.Replace(source, "stream: S", "stream: S\n    lanes: 4", 1), "sources[0].routes[0].series: with 4 lanes two of them could write this series; begin the name with {{lane}}/"},
		{"prefix", strings.Replace(head, "bucket: bkt", "bucket: bkt, prefix: p", 1) + source, "oss.prefix: the prefix \"p\" does not end with /; write \"p/\""},
		{"two logins", head + "nats: {user: u, token: t}\n" + source, "nats.token: there are several ways to log in: user, token"},
		{"login in the address too", head + "nats: {url: [\"nats://a:1\", \"nats://u:hunter2@b:1\"], token: t}\n" + source,
			"f.yaml:3:28: nats.url[1]: the address holds a login, and the settings name another"},
		{"domain and prefix", head + "nats: {jetstream_domain: hub, jetstream_api_prefix: JS.hub}\n" + source, "f.yaml:3:53: nats.jetstream_api_prefix: nats.jetstream_domain is set too"},
		{"no domain", head + "nats: {jetstream_domain: $JS.hub.API}\n" + source, "f.yaml:3:26: nats.jetstream_domain: \"$JS.hub.API\" is no name of a domain"},
		{"no prefix", head + "nats: {inbox_prefix: \"_INBOX.>\"}\n" + source, "f.yaml:3:22: nats.inbox_prefix: \"_INBOX.>\" does not begin a subject"},
		{"value and file", head + "nats: {user: u, password: p, password_file: f}\n" + source, "nats.password_file: nats.password is set too"},
		{"unset variable", head + "nats: {url: \"${NOPE}\"}\n" + source, "f.yaml:3:13: nats.url: the environment variable NOPE is not set; set it, or write ${NOPE:-default}"},
		{"no anchor", head + "log: *quiet\n" + source, "f.yaml:3:6: log: *quiet: there is no &quiet; write &quiet before"},
		{"no number", head + "ledger: {replicas: many}\n" + source, "f.yaml:3:20: ledger.replicas: \"many\" is no whole number; write one"},
		{"tab", "archive:\n\tname: a\n", "f.yaml:2:1: this is no YAML"},
		{"alias bomb", "a: &a [x,x,x,x,x,x,x,x,x,x]\n", "f.yaml:1:1: a: unknown setting"},
		{"alias of itself", "archive: &a\n  name: *a\n", "f.yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tt.yaml), env(nil))
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, p := range err.(*Error).Problems {
				if p.Mend == "" || p.Line == 0 && !strings.HasPrefix(tt.want, p.Path) {
					t.Errorf("%+v: where, or what mends it?", p)
				}
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	c, err := Parse("f.yaml", []byte(head+source+"limits: {max_ack_pending: 1000}\nlease: {disabled: true}\n"), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	var all string
	for _, w := range c.Warnings {
		all += w.Error() + "\n"
	}
	if !strings.Contains(all, "limits.max_ack_pending: 1000 events may wait") || !strings.Contains(all, "lease.disabled") {
		t.Error(all)
	}
}

// Unless it is set, what may be unacknowledged follows from the memory that it waits in.
func TestMaxAckPendingByMemory(t *testing.T) {
	for limits, want := range map[string]int{
		"{}":                                   256 << 10,
		"{memory: 1MiB}":                       100_000,
		"{memory: 512MiB}":                     512 << 10,
		"{memory: 64GiB}":                      1_000_000,
		"{max_ack_pending: 0}":                 256 << 10,
		"{max_ack_pending: 30000}":             30_000,
		"{memory: 1GiB, max_ack_pending: 5e6}": 0,
		"{max_ack_pending: 5000000}":           5_000_000,
	} {
		c, err := Parse("f.yaml", []byte(head+source+"defaults: {flush: {size: 64KiB}}\nlimits: "+limits+"\n"), env(nil))
		if want == 0 {
			if err == nil {
				t.Errorf("%s was taken", limits)
			}
			continue
		}
		if err != nil || c.Limits.MaxAckPending != want {
			t.Errorf("%s: %+v %v, want %d", limits, c, err, want)
			continue
		}
		if printed := string(c.Print()); !strings.Contains(printed, fmt.Sprintf("max_ack_pending: %d\n", want)) {
			t.Errorf("%s is printed as\n%s", limits, printed)
		}
	}
	if _, err := Parse("f.yaml", []byte(head+source+"limits: {max_ack_pending: -1}\n"), env(nil)); err == nil {
		t.Error("-1 was taken")
	}
}

func TestEnvironment(t *testing.T) {
	vars := env(map[string]string{"B": "bkt", "N": "2", "EMPTY": "", "EVIL": "x\n  cname: true", "T": "{{token(1)}}"})
	y := `archive: {name: "${EMPTY:-arch}"}
oss:
  endpoint: https://oss-cn-hangzhou.aliyuncs.com
  bucket: ${B}
  access_key_id: ${EVIL}
  access_key_secret: $${B}
ledger: {replicas: "${N}"}
` + strings.Replace(source, "{{subject}}", "${T}", 1)
	c, err := Parse("f.yaml", []byte(y), vars)
	if err != nil {
		t.Fatal(err)
	}
	if c.Archive.Name != "arch" || c.OSS.Bucket != "bkt" || c.Ledger.Replicas != 2 || c.OSS.CNAME ||
		c.OSS.AccessKeyID != "x\n  cname: true" || c.OSS.AccessKeySecret != "${B}" || c.Sources[0].Routes[0].Series != "x/{{token(1)}}" {
		t.Errorf("%+v", c)
	}
}

func TestDefaultsOfRoutes(t *testing.T) {
	// The defaults stand behind the routes, and a route may say zero.
	y := head + source + `        flush: {linger: 0s}
        roll: {idle: 0s, size: 2GiB}
      - {subjects: [b.>], series: "y/{{subject}}"}
defaults: {codec: zstd, flush: {linger: 5s, events: 7}, roll: {idle: 10m}}
`
	c, err := Parse("f.yaml", []byte(y), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	r := c.Sources[0].Routes
	want := []Route{
		{Name: "a.>", Subjects: []string{"a.>"}, Series: "x/{{subject}}", Format: "envelope", Codec: "zstd", Payload: "auto", Newline: "refuse",
			Flush: Flush{1 << 20, 7, 0}, Roll: Roll{2 << 30, 0, 0}},
		{Name: "b.>", Subjects: []string{"b.>"}, Series: "y/{{subject}}", Format: "envelope", Codec: "zstd", Payload: "auto", Newline: "refuse",
			Flush: Flush{1 << 20, 7, 5 * time.Second}, Roll: Roll{1 << 30, 0, 10 * time.Minute}},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
}

func TestAnchorsAndMerge(t *testing.T) {
	y := head + `sources:
  - stream: S
    routes:
      - &r
        name: one
        subjects: [a.>]
        series: x/{{subject}}
        codec: zstd
      - <<: *r
        name: two
        subjects: b.>
`
	c, err := Parse("f.yaml", []byte(y), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	r := c.Sources[0].Routes[1]
	if r.Name != "two" || r.Codec != "zstd" || r.Subjects[0] != "b.>" || r.Series != "x/{{subject}}" {
		t.Errorf("%+v", r)
	}
}

func TestPrintHidesSecrets(t *testing.T) {
	y := strings.Replace(head, "bucket: bkt", "bucket: bkt, access_key_id: LTAI, access_key_secret: hunter2, security_token: hunter2", 1) +
		"nats: {url: [\"nats://bob:hunter2@h:4222\", \"nats://hunter2@h:4222\"]}\n" + source
	c, err := Parse("f.yaml", []byte(y), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	login, err := Parse("f.yaml", []byte(head+"nats: {user: u, password: hunter2}\n"+source), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	out := string(c.Print()) + string(login.Print())
	if strings.Contains(out, "hunter2") || strings.Contains(out, "bob") {
		t.Errorf("a secret is shown:\n%s", out)
	}
	for _, want := range []string{"access_key_secret: (hidden)", "password: (hidden)", "memory: 256MiB", "linger: 1s", "idle: 1h\n", "start: all", "access_key_id: LTAI"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// What Print shows is what holds: reading it gives the same again.
func TestPrintReads(t *testing.T) {
	for _, f := range []string{"../../examples/ossuary.yaml", "../../examples/minimal.yaml", ""} {
		c, err := Load(f)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("printed", c.Print(), env(nil))
		if err != nil {
			t.Fatalf("%v\n%s", err, c.Print())
		}
		if c.OSS.AccessKeySecret != "" {
			c.OSS.AccessKeySecret = "(hidden)"
		}
		if !reflect.DeepEqual(c, again) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", f, again, c)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	p := filepath.Join(t.TempDir(), "secret")
	o := OSS{AccessKeyID: "id", AccessKeySecretFile: p}
	if _, _, _, err := o.Keys(); err == nil {
		t.Error("a missing file gave no error")
	}
	for _, v := range []string{"one", "two"} {
		if err := os.WriteFile(p, []byte(v+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		id, secret, token, err := o.Keys()
		if err != nil || id != "id" || secret != v || token != "" {
			t.Errorf("%q %q %q %v", id, secret, token, err)
		}
	}
}

func TestStart(t *testing.T) {
	for _, s := range []string{"all", "new", "17", "2026-11-22T10:00:00Z"} {
		var v Start
		if err := v.UnmarshalText([]byte(s)); err != nil || v.String() != s {
			t.Errorf("%s: %v, %v", s, v, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "yesterday"} {
		if err := new(Start).UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestSkipHidesWhatDecidesNothing(t *testing.T) {
	a, err := Parse("f", []byte(head+source+"      - {subjects: [b.>], skip: true}\n"), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse("f", []byte(head+source+"        newline: escape\n      - {subjects: [b.>], skip: true, codec: zstd, series: z}\n"), env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if x, y := a.Layouts()[0].Canonical(), b.Layouts()[0].Canonical(); string(x) != string(y) {
		t.Errorf("%s\n%s", x, y)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + source))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("archive: &a\n  <<: *a\n"))
	f.Add([]byte("? {a: 1}\n: 2\n"))
	f.Add([]byte("- 1\n- !!str 2\n"))
	f.Add([]byte("sources: [{routes: [{series: \"{{time(%\"}]}]\n"))
	if p, err := os.ReadFile("../../examples/ossuary.yaml"); err == nil {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := Parse("f", p, env(map[string]string{"A": "b"}))
		if err != nil {
			_ = err.Error()
			return
		}
		for _, l := range c.Layouts() {
			if _, err := router.New(l); err != nil {
				t.Fatalf("accepted, but: %v", err)
			}
		}
		c.Print()
	})
}
