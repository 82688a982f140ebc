package ossemu

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// send makes one request to the handler; the host decides the style.
func send(s *Server, method, host, target, payload string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://"+host+target, strings.NewReader(payload))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestStyles(t *testing.T) {
	s, err := New(Options{Buckets: []string{testBucket}, Domain: "oss.test"})
	if err != nil {
		t.Fatal(err)
	}
	position := 0
	for _, tc := range []struct{ host, target string }{
		{"127.0.0.1:9000", "/bucket/a%2Fb"},
		{"127.0.0.1:9000", "/bucket/a/b"},
		{"localhost", "/bucket/a/b"},
		{"bucket.localhost:9000", "/a/b"},
		{"bucket.oss.test", "/a%2fb"},
		{"BUCKET.OSS.TEST:80", "/a/b"},
		{"oss.test", "/bucket/a/b"},
		{"emulator", "/bucket/a/b"},
	} {
		for _, q := range []string{"?append&position=%d", "?position=%d&append="} {
			w := send(s, "POST", tc.host, tc.target+fmt.Sprintf(q, position), "x")
			position++
			if w.Code != 200 || w.Header().Get("X-Oss-Next-Append-Position") != fmt.Sprint(position) {
				t.Fatalf("%v: %d %s", tc, w.Code, w.Body)
			}
		}
	}
}

func TestErrorsAsTheServiceWordsThem(t *testing.T) {
	s, err := New(Options{Buckets: []string{testBucket}, MaxObject: 100})
	if err != nil {
		t.Fatal(err)
	}
	const host = "127.0.0.1"
	send(s, "PUT", host, "/bucket/put", "put")
	send(s, "POST", host, "/bucket/log?append&position=0", "0123456789")
	for _, tc := range []struct {
		method, target, body string
		header               []string
		status               int
		code                 string
	}{
		{method: "POST", target: "/bucket/k?append", status: 400, code: "MissingArgument"},
		{method: "POST", target: "/bucket/k?append&position=-1", status: 400, code: "InvalidArgument"},
		{method: "POST", target: "/bucket/k?append&position=x", status: 400, code: "InvalidArgument"},
		{method: "POST", target: "/bucket/log?append&position=9", status: 409, code: "PositionNotEqualToLength"},
		{method: "POST", target: "/bucket/log?append&position=10", body: strings.Repeat("x", 91), status: 400, code: "EntityTooLarge"},
		{method: "POST", target: "/bucket/log?append&position=10", body: strings.Repeat("x", 101), status: 400, code: "EntityTooLarge"},
		{method: "POST", target: "/bucket/log?append&position=10", body: "x", header: []string{"Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA=="}, status: 400, code: "InvalidDigest"},
		{method: "POST", target: "/bucket/log?append&position=10", body: "x", header: []string{"Content-MD5", "?"}, status: 400, code: "InvalidDigest"},
		{method: "POST", target: "/bucket/m?append&position=0", header: []string{"X-Oss-Meta-A", strings.Repeat("x", 9000)}, status: 400, code: "MetadataTooLarge"},
		{method: "POST", target: "/bucket/put?append&position=3", status: 409, code: "ObjectNotAppendable"},
		{method: "POST", target: "/no-bucket/k?append&position=0", status: 404, code: "NoSuchBucket"},
		{method: "POST", target: "/Bad_Bucket/k?append&position=0", status: 400, code: "InvalidBucketName"},
		{method: "POST", target: "/bucket/%2Fk?append&position=0", status: 400, code: "InvalidObjectName"},
		{method: "POST", target: "/bucket/%FF?append&position=0", status: 400, code: "InvalidObjectName"},
		{method: "POST", target: "/bucket/" + strings.Repeat("k", 1024) + "?append&position=0", status: 400, code: "InvalidObjectName"},
		{method: "PUT", target: "/bucket/put", header: []string{"X-Oss-Forbid-Overwrite", "true"}, status: 409, code: "FileAlreadyExists"},
		{method: "PUT", target: "/bucket/copy", header: []string{"X-Oss-Copy-Source", "/bucket/log"}, status: 400, code: "OperationNotSupported"},
		{method: "PUT", target: "/bucket/copy", header: []string{"X-Oss-Copy-Source", "bucket"}, status: 400, code: "InvalidArgument"},
		{method: "POST", target: "/bucket/k?symlink", status: 501, code: "NotImplemented"},
		{method: "PATCH", target: "/bucket/k", status: 405, code: "MethodNotAllowed"},
		{method: "GET", target: "/bucket/none", status: 404, code: "NoSuchKey"},
		{method: "HEAD", target: "/bucket/none", status: 404, code: "NoSuchKey"},
		{method: "GET", target: "/bucket/log", header: []string{"Range", "bytes=10-", "X-Oss-Range-Behavior", "standard"}, status: 416, code: "InvalidRange"},
		{method: "GET", target: "/bucket/log", header: []string{"If-Match", "x"}, status: 412, code: "PreconditionFailed"},
		{method: "GET", target: "/bucket/?max-keys=1001", status: 400, code: "InvalidArgument"},
		{method: "GET", target: "/bucket/?list-type=2&continuation-token=!", status: 400, code: "InvalidArgument"},
		{method: "GET", target: "/bucket/?encoding-type=zip", status: 400, code: "InvalidArgument"},
		{method: "POST", target: "/bucket/?delete", body: "<Delete>", status: 400, code: "MalformedXML"},
		{method: "DELETE", target: "/bucket/", status: 409, code: "BucketNotEmpty"},
		{method: "GET", target: "/bucket/?%zz", status: 400, code: "InvalidArgument"},
	} {
		w := send(s, tc.method, host, tc.target, tc.body, tc.header...)
		p := w.Body.Bytes()
		if tc.method == "HEAD" {
			if len(p) > 0 {
				t.Errorf("HEAD has a body")
			}
			p, _ = base64.StdEncoding.DecodeString(w.Header().Get("X-Oss-Err"))
		}
		var e struct{ Code, Message, RequestId, HostId, EC string }
		if err := xml.Unmarshal(p, &e); err != nil || w.Code != tc.status || e.Code != tc.code || e.Message == "" || e.EC == "" || e.HostId != host || e.RequestId != w.Header().Get("X-Oss-Request-Id") {
			t.Errorf("%s %s: %d %+v, %v", tc.method, tc.target, w.Code, e, err)
		}
	}
	if w := send(s, "POST", host, "/bucket/log?append&position=9", ""); w.Header().Get("X-Oss-Next-Append-Position") != "10" {
		t.Errorf("%v", w.Header())
	}
}

