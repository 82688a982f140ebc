package ossemu

import (
	"strings"
	"testing"
	"time"
)

// Who may what: by key, by token, by ACL, by address.
func TestAddressesAndAnonymous(t *testing.T) {
	s, err := New(Options{
		Buckets: []string{testBucket}, Credentials: map[string]string{"id": "secret"},
		CNames: map[string]string{"data.example.com": testBucket}, Elsewhere: map[string]string{"far-away": "oss-cn-beijing.aliyuncs.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	appendString(t, s, "k", 0, "abc")
	acl := func(acl string) {
		t.Helper()
		if _, err := s.store.change(testBucket, "k", "", func(_ *bucket, st *state) error { st.ACL = acl; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	step := func(method, host, target string, status int, code string) {
		t.Helper()
		if w := send(s, method, host, target, ""); w.Code != status || !strings.Contains(w.Body.String(), code) {
			t.Errorf("%s %s%s: %d %s", method, host, target, w.Code, w.Body)
		}
	}
	step("GET", "h", "/bucket/k", 403, "bucket acl")
	step("GET", "h", "/far-away/k", 403, "<Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>")
	step("GET", "h", "/none/k", 404, "NoSuchBucket")
	step("GET", "h", "/", 403, "AccessDenied")
	acl("public-read")
	step("GET", "h", "/bucket/k", 200, "abc")
	step("GET", "DATA.example.com:80", "/k", 200, "abc")
	step("POST", "h", "/bucket/k?append&position=3", 403, "AccessDenied")
	step("GET", "h", "/bucket/", 403, "AccessDenied")
	step("GET", "h", "/bucket/k?acl", 403, "AccessDenied")
	acl("public-read-write")
	step("POST", "data.example.com", "/k?append&position=3", 200, "")
	if err := s.store.changeBucket(testBucket, func(b *bucketState) error { b.ACL = "public-read"; return nil }); err != nil {
		t.Fatal(err)
	}
	acl("private")
	step("GET", "h", "/bucket/k", 403, "AccessDenied")
	acl(aclDefault)
	step("GET", "h", "/bucket/k", 200, "abc")
	step("GET", "h", "/bucket/", 200, "<Key>k</Key>")
	step("PUT", "h", "/bucket/k", 403, "AccessDenied")

	s.opt.RefusePathStyle = true
	step("GET", "h", "/bucket/k", 403, "SecondLevelDomainForbidden")
	step("GET", "data.example.com", "/k", 200, "abc")
}

// Keys change while the server runs, and temporary ones end.
func TestKeys(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := New(Options{Buckets: []string{testBucket}, Keys: map[string]Key{"sts": {Secret: "one", Token: "token", Expires: now.Add(time.Hour)}}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	appendString(t, s, "k", 0, "abc")
	get := func(secret, token string, status int, code string) {
		t.Helper()
		date := now.Format("Mon, 02 Jan 2006 15:04:05 GMT")
		toSign := "GET\n\n\n" + date + "\n"
		header := []string{"Date", date}
		if token != "" {
			toSign += "x-oss-security-token:" + token + "\n"
			header = append(header, "X-Oss-Security-Token", token)
		}
		header = append(header, "Authorization", "OSS sts:"+v1Sign(secret, toSign+"/bucket/k"))
		if w := send(s, "GET", "h", "/bucket/k", "", header...); w.Code != status || !strings.Contains(w.Body.String(), code) {
			t.Errorf("%s %s: %d %s", secret, token, w.Code, w.Body)
		}
	}
	get("one", "token", 200, "abc")
	get("one", "", 403, "InvalidSecurityToken")
	get("one", "other", 403, "InvalidSecurityToken")
	get("two", "token", 403, "SignatureDoesNotMatch")
	s.SetKey("sts", Key{Secret: "two", Token: "next", Expires: now.Add(2 * time.Hour)})
	get("one", "token", 403, "SignatureDoesNotMatch")
	get("two", "next", 200, "abc")
	now = now.Add(2 * time.Hour)
	get("two", "next", 403, "SecurityTokenExpired")
	s.SetKey("sts", Key{Secret: "three"})
	get("three", "", 200, "abc")
	get("three", "token", 403, "InvalidSecurityToken")
	s.RemoveKey("sts") // the last one: that does not open the server to everybody
	get("three", "", 403, "InvalidAccessKeyId")
}
