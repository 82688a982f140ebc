package ossemu

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// clocked is a server whose clock a test moves, reopened at will.
type clocked struct {
	*testing.T
	*Server
	now time.Time
	dir string
}

func newClocked(t *testing.T) *clocked {
	c := &clocked{T: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), dir: t.TempDir()}
	c.reopen()
	return c
}

func (c *clocked) reopen() {
	c.T.Helper()
	if c.Server != nil {
		kill(c.Server)
	}
	s, err := New(Options{Dir: c.dir, Buckets: []string{testBucket}, Now: func() time.Time { return c.now }})
	if err != nil {
		c.Fatal(err)
	}
	c.Server = s
	c.Cleanup(func() { s.Close() })
}

// do checks one request; want is to be found in the body or the headers.
func (c *clocked) do(call, body string, status int, want string, header ...string) string {
	c.T.Helper()
	method, target, _ := strings.Cut(call, " ")
	w := send(c.Server, method, "h", target, body, header...)
	text := fmt.Sprint(w.Body.String(), w.Header())
	if w.Code != status || !strings.Contains(text, want) {
		c.Fatalf("%s: %d %s, want %d %s", call, w.Code, text, status, want)
	}
	return text
}

// A retention policy holds for a day, or when locked for good, and objects under
// it for so many days from their last modification.
func TestRetention(t *testing.T) {
	c := newClocked(t)
	policy := func(days int) string {
		return fmt.Sprintf("<InitiateWormConfiguration><RetentionPeriodInDays>%d</RetentionPeriodInDays></InitiateWormConfiguration>", days)
	}
	c.do("POST /bucket/k?append&position=0", "abc", 200, "")
	c.do("POST /bucket/?worm", policy(0), 400, "MalformedXML")
	c.do("POST /bucket/?worm", policy(3), 200, "X-Oss-Worm-Id")
	c.do("POST /bucket/k?append&position=3", "d", 409, "FileImmutable")
	c.do("PUT /bucket/?versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>", 409, "InvalidBucketState")
	c.now = c.now.Add(25 * time.Hour) // never locked: it is void
	c.do("GET /bucket/?worm", "", 404, "NoSuchWORMConfiguration")
	c.do("POST /bucket/k?append&position=3", "d", 200, "")

	c.do("POST /bucket/?worm", policy(3), 200, "")
	c.do("POST /bucket/?wormId=other", "", 404, "NoSuchWORMConfiguration")
	c.do("POST /bucket/?wormId="+c.store.buckets[testBucket].Worm.ID, "", 200, "")
	c.reopen()
	c.do("GET /bucket/?worm", "", 200, "<State>Locked</State>")
	c.do("DELETE /bucket/?worm", "", 409, "WORMConfigurationLocked")
	id := c.store.buckets[testBucket].Worm.ID
	c.do("POST /bucket/?wormExtend&wormId="+id, strings.ReplaceAll(policy(2), "Initiate", "Extend"), 400, "InvalidArgument")
	c.do("POST /bucket/?wormExtend&wormId="+id, strings.ReplaceAll(policy(4), "Initiate", "Extend"), 200, "")
	c.now = c.now.AddDate(0, 0, 4).Add(-time.Second)
	for _, call := range []string{"POST /bucket/k?append&position=4", "PUT /bucket/k", "DELETE /bucket/k", "DELETE /bucket/k?versionId=null"} {
		c.do(call, "x", 409, "FileImmutable")
	}
	c.do("POST /bucket/?delete", "<Delete><Object><Key>k</Key></Object></Delete>", 409, "FileImmutable")
	c.now = c.now.Add(time.Second)
	c.do("POST /bucket/k?append&position=4", "e", 200, "")
	c.do("GET /bucket/k", "", 200, "abcde")
}

// Archived objects take appends; to be read they are restored, which takes a while
// and holds for days, or their bucket reads them directly.
func TestArchive(t *testing.T) {
	c := newClocked(t)
	c.do("POST /bucket/k?append&position=0", "abc", 200, "", "X-Oss-Storage-Class", "Archive")
	c.do("POST /bucket/k?append&position=3", "d", 200, "")
	c.do("HEAD /bucket/k", "", 200, "X-Oss-Storage-Class:[Archive]")
	c.do("GET /bucket/k", "", 403, "InvalidObjectState")
	c.do("POST /bucket/k?restore", "", 202, "")
	c.do("POST /bucket/k?restore", "", 409, "RestoreAlreadyInProgress")
	c.do("POST /bucket/k?cleanRestoredObject", "", 409, "ArchiveRestoreNotFinished")
	c.do("HEAD /bucket/k", "", 200, `ongoing-request="true"`)
	c.do("GET /bucket/k", "", 403, "InvalidObjectState")
	c.now = c.now.Add(restoreTime)
	c.reopen()
	c.do("GET /bucket/k", "", 200, "abcd")
	c.do("HEAD /bucket/k", "", 200, `ongoing-request="false"`)
	c.do("POST /bucket/k?restore", "<RestoreRequest><Days>2</Days></RestoreRequest>", 200, "")
	c.now = c.now.AddDate(0, 0, 3)
	c.do("GET /bucket/k", "", 403, "InvalidObjectState")
	c.do("PUT /bucket/?bucketArchiveDirectRead", "<ArchiveDirectReadConfiguration><Enabled>true</Enabled></ArchiveDirectReadConfiguration>", 200, "")
	c.do("GET /bucket/?bucketArchiveDirectRead", "", 200, "<Enabled>true</Enabled>")
	c.do("GET /bucket/k", "", 200, "abcd")
	c.do("PUT /bucket/cold", "x", 200, "", "X-Oss-Storage-Class", "ColdArchive")
	c.do("GET /bucket/cold", "", 403, "InvalidObjectState")
	c.do("PUT /bucket/plain", "x", 200, "")
	c.do("POST /bucket/plain?restore", "", 400, "OperationNotSupported")
}

