package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/object"
	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

// found is one thing that a check must have said, all in words of it.
type found struct{ what, level, detail, mend string }

func wantFound(t *testing.T, got []Checked, want ...found) {
	t.Helper()
	for _, w := range want {
		if !slices.ContainsFunc(got, func(c Checked) bool {
			return c.What == w.what && c.Level == w.level && strings.Contains(c.Detail, w.detail) && strings.Contains(c.Mend, w.mend)
		}) {
			t.Errorf("%+v was not found; but", w)
			for _, c := range got {
				t.Logf("%-8s %s: %s", c.Level, c.What, c)
			}
		}
	}
}

// property sets something at a bucket of an emulator that checks no signatures.
func property(t *testing.T, emu *ossemutest.Server, method, resource, body string) {
	t.Helper()
	change(t, emu, method, ossemutest.Bucket+"?"+resource, body)
}

// bucketOf makes another bucket, of that class.
func bucketOf(class string) func(*testing.T, *ossemutest.Server) {
	return func(t *testing.T, emu *ossemutest.Server) {
		change(t, emu, "PUT", "another", "<CreateBucketConfiguration><StorageClass>"+class+"</StorageClass></CreateBucketConfiguration>")
	}
}

func change(t *testing.T, emu *ossemutest.Server, method, resource, body string) {
	t.Helper()
	resource, acl, _ := strings.Cut(resource, "&x-oss-acl=")
	req, err := http.NewRequestWithContext(t.Context(), method, emu.Endpoint+"/"+resource, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if acl != "" {
		req.Header.Set("X-Oss-Acl", acl)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, resource, resp.Status)
	}
}

func lifecycleOf(rules ...string) string {
	return "<LifecycleConfiguration>" + strings.Join(rules, "") + "</LifecycleConfiguration>"
}

func rule(id, prefix, rest string) string {
	return fmt.Sprintf("<Rule><ID>%s</ID><Prefix>%s</Prefix><Status>Enabled</Status>%s</Rule>", id, prefix, rest)
}

const (
	versioning = `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`
	ownObjects = "oss append, the archive's own objects"
	ofRoute    = "oss append, route events.>"
)

