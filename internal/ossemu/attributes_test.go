package ossemu

import (
	"net/http"
	"strings"
	"testing"
)

// Whatever an append can say about its object is kept from the first one, through
// a restart, and told by head and get; of later ones the ACL alone counts.
func TestAppendHeaders(t *testing.T) {
	given := []string{
		"Cache-Control", "no-cache",
		"Content-Disposition", "attachment; filename=a.gz",
		"Content-Encoding", "gzip",
		"Content-Language", "de",
		"Content-Type", "application/x-ndjson",
		"Expires", "Fri, 28 Feb 2031 05:38:42 GMT",
		"X-Oss-Storage-Class", "IA",
		"X-Oss-Server-Side-Encryption", "KMS",
		"X-Oss-Server-Side-Data-Encryption", "SM4",
		"X-Oss-Server-Side-Encryption-Key-Id", "9468da86-3509-4f8d-a61e-6eab1eac",
		"X-Oss-Meta-Stream", "ORDERS",
	}
	set := append([]string{
		"X-Oss-Object-Acl", "public-read",
		"X-Oss-Tagging", "team=data&note=a%3Db",
		"X-Oss-Forbid-Overwrite", "true",
		"Content-MD5", "kAFQmDzST7DWlj99KOF/cg==",
		"X-Oss-Traffic-Limit", "838860800",
	}, given...)
	dir := t.TempDir()
	s := openTest(t, dir)
	w := send(s, "POST", "h", "/bucket/k?append&position=0", "abc", set...)
	if w.Code != 200 || w.Header().Get("X-Oss-Server-Side-Encryption") != "KMS" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	check := func(acl string) {
		t.Helper()
		for _, method := range []string{"HEAD", "GET"} {
			h := send(s, method, "h", "/bucket/k", "").Header()
			for i := 0; i < len(given); i += 2 {
				if h.Get(given[i]) != given[i+1] {
					t.Errorf("%s %s: %q, want %q", method, given[i], h.Get(given[i]), given[i+1])
				}
			}
			if h.Get("X-Oss-Tagging-Count") != "2" {
				t.Errorf("%s: %v", method, h)
			}
		}
		if w := send(s, "GET", "h", "/bucket/k?tagging", ""); !strings.Contains(strings.Join(strings.Fields(w.Body.String()), ""), "<Key>note</Key><Value>a=b</Value>") {
			t.Errorf("%s", w.Body)
		}
		if w := send(s, "GET", "h", "/bucket/k?acl", ""); !strings.Contains(w.Body.String(), "<Grant>"+acl+"</Grant>") {
			t.Errorf("%s", w.Body)
		}
	}
	check("public-read")
	w = send(s, "POST", "h", "/bucket/k?append&position=3", "def",
		"Content-Type", "text/plain", "X-Oss-Meta-Stream", "other", "X-Oss-Meta-New", "x", "X-Oss-Object-Acl", "private", "X-Oss-Storage-Class", "Standard", "X-Oss-Tagging", "a=b")
	if w.Code != 200 || w.Header().Get("X-Oss-Server-Side-Encryption") != "KMS" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	check("private")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	check("private")
	if h := send(s, "HEAD", "h", "/bucket/k", "").Header(); h.Get("X-Oss-Meta-New") != "" || h.Get("X-Oss-Next-Append-Position") != "6" {
		t.Errorf("%v", h)
	}

	// An object that was not created encrypted is not encrypted by a later append.
	send(s, "POST", "h", "/bucket/plain?append&position=0", "abc")
	if w := send(s, "POST", "h", "/bucket/plain?append&position=3", "d", "X-Oss-Server-Side-Encryption", "AES256"); w.Code != 200 || w.Header().Get("X-Oss-Server-Side-Encryption") != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if h := send(s, "HEAD", "h", "/bucket/plain", "").Header(); h.Get("X-Oss-Storage-Class") != "Standard" || h.Get("Content-Type") != defaultType {
		t.Errorf("%v", h)
	}
}