// What a bucket is configured to outlives the server, and objects inherit it.
func TestBucketConfigurationIsKept(t *testing.T) {
	c := newClocked(t)
	rules := "<LifecycleConfiguration><Rule><ID>r</ID><Prefix>a</Prefix><Status>Enabled</Status><Transition><Days>1</Days><StorageClass>IA</StorageClass></Transition></Rule></LifecycleConfiguration>"
	c.do("PUT /bucket/?lifecycle", strings.ReplaceAll(rules, "Enabled", "On"), 400, "MalformedXML")
	c.do("PUT /bucket/?lifecycle", rules, 200, "")
	c.do("PUT /bucket/?encryption", "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>KMS</SSEAlgorithm></ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>", 200, "")
	c.do("PUT /bucket/?tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b</Key><Value>2</Value></Tag></TagSet></Tagging>", 200, "")
	c.do("DELETE /bucket/?tagging=a", "", 204, "")
	c.do("PUT /bucket/?acl", "", 200, "", "X-Oss-Acl", "public-read")
	c.do("PUT /cool-bucket", "<CreateBucketConfiguration><StorageClass>IA</StorageClass><DataRedundancyType>ZRS</DataRedundancyType></CreateBucketConfiguration>", 200, "", "X-Oss-Acl", "private")
	for range 2 {
		c.do("GET /bucket/?lifecycle", "", 200, rules)
		c.do("GET /bucket/?encryption", "", 200, "<SSEAlgorithm>KMS")
		c.do("GET /bucket/?tagging", "", 200, "<Key>b</Key>")
		c.do("GET /bucket/?acl", "", 200, "public-read")
		c.do("GET /cool-bucket/?bucketInfo", "", 200, "<DataRedundancyType>ZRS")
		c.do("GET /?tag-key=b", "", 200, "<Name>bucket</Name>")
		if text := c.do("GET /?tagging=%22b%22:%223%22", "", 200, ""); strings.Contains(text, "<Name>") {
			t.Errorf("%s", text)
		}
		c.reopen()
	}
	c.do("POST /bucket/k?append&position=0", "x", 200, "X-Oss-Server-Side-Encryption-Key-Id")
	c.do("POST /cool-bucket/k?append&position=0", "x", 200, "")
	c.do("HEAD /cool-bucket/k", "", 200, "X-Oss-Storage-Class:[IA]")
	c.do("GET /bucket/?stat", "", 200, "<ObjectCount>1</ObjectCount>")
}

// Each side of what documents disagree about.
func TestVariants(t *testing.T) {
	if _, err := ParseVariants([]string{"no-such"}); err == nil || !strings.Contains(err.Error(), "no-seal") {
		t.Errorf("%v", err)
	}
	all, err := ParseVariants(VariantNames())
	if err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{false, true} {
		c := newClocked(t)
		if on {
			c.opt.Variants = all
		}
		step := func(call, body string, off, turned int, header ...string) {
			t.Helper()
			want := off
			if on {
				want = turned
			}
			c.do(call, body, want, "", header...)
		}
		c.do("POST /bucket/k?append&position=0", "abc", 200, "")
		step("POST /bucket/k?append&position=3", "", 200, 400, "X-Oss-Meta-A", "b")
		step("POST /bucket/kms?append&position=0", "", 200, 400, "X-Oss-Server-Side-Encryption", "KMS", "X-Oss-Server-Side-Encryption-Key-Id", "id")
		step("POST /bucket/k?append&position=3", "", 200, 409, "X-Oss-Forbid-Overwrite", "true")
		step("PUT /bucket/copy", "", 400, 200, "X-Oss-Copy-Source", "/bucket/k")
		step("POST /bucket/k?position=3&seal", "", 200, 400)
		step("POST /bucket/public?append&position=0", "", 200, 403, "X-Oss-Object-Acl", "public-read")
		step("PUT /bucket/?acl", "", 200, 403, "X-Oss-Acl", "public-read")
	}
}