// Each finding of the bucket, with its mend.
func TestCheckStore(t *testing.T) {
	t.Parallel()
	refuse := func(ops ...string) func(*testing.T, *ossemutest.Server) {
		return func(t *testing.T, emu *ossemutest.Server) {
			for _, op := range ops {
				if _, err := emu.AddFault(ossemu.Rule{Op: op, Action: "error", Status: 403, Code: "AccessDenied"}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	set := func(method, resource, body string) func(*testing.T, *ossemutest.Server) {
		return func(t *testing.T, emu *ossemutest.Server) { property(t, emu, method, resource, body) }
	}
	all := func(do ...func(*testing.T, *ossemutest.Server)) func(*testing.T, *ossemutest.Server) {
		return func(t *testing.T, emu *ossemutest.Server) {
			for _, d := range do {
				d(t, emu)
			}
		}
	}
	versioned := set("PUT", "versioning", versioning)
	expires := func(prefix, rest string) func(*testing.T, *ossemutest.Server) {
		return set("PUT", "lifecycle", lifecycleOf(rule("e", prefix, "<Expiration><Days>30</Days></Expiration>"+rest)))
	}
	series := func(template string, age time.Duration) func(*config.Config) {
		return func(c *config.Config) {
			r := &c.Sources[0].Routes[0]
			r.Series, r.Roll.Age = template, age
		}
	}
	later := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	days := func(class string, n int) string {
		return fmt.Sprintf("<Transition><Days>%d</Days><StorageClass>%s</StorageClass></Transition>", n, class)
	}
	const expire = "<Expiration><Days>30</Days></Expiration>"
	for _, tc := range []struct {
		name   string
		emu    ossemu.Options
		signed bool // the emulator looks at signatures; else it can be set up
		setUp  func(*testing.T, *ossemutest.Server)
		change func(*config.Config)
		worst  string
		want   []found
	}{
		{name: "good", setUp: set("PUT", "versioning", versioning), worst: CheckOK, want: []found{
			{"oss", CheckOK, "signed for cn-hangzhou", ""}, {"oss clock", CheckOK, "off the service's", ""},
			{"oss bucket", CheckOK, "in oss-cn-hangzhou, class Standard, ACL private", ""}, {"oss versioning", CheckOK, "on", ""},
			{"oss retention", CheckOK, "none", ""}, {"oss lifecycle", CheckOK, "0 of 0 rules", ""},
			{ownObjects, CheckOK, "append, head and read work", ""}, {ofRoute, CheckOK, "append, head and read work", ""},
		}},
		{name: "not versioned", worst: CheckWarning, want: []found{{"oss versioning", CheckWarning, "off", "deny the archive's user oss:DeleteObject"}}},

		// The classic mistakes.
		{name: "another region", emu: ossemu.Options{Elsewhere: map[string]string{ossemutest.Bucket: "oss-cn-beijing.aliyuncs.com"}}, worst: CheckProblem,
			want: []found{{"oss", CheckProblem, "AccessDenied", "the bucket lies in another region: use the endpoint oss-cn-beijing.aliyuncs.com"}}},
		{name: "signed for another region", signed: true, change: func(c *config.Config) { c.OSS.Region = "cn-beijing" }, worst: CheckProblem,
			want: []found{{"oss", CheckProblem, "InvalidArgument", "check the region (requests are signed for cn-beijing)"}}},
		{name: "region of V1", change: func(c *config.Config) { c.OSS.AuthVersion, c.OSS.Region = "v1", "cn-beijing" }, worst: CheckProblem,
			want: []found{{"oss bucket", CheckProblem, "it lies in cn-hangzhou, oss.region is cn-beijing", "correct oss.region"}}},
		{name: "V1 signatures", signed: true, emu: ossemu.Options{RefuseV1: true}, change: func(c *config.Config) { c.OSS.AuthVersion = "v1" }, worst: CheckProblem,
			want: []found{{"oss", CheckWarning, "oss.auth_version is v1", "leave it out"}, {"oss", CheckProblem, "", "V1 signatures are refused for new accounts and buckets: use v4"}}},
		{name: "second-level domain", emu: ossemu.Options{RefusePathStyle: true}, worst: CheckProblem,
			want: []found{{"oss", CheckProblem, "SecondLevelDomainForbidden", "set path style to auto or false"}}},
		{name: "clock is off", signed: true, emu: ossemu.Options{Now: later(time.Hour)}, worst: CheckProblem,
			want: []found{{"oss", CheckProblem, "RequestTimeTooSkewed", "set this machine's clock"}}},
		{name: "wrong secret", signed: true, change: func(c *config.Config) { c.OSS.AccessKeySecret = "x" }, worst: CheckProblem,
			want: []found{{"oss", CheckProblem, "SignatureDoesNotMatch", "correct oss.access_key_id and oss.access_key_secret"}}},
		{name: "no such bucket", change: func(c *config.Config) { c.OSS.Bucket, c.OSS.CreateBucket = "another", false }, worst: CheckProblem,
			want: []found{{"oss", CheckProblem, "NoSuchBucket", "create the bucket"}}},
		{name: "bucket to be created", change: func(c *config.Config) { c.OSS.Bucket, c.OSS.CreateBucket = "another", true }, worst: CheckOK,
			want: []found{{"oss", CheckOK, "`consumer run` creates it", ""}}},

		// Permissions.
		{name: "may not list", setUp: refuse("list"), worst: CheckProblem,
			want: []found{{"oss", CheckProblem, "AccessDenied", "oss:ListObjects"}, {ownObjects, CheckOK, "", ""}}},
		{name: "may not append", setUp: refuse("append"), worst: CheckProblem,
			want: []found{{ownObjects, CheckProblem, "AccessDenied", "the access key needs oss:PutObject"}, {ofRoute, CheckProblem, "", "oss:PutObject"}}},
		{name: "may not read", setUp: refuse("get"), worst: CheckProblem,
			want: []found{{"oss read, the archive's own objects", CheckProblem, "AccessDenied", "oss:GetObject"}}},
		{name: "may not ask", setUp: refuse("head"), worst: CheckProblem,
			want: []found{{"oss head, the archive's own objects", CheckProblem, "", "oss:GetObject"}}},
		{name: "may not look", setUp: refuse("get_versioning", "get_worm", "get_lifecycle", "bucket_info"), worst: CheckUnknown, want: []found{
			{"oss versioning", CheckUnknown, "may not look", "grant oss:GetBucketVersioning"}, {"oss retention", CheckUnknown, "", "oss:GetBucketWorm"},
			{"oss lifecycle", CheckUnknown, "", "oss:GetBucketLifecycle"}, {"oss bucket", CheckUnknown, "", "oss:GetBucketInfo"},
		}},
		{name: "public objects are blocked", emu: ossemu.Options{Variants: ossemu.Variants{BlockPublicAccess: true}},
			change: func(c *config.Config) { c.Objects.ACL = "public-read" }, worst: CheckProblem,
			want: []found{{ownObjects, CheckProblem, "public bucket or object acl", "oss:PutObjectAcl"}}},

		// What is set at the bucket.
		{name: "retention", setUp: set("POST", "worm", "<InitiateWormConfiguration><RetentionPeriodInDays>7</RetentionPeriodInDays></InitiateWormConfiguration>"), worst: CheckProblem,
			want: []found{{"oss retention", CheckProblem, "keeps every object as it is for 7 days (InProgress)", "a bucket without a retention policy"}}},
		{name: "class of the bucket", setUp: bucketOf("ColdArchive"), change: func(c *config.Config) { c.OSS.Bucket = "another" }, worst: CheckProblem,
			want: []found{{"oss bucket", CheckProblem, "its objects are of the class ColdArchive, which takes no appends", "class Standard or IA"}}},
		{name: "archive by class", setUp: bucketOf("Archive"), change: func(c *config.Config) { c.OSS.Bucket = "another" }, worst: CheckProblem,
			want: []found{{"oss bucket", CheckWarning, "of the class Archive", "class Standard or IA"}, {"oss read, the archive's own objects", CheckProblem, "cannot be read before", ""}}},
		{name: "anybody may write", setUp: set("PUT", "acl&x-oss-acl=public-read-write", ""), worst: CheckWarning,
			want: []found{{"oss bucket", CheckWarning, "anybody may write to it", "make it private"}}},
		{name: "archived segments", change: func(c *config.Config) { c.Objects.StorageClass = "Archive" }, worst: CheckProblem, want: []found{
			{ownObjects, CheckOK, "", ""}, {"oss read, route events.>", CheckProblem, "cannot be read before they are restored", "real-time access of Archive objects"}}},
		{name: "archived segments, read directly", change: func(c *config.Config) { c.Objects.StorageClass = "Archive" },
			setUp: set("PUT", "bucketArchiveDirectRead", "<ArchiveDirectReadConfiguration><Enabled>true</Enabled></ArchiveDirectReadConfiguration>"),
			worst: CheckWarning, want: []found{{ofRoute, CheckOK, "", ""}}},
		{name: "lifecycle: everything", setUp: set("PUT", "lifecycle", lifecycleOf(rule("all", "", expire))), worst: CheckProblem, want: []found{
			{"oss lifecycle", CheckProblem, `rule "all" (prefix "") deletes the archive's control log and layouts after 30 days`, "objects.tagging"},
			{"oss lifecycle", CheckOK, "deletes segments after 30 days from their last append", ""}}},
		{name: "lifecycle: series", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "a/events/", expire+days("IA", 7)))), worst: CheckWarning,
			want: []found{{"oss lifecycle", CheckOK, "deletes segments after 30 days", ""}}},
		{name: "lifecycle: open segments", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "a/events/", expire))),
			change: func(c *config.Config) { c.Sources[0].Routes[0].Roll.Idle = 0 }, worst: CheckWarning,
			want: []found{{"oss lifecycle", CheckWarning, "may still be open then", "set roll.idle"}}},
		{name: "lifecycle: sealed by age", setUp: expires("a/events/", ""), worst: CheckWarning,
			change: func(c *config.Config) {
				c.Sources[0].Routes[0].Roll.Idle, c.Sources[0].Routes[0].Roll.Age = 0, 24*time.Hour
			},
			want: []found{{"oss lifecycle", CheckOK, "from their last append", ""}}},
		// With versioning the days count from the first append.
		{name: "lifecycle: versions, time in names", setUp: all(versioned, expires("a/events/", "")), worst: CheckOK,
			want: []found{{"oss lifecycle", CheckOK, "deletes segments after 30 days from their first append (versioning)", ""}}},
		{name: "lifecycle: versions, months in names", setUp: all(versioned, expires("a/events/", "")), change: series("events/{{time(%Y/%-m)}}", 0), worst: CheckWarning,
			want: []found{{"oss lifecycle", CheckWarning, "may still be open then", "set roll.age"}}},
		{name: "lifecycle: versions, no time in names", setUp: all(versioned, expires("a/events/", "")), change: series("events/{{subject}}", 0), worst: CheckWarning,
			want: []found{{"oss lifecycle", CheckWarning, "may still be open then", "set roll.age"}}},
		{name: "lifecycle: versions, sealed by age", setUp: all(versioned, expires("a/events/", "")), change: series("events/{{subject}}", 24*time.Hour), worst: CheckOK,
			want: []found{{"oss lifecycle", CheckOK, "from their first append", ""}}},
		{name: "lifecycle: versions, dead letters", setUp: all(versioned, expires("a/_ossuary/dead/", "")), worst: CheckWarning,
			want: []found{{"oss lifecycle", CheckWarning, "may still be open then", "set roll.age"}}},
		{name: "lifecycle: versions suspended", setUp: all(versioned, set("PUT", "versioning", strings.ReplaceAll(versioning, "Enabled", "Suspended")), expires("a/events/", "")),
			worst: CheckWarning, want: []found{{"oss lifecycle", CheckOK, "from their first append", ""}}},
		{name: "lifecycle: versions unknown", setUp: all(refuse("get_versioning"), expires("a/events/", "")), change: series("events/{{subject}}", 0), worst: CheckWarning,
			want: []found{{"oss lifecycle", CheckWarning, "may still be open then", "set roll.age"}}},
		{name: "lifecycle: all but ours", setUp: expires("", "<Filter><Not><Prefix>a/_ossuary/</Prefix></Not></Filter>"), worst: CheckWarning,
			want: []found{{"oss lifecycle", CheckOK, "deletes segments after 30 days", ""}}},
		{name: "lifecycle: all but the archive", setUp: expires("", "<Filter><Not><Prefix>a/</Prefix></Not></Filter>"), worst: CheckWarning,
			want: []found{{"oss lifecycle", CheckOK, "0 of 1 rules", ""}}},
		{name: "lifecycle: all but what has a tag", setUp: expires("", "<Filter><Not><Prefix>a/_ossuary/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></Not></Filter>"), worst: CheckProblem,
			want: []found{{"oss lifecycle", CheckProblem, "deletes the archive's control log", "except <oss.prefix>_ossuary/ from it"}}},
		{name: "lifecycle: by date", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "a/events/", "<Expiration><CreatedBeforeDate>2030-01-01T00:00:00.000Z</CreatedBeforeDate></Expiration>"))),
			worst: CheckWarning, want: []found{{"oss lifecycle", CheckWarning, "by date (2030-01-01T00:00:00.000Z)", ""}}},
		{name: "lifecycle: by another tag", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "", "<Tag><Key>k</Key><Value>v</Value></Tag>"+expire))),
			worst: CheckWarning, want: []found{{"oss lifecycle", CheckOK, "0 of 1 rules are about this archive", ""}}},
		{name: "lifecycle: by our tag", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "", "<Tag><Key>k</Key><Value>v</Value></Tag>"+expire))),
			change: func(c *config.Config) { c.Objects.Tagging = map[string]string{"k": "v", "l": "w"} },
			worst:  CheckWarning, want: []found{{"oss lifecycle", CheckOK, "deletes segments after 30 days", ""}}},
		{name: "lifecycle: elsewhere", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "b/", expire))),
			worst: CheckWarning, want: []found{{"oss lifecycle", CheckOK, "0 of 1 rules", ""}}},
		{name: "lifecycle: IA", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "", days("IA", 1)))),
			worst: CheckWarning, want: []found{{"oss lifecycle", CheckOK, "1 of 1 rules are about this archive, and none hurts", ""}}},
		{name: "lifecycle: Archive", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "a/", days("Archive", 90)))), worst: CheckProblem, want: []found{
			{"oss lifecycle", CheckProblem, "moves the archive's control log and layouts to Archive after 90 days", "objects.tagging"},
			{"oss lifecycle", CheckWarning, "a series for which an event comes later stops", "real-time access"}}},
		{name: "lifecycle: Archive of open segments", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "a/events/", days("Archive", 1)))),
			change: func(c *config.Config) { c.Defaults.Roll.Idle = 48 * time.Hour },
			worst:  CheckWarning, want: []found{{"oss lifecycle", CheckWarning, "may still be open then", "set roll.idle"}}},
		{name: "lifecycle: ColdArchive", setUp: set("PUT", "lifecycle", lifecycleOf(rule("e", "a/events/", days("ColdArchive", 1)))),
			worst: CheckWarning, want: []found{{"oss lifecycle", CheckWarning, "to which the service does not take appendable objects", "use IA or Archive"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if !tc.signed {
				tc.emu.Credentials = map[string]string{}
			}
			cfg, emu := remote(t, tc.emu, nil)
			cfg.OSS.Prefix = "a/"
			if tc.setUp != nil {
				tc.setUp(t, emu)
			}
			if tc.change != nil {
				tc.change(cfg)
			}
			got := Check(t.Context(), cfg, zerolog.Nop())
			wantFound(t, got, tc.want...)
			if w := Worst(got); w != tc.worst {
				t.Errorf("at worst %s, want %s", w, tc.worst)
				wantFound(t, got, found{what: "anything else"})
			}
			for _, c := range got {
				if (c.Level == CheckProblem || c.Level == CheckWarning) && c.Mend == "" {
					t.Errorf("%s has no mend: %s", c.What, c.Detail)
				}
			}
		})
	}
}

