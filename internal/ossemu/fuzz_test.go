package ossemu

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzRange reads Range headers: what is served lies within the object, and is what
// the header says or the whole.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-5", "bytes=5-", "bytes=-3", "bytes=-0", "bytes=9-5", "bytes=0-9,11-12", "bytes=+1-+2", "x", "bytes=9223372036854775807-"} {
		f.Add(s, true, int64(10))
		f.Add(s, false, int64(10))
	}
	form := regexp.MustCompile(`^bytes=([0-9]*)-([0-9]*)$`)
	f.Fuzz(func(t *testing.T, value string, standard bool, length int64) {
		if length < 0 {
			return
		}
		from, to, partial, err := byteRange(value, standard, length)
		m := form.FindStringSubmatch(value)
		switch {
		case err != nil:
			var api *apiError
			if !errors.As(err, &api) || api.Status != 416 || !standard || m == nil {
				t.Fatalf("%q of %d: %v", value, length, err)
			}
		case !partial:
			if from != 0 || to != length {
				t.Fatalf("%q of %d: %d to %d for the whole", value, length, from, to)
			}
		case m == nil, from < 0, from >= to, to > length:
			t.Fatalf("%q of %d: %d to %d", value, length, from, to)
		default:
			first, last := m[1], m[2]
			if first == "" && (to != length || last != "" && fmt.Sprint(to-from) != strings.TrimLeft(last, "0") && from != 0) ||
				first != "" && fmt.Sprint(from) != trimZeros(first) || first != "" && last != "" && fmt.Sprint(to-1) != trimZeros(last) && to != length {
				t.Fatalf("%q of %d: %d to %d", value, length, from, to)
			}
		}
	})
}

func trimZeros(s string) string {
	if s = strings.TrimLeft(s, "0"); s == "" {
		return "0"
	}
	return s
}

// FuzzListing lists page by page, with any parameters, and compares with a listing
// of the whole.
func FuzzListing(f *testing.F) {
	for _, s := range [][3]string{{"", "", ""}, {"a/", "/", ""}, {"", "/", "a/b"}, {"b", "x", "b/"}, {"", "a/", "a/"}, {"\xff", "\x00", "\xff"}} {
		f.Add(s[0], s[1], s[2], uint8(1), true)
		f.Add(s[0], s[1], s[2], uint8(2), false)
	}
	s, err := New(Options{Buckets: []string{testBucket}})
	if err != nil {
		f.Fatal(err)
	}
	keys := []string{"a", "a-b", "a/1", "a/2", "a/b/3", "a&<>\"'", "b", "b/", "b/x", "c d+e%", "日本/語", "日本/\U0010FFFF語"}
	for _, key := range keys {
		if _, err := s.store.append(testBucket, key, 0, &body{}, attributes{}); err != nil {
			f.Fatal(err)
		}
	}
	slices.Sort(keys)
	f.Fuzz(func(t *testing.T, prefix, delimiter, after string, limit uint8, v2 bool) {
		var want []string
		for _, key := range keys {
			if !strings.HasPrefix(key, prefix) || key <= after {
				continue
			}
			if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
				key = key[:len(prefix)+i+len(delimiter)]
				if after != "" && strings.HasPrefix(after, key) || slices.Contains(want, key) {
					continue
				}
			}
			want = append(want, key)
		}
		q := url.Values{"prefix": {prefix}, "delimiter": {delimiter}, "encoding-type": {"url"}, "max-keys": {fmt.Sprint(limit%12 + 1)}}
		if v2 {
			q.Set("list-type", "2")
			q.Set("start-after", after)
		} else {
			q.Set("marker", after)
		}
		var got []string
		for page := 0; ; page++ {
			w := send(s, "GET", "127.0.0.1", "/bucket/?"+q.Encode(), "")
			var res xmlListing
			if err := xml.Unmarshal(w.Body.Bytes(), &res); err != nil || w.Code != 200 || page > len(keys) {
				t.Fatalf("page %d: %d %v %s", page, w.Code, err, w.Body)
			}
			if n := len(res.Contents) + len(res.CommonPrefixes); n > int(limit%12+1) || res.IsTruncated && n == 0 {
				t.Fatalf("a page of %d", n)
			}
			var of []string
			for _, o := range res.Contents {
				of = append(of, o.Key)
			}
			for _, p := range res.CommonPrefixes {
				of = append(of, p.Prefix)
			}
			for i := range of {
				if of[i], err = url.PathUnescape(of[i]); err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(of)
			got = append(got, of...)
			if !res.IsTruncated {
				break
			}
			if v2 {
				q.Set("continuation-token", res.NextContinuationToken)
			} else if next, err := url.PathUnescape(res.NextMarker); err == nil {
				q.Set("marker", next)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("prefix %q, delimiter %q, after %q: %q, want %q", prefix, delimiter, after, got, want)
		}
	})
}

// FuzzDelete reads the XML of a request to delete many: what it names goes, all of
// it or nothing, and nothing else.
func FuzzDelete(f *testing.F) {
	f.Add("<Delete><Object><Key>a</Key></Object><Object><Key>b/c</Key></Object></Delete>")
	f.Add("<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object><Object><Key>/</Key></Object></Delete>")
	f.Add("<Delete><Object><Key><![CDATA[b/c]]></Key></Object><Object><Key>&#100;</Key></Object></Delete>trailing")
	f.Add("<Delete xmlns:x='y'><x:Object><Key>a</Key><Key>d</Key></x:Object>")
	f.Add("<Delete/>")
	f.Add("<Delete><Object><Key>a&#x1;&#31;</Key></Object><Object><Key>d</Key><VersionId>null</VersionId></Object><Object><Key>a</Key><VersionId>x</VersionId></Object></Delete>")
	f.Fuzz(func(t *testing.T, payload string) {
		s, err := New(Options{Buckets: []string{testBucket}})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"a": "1", "b/c": "2", "d": "3"}
		for key, v := range want {
			if _, err := s.store.append(testBucket, key, 0, &body{mem: []byte(v), n: int64(len(v))}, attributes{}); err != nil {
				t.Fatal(err)
			}
		}
		w := send(s, "POST", "127.0.0.1", "/bucket/?delete", payload)
		if w.Code == 200 {
			for _, key := range keysOf(payload) {
				if !validKey(key) {
					t.Fatalf("%q is deleted", key)
				}
				delete(want, key)
			}
		}
		if got := contents(t, s); !maps.Equal(got, want) {
			t.Fatalf("%q leaves %v, want %v", payload, got, want)
		}
	})
}

