package objectstore

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/object"
	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

// record keeps the headers of the requests that h gets.
type record struct {
	http.Handler
	mu   sync.Mutex
	sent []http.Header
}

func (r *record) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.sent = append(r.sent, req.Header.Clone())
	r.mu.Unlock()
	r.Handler.ServeHTTP(w, req)
}

func (r *record) first() http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[0]
}

func (r *record) last() http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[len(r.sent)-1]
}

// recorded is a client of an emulator whose requests are recorded.
func recorded(t *testing.T, change func(*Options)) (*Client, *record) {
	t.Helper()
	s := ossemutest.Start(t, ossemu.Options{})
	rec := &record{Handler: s.Handler()}
	srv := httptest.NewServer(rec)
	t.Cleanup(srv.Close)
	return newClient(t, s, func(o *Options) {
		o.Endpoint = srv.URL
		if change != nil {
			change(o)
		}
	}), rec
}

// Everything that an object can be created with is stored by the first append,
// and told by the service from then on.
func TestCreate(t *testing.T) {
	c, rec := recorded(t, nil)
	createsWith(t, c, "k", object.Create{ACL: "public-read", Encryption: "KMS", DataEncryption: "SM4"})
	if got := rec.first().Get("X-Oss-Forbid-Overwrite"); got != "true" {
		t.Errorf("forbid overwrite: %q", got)
	}
	createsWith(t, c, "l", object.Create{ACL: "default", Encryption: "AES256"})
	createsWith(t, c, "m", object.Create{ACL: "public-read-write", Encryption: "SM4"})
}

// createsWith creates key with everything and with what secret says about who may
// read it.
func createsWith(t *testing.T, c *Client, key string, secret object.Create) {
	t.Helper()
	create := secret
	create.ContentType, create.ContentEncoding, create.ContentDisposition = "application/x-ndjson", "gzip", `attachment; filename="a b.gz"`
	create.CacheControl, create.Expires = "no-cache", time.Date(2031, 2, 28, 6, 38, 42, 0, time.FixedZone("", 3600))
	create.StorageClass, create.ForbidOverwrite = "IA", true
	create.Meta, create.Tags = map[string]string{"team": "a b", "a-1": "c=d"}, map[string]string{"class": "very cold", "k": "a=b/c+d"}
	for i := range int64(2) { // the second changes none of it
		if _, err := c.Append(t.Context(), key, i, object.Body{[]byte("a")}, &create); err != nil {
			t.Fatal(err)
		}
	}
	h, err := c.Header(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Content-Type": create.ContentType, "Content-Encoding": "gzip", "Content-Disposition": create.ContentDisposition,
		"Cache-Control": "no-cache", "Expires": "Fri, 28 Feb 2031 05:38:42 GMT", "X-Oss-Storage-Class": "IA",
		"X-Oss-Server-Side-Encryption": secret.Encryption, "X-Oss-Server-Side-Data-Encryption": secret.DataEncryption,
		"X-Oss-Meta-Team": "a b", "X-Oss-Meta-A-1": "c=d", "X-Oss-Tagging-Count": "2", "X-Oss-Object-Type": "Appendable",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %s: %q, want %q", key, name, got, want)
		}
	}
	if acl, err := c.bucket.GetObjectACL(key); err != nil || acl.ACL != secret.ACL {
		t.Errorf("ACL %v, %v", acl, err)
	}
	tags, err := c.bucket.GetObjectTagging(key)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, tag := range tags.Tags {
		got[tag.Key] = tag.Value
	}
	if !maps.Equal(got, create.Tags) {
		t.Errorf("tags %v", got)
	}
}

// Later appends carry none of it, whatever they are given: the documents do not
// agree on what the service would do.
func TestNothingButTheFirstCreates(t *testing.T) {
	base := object.Create{ACL: "private", Encryption: "AES256"}
	create := &object.Create{
		ContentType: "application/gzip", ContentEncoding: "gzip", ContentDisposition: "attachment", CacheControl: "no-cache", Expires: time.Now(),
		StorageClass: "IA", ForbidOverwrite: true, Meta: map[string]string{"a": "b"}, Tags: map[string]string{"a": "b"},
	}
	c, rec := recorded(t, func(o *Options) { o.Create, o.ContentMD5, o.TrafficLimit = base, true, object.MinTrafficLimit })
	const perRequest = "X-Oss-Traffic-Limit Content-Md5 X-Oss-Content-Sha256"
	first := 0
	for i, want := range []bool{true, false, false} {
		body := object.Body{[]byte("body")}
		if _, err := c.Append(t.Context(), "k", int64(4*i), body, create); err != nil {
			t.Fatal(err)
		}
		h := rec.last()
		n := 0
		for name := range h {
			for _, creating := range []string{"X-Oss-", "Cache-", "Content-Encoding", "Content-Disposition", "Expires"} {
				if strings.HasPrefix(name, creating) && !strings.Contains(perRequest, name) {
					n++
					if !want {
						t.Errorf("append %d carries %s", i+1, name)
					}
				}
			}
		}
		if want {
			first = n
		}
		sum := md5.Sum(body.Bytes())
		if h.Get("Content-Md5") != base64.StdEncoding.EncodeToString(sum[:]) || h.Get("X-Oss-Traffic-Limit") != "245760" {
			t.Errorf("append %d: MD5 %q, limit %q", i+1, h.Get("Content-Md5"), h.Get("X-Oss-Traffic-Limit"))
		}
	}
	if first != 10 { // encoding, disposition, cache, expires, class, ACL, SSE, forbid, meta, tagging
		t.Errorf("the first append carries %d of them", first)
	}
	// Without a Create of its own an object has what all have.
	if _, err := c.Append(t.Context(), "control", 0, object.Body{[]byte("a")}, nil); err != nil {
		t.Fatal(err)
	}
	if h, err := c.bucket.GetObjectDetailedMeta("control"); err != nil || h.Get("X-Oss-Server-Side-Encryption") != "AES256" || h.Get("X-Oss-Tagging-Count") != "" {
		t.Errorf("%v, %v", h, err)
	}
}

