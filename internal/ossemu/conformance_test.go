package ossemu_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc64"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

// The conformance suite: what a server must do to be taken for OSS where
// appendable objects are concerned. It runs against the emulator, and against the
// real service if the environment says where that is:
//
//	OSS_TEST_ENDPOINT=https://oss-cn-hangzhou.aliyuncs.com OSS_TEST_REGION=cn-hangzhou \
//	OSS_TEST_ACCESS_KEY_ID=... OSS_TEST_ACCESS_KEY_SECRET=... \
//	go test ./internal/ossemu -run TestConformance -v
//
// It makes buckets of its own and removes them; with OSS_TEST_BUCKET it uses that
// one instead, below a prefix of its own, and passes over what needs another.

// A fact is something that was read somewhere, and a check of it.
type fact struct {
	name   string
	source string // where it is said
	check  func(c *conformant)
}

// Sources that many facts share.
const (
	pageAppend  = "help.aliyun.com, AppendObject"
	pageSeal    = "help.aliyun.com, SealAppendObject"
	pageCopy    = "help.aliyun.com, CopyObject and append upload of each SDK"
	pageErrors  = "help.aliyun.com, error codes"
	pageHead    = "help.aliyun.com, HeadObject"
	pageGet     = "help.aliyun.com, GetObject"
	pageVersion = "help.aliyun.com, versioning and append upload"
	pageWorm    = "help.aliyun.com, retention policies"
	sdkV1       = "aliyun-oss-go-sdk v3.0.2, oss/"
	sdkV2       = "alibabacloud-oss-go-sdk-v2 v1.6.1, oss/"
)

// conformant is a server under test, and one check's place on it.
type conformant struct {
	*testing.T
	endpoint, region, id, secret string
	bucket, prefix               string
	real, own                    bool // the service itself; the bucket is the suite's
	skew                         time.Duration
}

func TestConformance(t *testing.T) {
	t.Parallel()
	c := &conformant{
		endpoint: os.Getenv("OSS_TEST_ENDPOINT"), region: os.Getenv("OSS_TEST_REGION"),
		id: os.Getenv("OSS_TEST_ACCESS_KEY_ID"), secret: os.Getenv("OSS_TEST_ACCESS_KEY_SECRET"), bucket: os.Getenv("OSS_TEST_BUCKET"),
	}
	if c.endpoint != "" {
		c.real = true
		t.Run("service", c.run)
		return
	}
	c.bucket = ""
	for name, o := range map[string]ossemu.Options{"memory": {}, "directory": {Dir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Region, o.Admin = ossemutest.Region, true
			s := ossemutest.Start(t, o)
			on := *c
			on.endpoint, on.region, on.id, on.secret = s.Endpoint, ossemutest.Region, s.AccessKeyID, s.AccessKeySecret
			on.run(t)
		})
	}
}

func (c *conformant) run(t *testing.T) {
	c.T = t
	c.own = c.bucket == ""
	random := strings.ToLower(hex.EncodeToString(randomBytes(4)))
	if c.own {
		c.bucket = "ossuary-conformance-" + random
		c.createBucket(c.bucket)
		t.Cleanup(func() { c.T = t; c.removeBucket(c.bucket) })
	}
	for i, f := range slices.Concat(appendFacts, objectFacts, bucketFacts) {
		t.Run(f.name, func(t *testing.T) {
			on := *c
			on.T = t
			on.prefix = fmt.Sprintf("conformance/%s/%02d/", random, i)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("source: %s", f.source)
				}
				on.T = t
				on.empty(on.bucket, on.prefix)
			})
			f.check(&on)
		})
	}
}

func randomBytes(n int) []byte {
	p := make([]byte, n)
	rand.Read(p)
	return p
}

// answer is what came back.
type answer struct {
	*http.Response
	text  string
	fault struct{ Code, Message, EC, RequestId string }
}