// keysOf takes the keys out of a request by its tokens: Delete, Object, Key. Those of
// versions that an unversioned bucket does not have are left out.
func keysOf(payload string) (keys []string) {
	type object struct{ key, version string }
	var objects []object
	defer func() {
		for _, o := range objects {
			if o.version == "" || o.version == nullVersion {
				keys = append(keys, showControls(o.key))
			}
		}
	}()
	d := xml.NewDecoder(bytes.NewReader(hideControls([]byte(payload))))
	var path []string
	for {
		tok, err := d.Token()
		if err != nil {
			return keys
		}
		last := len(objects) - 1 // of the object at work, what comes last counts
		switch tok := tok.(type) {
		case xml.StartElement:
			path = append(path, tok.Name.Local)
			switch strings.Join(path, "/") {
			case "Delete/Object":
				objects = append(objects, object{})
			case "Delete/Object/Key":
				objects[last].key = ""
			case "Delete/Object/VersionId":
				objects[last].version = ""
			}
		case xml.CharData:
			switch strings.Join(path, "/") {
			case "Delete/Object/Key":
				objects[last].key += string(tok)
			case "Delete/Object/VersionId":
				objects[last].version += string(tok)
			}
		case xml.EndElement:
			if path = path[:len(path)-1]; len(path) == 0 {
				return keys
			}
		}
	}
}