// By default an append carries nothing that the service was not asked for.
func TestPlainAppend(t *testing.T) {
	c, rec := recorded(t, nil)
	if _, err := c.Append(t.Context(), "k", 0, object.Body{[]byte("a")}, &object.Create{ContentType: "application/gzip"}); err != nil {
		t.Fatal(err)
	}
	for name := range rec.last() {
		switch name {
		case "Accept-Encoding", "Authorization", "Content-Length", "Content-Type", "Date", "User-Agent":
		case "X-Oss-Content-Sha256": // of V4 signatures
		default:
			t.Errorf("it carries %s", name)
		}
	}
}

// Bytes that change on their way are not taken, and may be sent again.
func TestDigest(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{})
	c := newClient(t, s, func(o *Options) { o.ContentMD5 = true })
	garble := &http.Client{Transport: garbling{c.http}}
	sdk, err := oss.New(s.Endpoint, ossemutest.AccessKeyID, ossemutest.AccessKeySecret, oss.HTTPClient(garble),
		oss.AuthVersion(oss.AuthV4), oss.Region(ossemutest.Region))
	if err != nil {
		t.Fatal(err)
	}
	if c.bucket, err = sdk.Bucket(ossemutest.Bucket); err != nil {
		t.Fatal(err)
	}
	_, err = c.Append(t.Context(), "k", 0, object.Body{[]byte("body")}, nil)
	if object.KindOf(err) != object.InDoubt {
		t.Fatal(err)
	}
	if _, err := newClient(t, s, nil).Head(t.Context(), "k"); object.KindOf(err) != object.NotFound {
		t.Errorf("it was taken: %v", err)
	}
}

// garbling changes a byte of each body.
type garbling struct{ http.RoundTripper }

func (g garbling) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	body[0] ^= 1
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return g.RoundTripper.RoundTrip(r)
}

// Forbidding to overwrite makes no difference to the protocol: at position 0 it
// is refused as a mismatch is, and later appends go on.
func TestForbidOverwrite(t *testing.T) {
	c, _ := recorded(t, nil)
	create := &object.Create{ForbidOverwrite: true}
	for i := range int64(3) {
		if _, err := c.Append(t.Context(), "k", i, object.Body{[]byte("a")}, create); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Append(t.Context(), "k", 0, object.Body{[]byte("a")}, create); object.KindOf(err) != object.Mismatch {
			t.Fatal(err)
		}
	}
}

// A refusal names the permissions that the settings need besides the usual ones.
func TestRefusalNamesPermissions(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{})
	c := newClient(t, s, nil)
	if _, err := s.AddFault(ossemu.Rule{Op: "append", Action: "error", Status: 403, Code: "AccessDenied"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Append(t.Context(), "k", 0, object.Body{[]byte("a")}, &object.Create{ACL: "private", Encryption: "KMS", Tags: map[string]string{"a": "b"}})
	var e *object.Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	for _, want := range []string{"oss:PutObject,", "oss:PutObjectTagging", "oss:PutObjectAcl", "kms:GenerateDataKey"} {
		if !strings.Contains(e.Hint, want) {
			t.Errorf("%s is missing in %q", want, e.Hint)
		}
	}
}

func TestTrafficLimitIsChecked(t *testing.T) {
	for limit, good := range map[int64]bool{0: true, object.MinTrafficLimit: true, object.MaxTrafficLimit: true, object.MinTrafficLimit - 1: false, object.MaxTrafficLimit + 1: false, -1: false} {
		_, err := New(Options{Endpoint: "127.0.0.1:1", Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b", TrafficLimit: limit})
		if (err == nil) != good {
			t.Errorf("%d: %v", limit, err)
		}
	}
	// A slow line is granted the time that the limit makes it take.
	c := &Client{opt: Options{Timeout: time.Second, TrafficLimit: object.MinTrafficLimit}}
	ctx, cancel, _ := c.withTimeout(t.Context(), 10*object.MinTrafficLimit/8)
	defer cancel()
	if d, ok := ctx.Deadline(); !ok || time.Until(d) < 10*time.Second {
		t.Errorf("%v left", time.Until(d))
	}
}

func TestOver(t *testing.T) {
	base := object.Create{ContentType: "a", ACL: "private", Encryption: "KMS", DataEncryption: "SM4", Meta: map[string]string{"a": "1", "b": "2"}}
	got := over(base, object.Create{ContentType: "b", Encryption: "AES256", Meta: map[string]string{"b": "3"}})
	if got.ContentType != "b" || got.ACL != "private" || got.Encryption != "AES256" || got.DataEncryption != "" || got.Meta["a"] != "1" || got.Meta["b"] != "3" {
		t.Errorf("%+v", got)
	}
	if len(base.Meta) != 2 || base.Meta["b"] != "2" {
		t.Error("the base has changed")
	}
}