// call sends one signed request; the query begins with the subresource, and a
// header is a name followed by its value.
func (c *conformant) call(method, key, query, body string, header ...string) *answer {
	c.Helper()
	return c.callIn(c.bucket, method, c.key(key), query, strings.NewReader(body), header...)
}

func (c *conformant) key(key string) string {
	if key == "" {
		return ""
	}
	return c.prefix + key
}

func (c *conformant) callIn(bucket, method, key, query string, body io.Reader, header ...string) *answer {
	c.Helper()
	req := c.request(bucket, method, key, query, body, header...)
	c.sign(req, bucket, key)
	return c.send(req)
}

func (c *conformant) send(req *http.Request) *answer {
	c.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	a := &answer{Response: resp, text: string(p)}
	if req.Method == http.MethodHead {
		p, _ = base64.StdEncoding.DecodeString(resp.Header.Get("X-Oss-Err"))
	}
	if resp.StatusCode >= 400 {
		_ = xml.Unmarshal(p, &a.fault) // an answer that is none fails its check
	}
	return a
}

// request makes a request without a signature.
func (c *conformant) request(bucket, method, key, query string, body io.Reader, header ...string) *http.Request {
	c.Helper()
	u, err := url.Parse(c.endpoint)
	if err != nil {
		c.Fatal(err)
	}
	path := "/" + key
	if net.ParseIP(u.Hostname()) != nil {
		if bucket != "" {
			path = "/" + bucket + path
		}
	} else if bucket != "" {
		u.Host = bucket + "." + u.Host
	}
	u.Path, u.RawPath, u.RawQuery = path, escape(path, true), query
	req, err := http.NewRequestWithContext(context.WithoutCancel(c.Context()), method, u.String(), body)
	if err != nil {
		c.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func (c *conformant) scope(at time.Time) string {
	return at.Format("20060102") + "/" + c.region + "/oss/aliyun_v4_request"
}

// sign signs by V4, as the vendor's page on it says.
func (c *conformant) sign(req *http.Request, bucket, key string) {
	at := time.Now().UTC().Add(c.skew)
	req.Header.Set("X-Oss-Date", at.Format("20060102T150405Z"))
	req.Header.Set("X-Oss-Content-Sha256", "UNSIGNED-PAYLOAD")
	var names []string
	for name := range req.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-oss-") || name == "content-type" || name == "content-md5" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	headers := ""
	for _, name := range names {
		headers += name + ":" + strings.TrimSpace(req.Header.Get(name)) + "\n"
	}
	sig := c.signature(at, req.Method, bucket, key, req.URL.RawQuery, headers)
	req.Header.Set("Authorization", "OSS4-HMAC-SHA256 Credential="+c.id+"/"+c.scope(at)+",Signature="+sig)
}

func (c *conformant) signature(at time.Time, method, bucket, key, query, headers string) string {
	uri := "/"
	if bucket != "" {
		uri = "/" + bucket + "/" + escape(key, true)
	}
	var params []string
	for part := range strings.SplitSeq(query, "&") {
		if part != "" {
			params = append(params, strings.TrimSuffix(part, "="))
		}
	}
	slices.Sort(params)
	canonical := method + "\n" + uri + "\n" + strings.Join(params, "&") + "\n" + headers + "\n\nUNSIGNED-PAYLOAD"
	sum := sha256.Sum256([]byte(canonical))
	toSign := "OSS4-HMAC-SHA256\n" + at.Format("20060102T150405Z") + "\n" + c.scope(at) + "\n" + hex.EncodeToString(sum[:])
	k := []byte("aliyun_v4" + c.secret)
	for _, part := range strings.Split(c.scope(at), "/") {
		k = hmac256(k, part)
	}
	return hex.EncodeToString(hmac256(k, toSign))
}

func hmac256(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	io.WriteString(m, text)
	return m.Sum(nil)
}

func escape(s string, path bool) string {
	s = strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
	if path {
		s = strings.ReplaceAll(s, "%2F", "/")
	}
	return s
}

// want checks status and error code.
func (a *answer) want(c *conformant, status int, code string) *answer {
	c.Helper()
	if a.StatusCode != status || a.fault.Code != code {
		c.Errorf("%s %s: %d %s %q, want %d %s", a.Request.Method, a.Request.URL, a.StatusCode, a.fault.Code, a.fault.Message, status, code)
	}
	return a
}

// has checks headers; a value of "*" is any but none, and "" is none.
func (a *answer) has(c *conformant, header ...string) *answer {
	c.Helper()
	for i := 0; i+1 < len(header); i += 2 {
		got, want := a.Header.Get(header[i]), header[i+1]
		if got != want && (want != "*" || got == "") {
			c.Errorf("%s %s: %s is %q, want %q", a.Request.Method, a.Request.URL, header[i], got, want)
		}
	}
	return a
}

func (c *conformant) append(key string, at int, body string, header ...string) *answer {
	c.Helper()
	return c.call("POST", key, "append&position="+strconv.Itoa(at), body, header...)
}

func crcOf(p string) string {
	return strconv.FormatUint(crc64.Checksum([]byte(p), crc64.MakeTable(crc64.ECMA)), 10)
}

// content checks what an object holds.
func (c *conformant) content(key, want string) {
	c.Helper()
	if a := c.call("GET", key, "", "").want(c, 200, ""); a.text != want {
		c.Errorf("%s holds %q, want %q", key, a.text, want)
	}
}

func (c *conformant) createBucket(name string) {
	c.Helper()
	c.callIn(name, "PUT", "", "", nil).want(c, 200, "")
}

// another makes a bucket that differs from the usual one, for one check.
func (c *conformant) another(what string) *conformant {
	c.Helper()
	if !c.own {
		c.Skipf("needs a bucket of its own (%s), and OSS_TEST_BUCKET names another", what)
	}
	on := *c
	on.bucket = "ossuary-conformance-" + hex.EncodeToString(randomBytes(6))
	on.createBucket(on.bucket)
	c.Cleanup(func() { on.removeBucket(on.bucket) })
	return &on
}

func (c *conformant) removeBucket(name string) {
	c.Helper()
	c.empty(name, "")
	c.callIn(name, "DELETE", "", "", nil).want(c, 204, "")
}

// empty removes everything below a prefix, former versions too.
func (c *conformant) empty(bucket, prefix string) {
	c.Helper()
	type version struct{ Key, VersionId string }
	var list struct {
		Version, DeleteMarker []version
	}
	a := c.callIn(bucket, "GET", "", "encoding-type=url&max-keys=1000&prefix="+escape(prefix, false)+"&versions", nil)
	if err := xml.Unmarshal([]byte(a.text), &list); err != nil || a.StatusCode != 200 {
		c.Errorf("listing versions of %s: %d %v %s", bucket, a.StatusCode, err, a.text)
		return
	}
	for _, v := range append(list.Version, list.DeleteMarker...) {
		key, err := url.QueryUnescape(v.Key)
		if err != nil {
			c.Error(err)
			continue
		}
		c.callIn(bucket, "DELETE", key, "versionId="+v.VersionId, nil).want(c, 204, "")
	}
}

// raw sends bytes as they are and returns all that comes back.
func (c *conformant) raw(text string) string {
	c.Helper()
	u, err := url.Parse(c.endpoint)
	if err != nil {
		c.Fatal(err)
	}
	if u.Scheme != "http" {
		c.Skip("needs an endpoint without TLS")
	}
	addr := u.Host
	if u.Port() == "" {
		addr += ":80"
	}
	var d net.Dialer
	conn, err := d.DialContext(c.Context(), "tcp", addr)
	if err != nil {
		c.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		c.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite() // it may have been refused before that
	var got bytes.Buffer
	_, _ = got.ReadFrom(conn)
	return got.String()
}