// The clock is compared before the service refuses anything for it.
func TestCheckClock(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-210 * time.Second, 210 * time.Second} {
		cfg, _ := remote(t, ossemu.Options{Now: func() time.Time { return time.Now().Add(d) }}, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(d).UTC().Format(http.TimeFormat))
				h.ServeHTTP(w, r)
			})
		})
		got := Check(t.Context(), cfg, zerolog.Nop())
		wantFound(t, got, found{"oss clock", CheckWarning, "3m", "keep it by NTP"})
	}
}

// A right that only some objects need is found missing by each check, also where
// an object of an earlier one is there; the others work.
func TestCheckTriesEverySetting(t *testing.T) {
	t.Parallel()
	deny := true
	cfg, _ := remote(t, ossemu.Options{}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if deny && r.Header.Get("X-Oss-Tagging") != "" {
				w.Header().Set("X-Oss-Request-Id", "r")
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>no</Message><RequestId>r</RequestId></Error>")
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	tagged := cfg.Sources[0].Routes[0]
	tagged.Name, tagged.Objects.Tagging = "tagged", map[string]string{"a": "b"}
	cfg.Sources[0].Routes = append(cfg.Sources[0].Routes, tagged)
	for _, allowed := range []bool{false, true, false} {
		deny = !allowed
		got := Check(t.Context(), cfg, zerolog.Nop())
		want := found{"oss append, route tagged", CheckProblem, "AccessDenied", "oss:PutObjectTagging"}
		if allowed {
			want = found{"oss append, route tagged", CheckOK, "", ""}
		}
		wantFound(t, got, want, found{ofRoute, CheckOK, "", ""}, found{ownObjects, CheckOK, "", ""})
	}
	n := 0
	client, err := OpenStore(cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.List(t.Context(), "", func(e object.Entry) error {
		if !strings.HasPrefix(e.Key, checkDir) {
			return errors.New(e.Key)
		}
		n++
		return nil
	}); err != nil || n != 3 {
		t.Errorf("%d objects, %v", n, err)
	}
}

// A check leaves nothing behind that an archive's reader stumbles over.
func TestCheckIsHarmless(t *testing.T) {
	t.Parallel()
	cfg, _ := remote(t, ossemu.Options{}, nil)
	for range 2 {
		if got := Check(context.Background(), cfg, zerolog.Nop()); Worst(got) == CheckProblem {
			wantFound(t, got, found{what: "no problem"})
		}
	}
	s, stop := start(t, cfg)
	publish(t, s.js, 10)
	eventually(t, "archived", func() bool { return s.Report().Lanes[0].Floor == 10 })
	if got := Check(t.Context(), cfg, zerolog.Nop()); Worst(got) == CheckProblem {
		wantFound(t, got, found{what: "no problem"})
	}
	stop()
	wantWhole(t, cfg, 10)
}