func TestRanges(t *testing.T) {
	s, err := New(Options{Buckets: []string{testBucket}})
	if err != nil {
		t.Fatal(err)
	}
	send(s, "POST", "h", "/bucket/k?append&position=0", "0123456789", "Content-Type", "text/plain", "X-Oss-Meta-Who", "me")
	for _, tc := range []struct {
		r, behaviour string
		status       int
		want, where  string
	}{
		{"", "", 200, "0123456789", ""},
		{"bytes=2-4", "", 206, "234", "bytes 2-4/10"},
		{"bytes=2-", "", 206, "23456789", "bytes 2-9/10"},
		{"bytes=-3", "", 206, "789", "bytes 7-9/10"},
		{"bytes=5-100", "", 200, "0123456789", ""},
		{"bytes=5-100", "standard", 206, "56789", "bytes 5-9/10"},
		{"bytes=-100", "standard", 206, "0123456789", "bytes 0-9/10"},
		{"bytes=10-", "", 200, "0123456789", ""},
		{"bytes=4-2", "", 200, "0123456789", ""},
		{"lines=1-2", "", 200, "0123456789", ""},
		{"bytes=0-99999999999999999999", "standard", 200, "0123456789", ""},
	} {
		w := send(s, "GET", "h", "/bucket/k", "", "Range", tc.r, "X-Oss-Range-Behavior", tc.behaviour)
		if w.Code != tc.status || w.Body.String() != tc.want || w.Header().Get("Content-Range") != tc.where || w.Header().Get("X-Oss-Meta-Who") != "me" || w.Header().Get("Content-Type") != "text/plain" {
			t.Errorf("%q %s: %d %q %v", tc.r, tc.behaviour, w.Code, w.Body, w.Header())
		}
	}
	w := send(s, "GET", "h", "/bucket/k?response-content-type=a/b", "")
	if w.Header().Get("Content-Type") != "a/b" {
		t.Errorf("%v", w.Header())
	}
	if w := send(s, "GET", "h", "/bucket/k", "", "If-None-Match", w.Header().Get("ETag")); w.Code != 304 {
		t.Errorf("%d", w.Code)
	}
}