// FuzzRule plants any rule by the admin interface, and has it hit: the server
// answers or ends the connection, the rule is listed as it was sent, and its
// pattern fits what the same pattern as an expression does.
func FuzzRule(f *testing.F) {
	for _, s := range []string{
		`{"action":"error","status":503,"code":"SlowDown","headers":{"X-Oss-Qos-Delay-Time":"5"}}`, `{"action":"cut","when":"after"}`, `{"action":"cut","cut_after":1,"op":"get"}`,
		`{"action":"late","op":"append","nth":1,"count":2}`, `{"action":"headers","status":299,"headers":{"ETag":"","X":"y"}}`, `{"action":"delay","delay":"1ns","probability":0.5}`,
		`{"action":"headers","when":"after","headers":{"a b":"\r\n"}}`, `{"action":"error","status":600}`, `{"action":"error","nth":-1}`, `{"key":"a*b*","action":"cut"}`,
	} {
		f.Add(s, "k/a*b")
	}
	f.Fuzz(func(t *testing.T, rule, key string) {
		s, err := New(Options{Buckets: []string{testBucket}, Admin: true})
		if err != nil {
			t.Fatal(err)
		}
		w := send(s, "POST", "127.0.0.1", adminPath+"faults", rule)
		if w.Code != 200 {
			if w.Code != 400 || len(s.Faults()) != 0 {
				t.Fatalf("%d, and rules %+v", w.Code, s.Faults())
			}
			return
		}
		var sent Rule
		if err := json.NewDecoder(strings.NewReader(rule)).Decode(&sent); err != nil {
			t.Fatal(err)
		}
		listed := send(s, "GET", "127.0.0.1", adminPath+"faults", "")
		var rules []Rule
		if err := json.Unmarshal(listed.Body.Bytes(), &rules); err != nil || len(rules) != 1 || rules[0].Action != sent.Action || rules[0].Key != sent.Key || rules[0].Delay != sent.Delay {
			t.Fatalf("%s is listed as %s: %v", rule, listed.Body, err)
		}
		// An expression takes all bytes that are no text for one and the same
		// character; keys are bytes.
		if fits := expression(sent.Key).MatchString(key); utf8.ValidString(key) && match(sent.Key, key) != fits {
			t.Fatalf("pattern %q, key %q: %v, want %v", sent.Key, key, !fits, fits)
		}
		if sent.Delay > 0 {
			return
		}
		for _, target := range []string{"POST /bucket/" + url.PathEscape(key) + "?append&position=0", "GET /bucket/" + url.PathEscape(key), "GET /bucket/?list-type=2", "HEAD /bucket/x"} {
			method, target, _ := strings.Cut(target, " ")
			answered(t, s, method, target)
		}
	})
}

// answered makes a request that the server may end by ending the connection.
func answered(t *testing.T, s *Server, method, target string) {
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			panic(v)
		}
	}()
	if w := send(s, method, "127.0.0.1", target, "x"); w.Code < 200 || w.Code > 599 {
		t.Fatalf("%d", w.Code)
	}
}

func expression(pattern string) *regexp.Regexp {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$")
}

// FuzzSignature signs one request and sends another with that signature: it is
// served only if it is the same request.
func FuzzSignature(f *testing.F) {
	f.Add("GET", "/bucket/k?a=1&b", "GET", "/bucket/k?b&a=1", "x", false)
	f.Add("PUT", "/bucket/a%2Fb", "PUT", "/bucket/a/b", "x", false)
	f.Add("GET", "/bucket/?prefix=a", "GET", "/bucket/?prefix=b", "", false)
	f.Add("GET", "/bucket/k?a=b%26c", "GET", "/bucket/k?a=b&c", "", true)
	f.Add("GET", "/bucket/k?a%3Db", "GET", "/bucket/k?a=b", "", true)
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	s, err := New(Options{Buckets: []string{testBucket}, Credentials: map[string]string{"id": "secret"}, Now: func() time.Time { return now }})
	if err != nil {
		f.Fatal(err)
	}
	parse := func(method, target, meta string) *request {
		hr, err := http.NewRequest(method, "http://h/", http.NoBody)
		if err != nil || !strings.HasPrefix(target, "/") {
			return nil
		}
		if hr.URL, err = hr.URL.Parse("http://h" + target); err != nil {
			return nil
		}
		hr.Header.Set("X-Oss-Date", now.Format(v4TimeFormat))
		hr.Header.Set("X-Oss-Meta-M", meta)
		r, err := s.parse(hr)
		if err != nil {
			return nil
		}
		return r
	}
	f.Fuzz(func(t *testing.T, method, target, method2, target2, meta string, same bool) {
		a, b := parse(method, target, meta), parse(method2, target2, meta)
		if a == nil || b == nil {
			return
		}
		if !same {
			b.Header.Set("X-Oss-Meta-M", meta+"!")
		}
		const scope = "20261122/r/oss/aliyun_v4_request"
		auth := "OSS4-HMAC-SHA256 Credential=id/" + scope + ",Signature="
		sign := v4SignatureOf(a, "secret", scope, now)
		a.Header.Set("Authorization", auth+sign)
		if err := s.authenticate(a); err != nil {
			t.Fatalf("a signed request is refused: %v", err)
		}
		b.Header.Set("Authorization", auth+sign)
		if s.authenticate(b) != nil {
			return
		}
		query := func(r *request) []string {
			var out []string
			for _, p := range r.query {
				out = append(out, fmt.Sprintf("%q=%q", p.name, p.value))
			}
			slices.Sort(out)
			return out
		}
		if !same || a.Method != b.Method || a.bucket != b.bucket || a.key != b.key || !slices.Equal(query(a), query(b)) {
			t.Fatalf("the signature of %s %q is taken for %s %q (same header: %v)", method, target, method2, target2, same)
		}
	})
}