func TestHeadersRefused(t *testing.T) {
	s := openTest(t, "")
	send(s, "POST", "h", "/bucket/k?append&position=0", "abc")
	for _, tc := range []struct {
		name, value, code, ec string
	}{
		{"X-Oss-Storage-Class", "ColdArchive", "InvalidArgument", "0016-00000503"},
		{"X-Oss-Storage-Class", "DeepColdArchive", "InvalidArgument", "0016-00000503"},
		{"X-Oss-Storage-Class", "Hot", "InvalidArgument", ""},
		{"X-Oss-Object-Acl", "everybody", "InvalidArgument", ""},
		{"X-Oss-Server-Side-Encryption", "ROT13", "InvalidEncryptionAlgorithmError", ""},
		{"X-Oss-Server-Side-Data-Encryption", "SM4", "InvalidEncryptionAlgorithmError", ""},
		{"X-Oss-Server-Side-Encryption-Key-Id", "id", "InvalidArgument", ""},
		{"X-Oss-Tagging", "a=1&a=2", "InvalidTag", ""},
		{"X-Oss-Tagging", "a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=0&k=1", "BadRequest", ""},
		{"X-Oss-Tagging", "=1", "InvalidTag", ""},
		{"X-Oss-Tagging", "k=" + strings.Repeat("v", 257), "InvalidTag", ""},
		{"X-Oss-Tagging", "k%=v", "InvalidTag", ""},
		{"X-Oss-Tagging", "k=%2A", "InvalidTag", ""},
		{"X-Oss-Traffic-Limit", "245759", "InvalidArgument", ""},
		{"X-Oss-Traffic-Limit", "838860801", "InvalidArgument", ""},
		{"X-Oss-Traffic-Limit", "fast", "InvalidArgument", ""},
		{"Content-MD5", "kAFQmDzST7DWlj99KOF/cQ==", "InvalidDigest", ""},
		{"X-Oss-Meta-A", strings.Repeat("x", 8<<10), "MetadataTooLarge", ""},
	} {
		for _, target := range []string{"/bucket/new?append&position=0", "/bucket/k?append&position=3"} {
			w := send(s, "POST", "h", target, "abc", tc.name, tc.value)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "<Code>"+tc.code+"</Code>") || tc.ec != "" && w.Header().Get("X-Oss-Ec") != tc.ec {
				t.Errorf("%s: %.20s: %d %s", tc.name, tc.value, w.Code, w.Body)
			}
		}
	}
	wantContents(t, s, map[string]string{"k": "abc"})
}

func TestACLAndTagging(t *testing.T) {
	s := openTest(t, t.TempDir())
	send(s, "POST", "h", "/bucket/k?append&position=0", "abc")
	for _, step := range []struct {
		call, body, want string
		status           int
		header           []string
	}{
		{"GET /bucket/k?acl", "", "<Grant>default</Grant>", 200, nil},
		{"PUT /bucket/k?acl", "", "MissingArgument", 400, nil},
		{"PUT /bucket/k?acl", "", "", 200, []string{"X-Oss-Object-Acl", "public-read"}},
		{"GET /bucket/k?acl", "", "<Grant>public-read</Grant>", 200, nil},
		{"PUT /bucket/none?acl", "", "NoSuchKey", 404, []string{"X-Oss-Object-Acl", "private"}},
		{"PUT /bucket/k?tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>", "", 200, nil},
		{"GET /bucket/k?tagging", "", "<Key>a</Key>", 200, nil},
		{"PUT /bucket/k?tagging", "<Tagging>", "MalformedXML", 400, nil},
		{"DELETE /bucket/k?tagging", "", "", 204, nil},
		{"GET /bucket/k?tagging", "", "<Tagging>", 200, nil},
		{"GET /bucket/none?tagging", "", "NoSuchKey", 404, nil},
	} {
		method, target, _ := strings.Cut(step.call, " ")
		if w := send(s, method, "h", target, step.body, step.header...); w.Code != step.status || !strings.Contains(w.Body.String(), step.want) {
			t.Errorf("%s: %d %s", step.call, w.Code, w.Body)
		}
	}
	// None of it has touched the bytes, or what an append needs.
	appendString(t, s, "k", 3, "d")
	wantContents(t, s, map[string]string{"k": "abcd"})
}