func TestRules(t *testing.T) {
	for _, tc := range []struct {
		rule Rule
		want string // one letter for each of eight appends: x is hit
	}{
		{Rule{}, "xxxxxxxx"},
		{Rule{Nth: 3}, "..x....."},
		{Rule{Nth: 3, Count: 2}, "..xx...."},
		{Rule{Count: 2}, "xx......"},
		{Rule{Op: "head"}, "........"},
		{Rule{Op: "append", Key: "k*"}, "xxxxxxxx"},
		{Rule{Key: "*/k"}, "........"},
		{Rule{Probability: 1e-9}, "........"},
	} {
		s, err := New(Options{Buckets: []string{testBucket}, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		tc.rule.Action, tc.rule.Status, tc.rule.Code = "error", 503, "ServiceUnavailable"
		if _, err := s.AddFault(tc.rule); err != nil {
			t.Fatal(err)
		}
		got := ""
		for i := range 8 {
			if w := send(s, "POST", "h", fmt.Sprintf("/bucket/k%d?append&position=0", i), "x"); w.Code == 503 {
				got += "x"
			} else {
				got += "."
			}
		}
		if got != tc.want || s.Counters()["append"] != 8 {
			t.Errorf("%+v: %s, want %s; %v", tc.rule, got, tc.want, s.Counters())
		}
	}
	for pattern, keys := range map[string][2]string{
		"a*c":     {"a/b/c", "a/b"},
		"*":       {"", "-"},
		"a*b*c":   {"a1b2c", "acb"},
		"**/x":    {"d/x", "x"},
		"a*a":     {"aa", "a"},
		"*.gz":    {"k.gz", "k.gzip"},
		"literal": {"literal", "literally"},
	} {
		if !match(pattern, keys[0]) || keys[1] != "-" && match(pattern, keys[1]) {
			t.Errorf("%q", pattern)
		}
	}
	s, _ := New(Options{})
	for _, r := range []Rule{{}, {Action: "error", Status: 200}, {Action: "cut", When: "during"}, {Action: "late", When: "after"}, {Action: "cut", Nth: -1}, {Action: "cut", Probability: 2}} {
		if _, err := s.AddFault(r); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

func TestAdmin(t *testing.T) {
	off, _ := New(Options{})
	if w := send(off, "GET", "h", "/_ossemu/faults", ""); w.Code == 200 {
		t.Error("served although it is off")
	}
	s, err := New(Options{Admin: true, Buckets: []string{testBucket}})
	if err != nil {
		t.Fatal(err)
	}
	if w := send(s, "POST", "h", "/_ossemu/faults", `{"op":"append","action":"delay","delay":"1ms","nth":1}`); w.Code != 200 || !strings.Contains(w.Body.String(), `"1"`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, bad := range []string{`{`, `{"action":"nothing"}`, `{"action":"cut","unknown":1}`, `{"action":"delay","delay":"soon"}`} {
		if w := send(s, "POST", "h", "/_ossemu/faults", bad); w.Code != 400 {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	if w := send(s, "POST", "h", "/_ossemu/faults", `{"action":"cut"}`, "Origin", "http://evil.test"); w.Code != 403 {
		t.Errorf("a browser got %d", w.Code)
	}
	send(s, "POST", "h", "/bucket/k?append&position=0", "x")
	var rules []Rule
	if err := json.Unmarshal(send(s, "GET", "h", "/_ossemu/faults", "").Body.Bytes(), &rules); err != nil || len(rules) != 1 || rules[0].Fired != 1 || rules[0].Delay != Duration(time.Millisecond) {
		t.Errorf("%+v, %v", rules, err)
	}
	if w := send(s, "GET", "h", "/_ossemu/counters", ""); !strings.Contains(w.Body.String(), `"append":1`) {
		t.Errorf("%s", w.Body)
	}
	for _, call := range []string{"DELETE faults?id=1", "POST seed?n=7", "POST arrive"} {
		method, target, _ := strings.Cut(call, " ")
		if w := send(s, method, "h", adminPath+target, ""); w.Code != 204 {
			t.Errorf("%s: %d", call, w.Code)
		}
	}
	if len(s.Faults()) != 0 {
		t.Error("the rule is still there")
	}
}

func TestMultipleAndBuckets(t *testing.T) {
	s, err := New(Options{Buckets: []string{testBucket}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, key := range []string{"a", "b", "c"} {
		send(s, "PUT", "h", "/bucket/"+key, key)
	}
	w := send(s, "POST", "h", "/bucket/?delete&encoding-type=url", "<Delete><Quiet>false</Quiet><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>")
	if w.Code != 200 || strings.Count(w.Body.String(), "<Deleted>") != 2 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := send(s, "GET", "h", "/bucket/?prefix=&marker=", ""); strings.Count(w.Body.String(), "<Contents>") != 1 {
		t.Errorf("%s", w.Body)
	}
	send(s, "DELETE", "h", "/bucket/c", "")
	for _, step := range []struct {
		call, want string
		status     int
	}{
		{"GET /", "<Name>bucket</Name>", 200},
		{"GET /bucket/?location", "oss-cn-hangzhou", 200},
		{"GET /bucket/?versioning", "VersioningConfiguration", 200},
		{"GET /bucket/?acl", "private", 200},
		{"GET /bucket/?bucketInfo", "<CreationDate>", 200},
		{"DELETE /bucket", "", 204},
		{"GET /bucket/?bucketInfo", "NoSuchBucket", 404},
		{"GET /bucket/", "NoSuchBucket", 404},
		{"PUT /bucket/", "", 200},
		{"GET /bucket/", "<IsTruncated>false", 200},
	} {
		method, target, _ := strings.Cut(step.call, " ")
		if w := send(s, method, "h", target, ""); w.Code != step.status || !strings.Contains(w.Body.String(), step.want) {
			t.Errorf("%s: %d %s", step.call, w.Code, w.Body)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:9000": true, "127.1.2.3:1": true, "[::1]:9000": true, "localhost:1": true, "::1": true,
		":9000": false, "0.0.0.0:9000": false, "[::]:1": false, "192.168.1.1:1": false, "example.com:80": false,
	} {
		if IsLoopback(addr) != want {
			t.Errorf("%s: %v", addr, !want)
		}
	}
}

// Whatever is asked, the server answers, and in the service's words.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{"POST /bucket/k?append&position=0", "GET /bucket/k", "GET /bucket/?list-type=2&prefix=a&delimiter=%2F", "PUT /bucket/a/../b", "POST /bucket/?delete", "DELETE /bucket/%00", "GET /?x-oss-signature-version=OSS4-HMAC-SHA256"} {
		method, target, _ := strings.Cut(seed, " ")
		f.Add(method, target, "body", "bytes=0-5", "OSS4-HMAC-SHA256 Credential=a/20260101/r/oss/aliyun_v4_request,Signature=x")
		f.Add(method, target, "<Delete><Object><Key>k</Key></Object></Delete>", "bytes=-1", "OSS a:b")
	}
	open, err := New(Options{Buckets: []string{testBucket}})
	if err != nil {
		f.Fatal(err)
	}
	guarded, err := New(Options{Buckets: []string{testBucket}, Credentials: map[string]string{"a": "b"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, target, payload, rng, auth string) {
		r, err := http.NewRequest(method, "http://h/", strings.NewReader(payload))
		if err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		if r.URL, err = r.URL.Parse("http://h" + target); err != nil {
			return
		}
		r.Header.Set("Range", rng)
		r.Header.Set("X-Oss-Range-Behavior", "standard")
		r.Header.Set("Authorization", auth)
		r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		for _, s := range []*Server{open, guarded} {
			r.Body = io.NopCloser(strings.NewReader(payload))
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if s == guarded && w.Code < 300 {
				t.Fatalf("served without a signature: %d", w.Code)
			}
			if w.Code >= 500 && w.Code != 501 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
	})
}