// v4SignatureOf signs a request as a client does.
func v4SignatureOf(r *request, secret, scope string, now time.Time) string {
	sum := sha256.Sum256([]byte(v4Canonical(r, "", r.query)))
	key := []byte("aliyun_v4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(sha256.New, key, part)
	}
	return hex.EncodeToString(mac(sha256.New, key, v4Algorithm+"\n"+now.Format(v4TimeFormat)+"\n"+scope+"\n"+hex.EncodeToString(sum[:])))
}

// FuzzJournal opens a store whose journal has records behind what was committed,
// with right checksums, and then any bytes, and is cut somewhere. It opens or says
// why not, leads nowhere outside, and opens the same again.
func FuzzJournal(f *testing.F) {
	f.Add(`{"op":"object","b":"bucket","k":"log","o":{"e":true,"p":"bucket/log","n":3,"c":1,"a":true}}`, []byte{}, uint16(0))
	f.Add(`{"op":"object","b":"bucket","k":"log","o":{"e":true,"p":"bucket/log","n":5,"w":"cut"}}`+"\n"+`{"op":"close"}`, []byte{}, uint16(0))
	f.Add(`{"op":"object","b":"bucket","k":"new","o":{"p":"bucket/new","w":"create"}}`+"\n"+`{"op":"nobucket","b":"bucket"}`, []byte("00000000 {"), uint16(1))
	f.Add(`{"op":"object","b":"bucket","k":"put","o":{"e":true,"p":"bucket/put","n":3,"w":"install:1"}}`, []byte{0, 0}, uint16(300))
	f.Add(`{"op":"object","b":"bucket","k":"x","o":{"e":true,"p":"../outside","n":-3}}`, []byte{}, uint16(0))
	f.Add(`{"op":"bucket","b":"other","bucket":{}}`+"\n"+`{"op":"journal","v":2}`, []byte("\n"), uint16(0))
	f.Fuzz(func(t *testing.T, records string, raw []byte, cut uint16) {
		parent := t.TempDir()
		outside := filepath.Join(parent, "outside")
		if err := os.WriteFile(outside, []byte("outside"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(parent, "store")
		s, err := New(Options{Dir: dir, Buckets: []string{testBucket}})
		if err != nil {
			t.Fatal(err)
		}
		appendString(t, s, "log", 0, "hello")
		putString(t, s, "put", "one")
		kill(s)
		name := filepath.Join(dir, filepath.FromSlash(journalName))
		journal, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(records) {
			var rec record
			if json.Unmarshal([]byte(line), &rec) != nil || rec.Object != nil && !placed(&rec) {
				continue
			}
			p, err := encodeRecord(&rec)
			if err != nil {
				continue
			}
			journal = append(journal, p...)
		}
		journal = append(journal, raw...)
		journal = journal[:len(journal)-min(int(cut), len(journal))]
		if err := os.WriteFile(name, journal, 0o600); err != nil {
			t.Fatal(err)
		}
		var before map[string]string
		for range 3 {
			s, err := New(Options{Dir: dir})
			if err != nil {
				if before != nil {
					t.Fatalf("opens once and not again: %v", err)
				}
				break
			}
			got := everything(t, s)
			if before != nil && !maps.Equal(got, before) {
				t.Fatalf("holds %q, then %q", before, got)
			}
			before = got
			kill(s)
		}
		if p, err := os.ReadFile(outside); err != nil || string(p) != "outside" {
			t.Fatalf("outside of the store: %q %v", p, err)
		}
	})
}

// placed says whether an object's file is where the store puts it: its journal is
// its own, and its checksums tell what was damaged.
func placed(rec *record) bool {
	p, _ := place(rec.Bucket, rec.Key)
	return rec.Object.Path == "" || rec.Object.Path == p || rec.Object.Path == escaped(rec.Bucket, rec.Key) || strings.HasPrefix(rec.Object.Path, "../")
}

// everything is what all buckets hold.
func everything(t *testing.T, s *Server) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, b := range s.store.bucketNames() {
		items, _, err := s.store.list(b, "", "", "", 1<<30)
		if err != nil {
			continue
		}
		for _, it := range items {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/"+b+"/"+url.PathEscape(it.key), nil))
			out[b+" "+it.key] = fmt.Sprint(w.Code, " ", w.Header().Get("Content-Length"), " ", w.Body)
		}
	}
	return out
}
