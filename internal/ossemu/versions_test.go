package ossemu

import (
	"errors"
	"flag"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// modelVersion is what the test believes a version to be.
type modelVersion struct {
	id         string
	bytes      string
	appendable bool
	marker     bool
}

// versionMachine does to a store, and to a model of it, what clients do to
// versioned buckets, with kills between and within.
type versionMachine struct {
	dir        string
	s          *Server
	versioning string
	keys       map[string][]modelVersion // the newest first
}

// The names lie in each other's way as files.
var machineKeys = []string{"a", "a/b", "a/b/c", "../x", "k"}

func (m *versionMachine) open(t *rapid.T) {
	s, err := New(Options{Dir: m.dir, Buckets: []string{testBucket}})
	if err != nil {
		t.Fatal(err)
	}
	m.s = s
}

func (m *versionMachine) push(key string, v modelVersion) {
	versions := m.keys[key]
	if v.id == nullVersion {
		versions = slices.DeleteFunc(slices.Clone(versions), func(v modelVersion) bool { return v.id == nullVersion })
	}
	m.keys[key] = append([]modelVersion{v}, versions...)
}

func (m *versionMachine) current(key string) (modelVersion, bool) {
	if v := m.keys[key]; len(v) > 0 && !v[0].marker {
		return v[0], true
	}
	return modelVersion{}, false
}

func versionID(st state) string { return st.version() }

func (m *versionMachine) append(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	text := rapid.StringN(1, 8, 20).Draw(t, "bytes")
	cur, there := m.current(key)
	at := int64(len(cur.bytes))
	if rapid.IntRange(0, 4).Draw(t, "wrong") == 0 {
		at++
	}
	st, err := m.s.store.append(testBucket, key, at, &body{mem: []byte(text), n: int64(len(text))}, attributes{})
	var api *apiError
	switch {
	case there && !cur.appendable:
		if !errors.As(err, &api) || api.Code != "ObjectNotAppendable" {
			t.Fatalf("append to a put: %v", err)
		}
	case at != int64(len(cur.bytes)):
		if !errors.As(err, &api) || api.Code != "PositionNotEqualToLength" {
			t.Fatalf("append at %d of %d: %v", at, len(cur.bytes), err)
		}
	case err != nil:
		t.Fatal(err)
	case there:
		if versionID(st) != cur.id {
			t.Fatalf("an append made version %s of %s", versionID(st), cur.id)
		}
		m.keys[key][0].bytes += text
	default:
		m.push(key, modelVersion{id: versionID(st), bytes: text, appendable: true})
	}
}

func (m *versionMachine) put(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	text := rapid.StringN(0, 8, 20).Draw(t, "bytes")
	b, err := readBody(m.s.store.files, strings.NewReader(text), 0, 1<<20, true, true)
	if err != nil {
		t.Fatal(err)
	}
	st, err := m.s.store.put(testBucket, key, b, state{}, false)
	if err != nil {
		t.Fatal(err)
	}
	m.push(key, modelVersion{id: versionID(st), bytes: text})
}

func (m *versionMachine) remove(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	gone, err := m.s.store.remove(testBucket, key, "")
	switch {
	case err != nil:
		t.Fatal(err)
	case m.versioning == "":
		delete(m.keys, key)
	default:
		m.push(key, modelVersion{id: gone.version, marker: true})
	}
}

func (m *versionMachine) removeVersion(t *rapid.T) {
	key := rapid.SampledFrom(machineKeys).Draw(t, "key")
	id := nullVersion
	if n := len(m.keys[key]); n > 0 {
		id = m.keys[key][rapid.IntRange(0, n-1).Draw(t, "n")].id
	}
	if _, err := m.s.store.remove(testBucket, key, id); err != nil {
		t.Fatal(err)
	}
	m.keys[key] = slices.DeleteFunc(slices.Clone(m.keys[key]), func(v modelVersion) bool { return v.id == id })
}

func (m *versionMachine) setVersioning(t *rapid.T) {
	m.versioning = rapid.SampledFrom([]string{versioningEnabled, versioningSuspended}).Draw(t, "versioning")
	if err := m.s.store.changeBucket(testBucket, func(b *bucketState) error { b.Versioning = m.versioning; return nil }); err != nil {
		t.Fatal(err)
	}
}

func (m *versionMachine) reopen(t *rapid.T) {
	switch rapid.IntRange(0, 2).Draw(t, "end") {
	case 0:
		if err := m.s.Close(); err != nil {
			t.Fatal(err)
		}
	case 1:
		// The last append stood on the disk and was not committed.
		for _, e := range m.s.store.buckets[testBucket].entries {
			if e.Exists && e.Appendable {
				if err := m.s.store.files.write(e.Path, e.Length, &body{mem: []byte("torn"), n: 4}); err != nil {
					t.Fatal(err)
				}
			}
		}
		kill(m.s)
	case 2:
		if err := m.s.store.journal.compact(); err != nil {
			t.Fatal(err)
		}
		kill(m.s)
	}
	m.open(t)
}

func (m *versionMachine) check(t *rapid.T) {
	items, _, err := m.s.store.listVersions(testBucket, "", "", "", "", 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, v := range items {
		got[v.key] = append(got[v.key], v.version())
	}
	for key, versions := range m.keys {
		var ids []string
		for i, v := range versions {
			ids = append(ids, v.id)
			st, f, err := m.s.store.look(testBucket, key, v.id, true)
			if v.marker {
				var api *apiError
				if !errors.As(err, &api) || api.Status != 405 {
					t.Fatalf("%s %s: %v", key, v.id, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s %s: %v", key, v.id, err)
			}
			p, err := io.ReadAll(io.LimitReader(f, st.Length))
			f.Close()
			if err != nil || string(p) != v.bytes || st.CRC != crc64.Checksum(p, ecma) || st.Appendable != v.appendable {
				t.Fatalf("%s, version %d %s: holds %q, want %q; %+v, %v", key, i, v.id, p, v.bytes, st, err)
			}
		}
		if !slices.Equal(ids, got[key]) {
			t.Fatalf("%s: listed %q, want %q", key, got[key], ids)
		}
		st, _, err := m.s.store.look(testBucket, key, "", false)
		if cur, there := m.current(key); there != (err == nil) || there && versionID(st) != cur.id {
			t.Fatalf("%s: %+v, %v, want %+v", key, st, err, cur)
		}
	}
	listed, _, err := m.s.store.list(testBucket, "", "", "", 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var want, have []string
	for _, key := range machineKeys {
		if _, there := m.current(key); there {
			want = append(want, key)
		}
	}
	for _, it := range listed {
		have = append(have, it.key)
	}
	slices.Sort(want)
	if !slices.Equal(want, have) {
		t.Fatalf("listed %q, want %q", have, want)
	}
}

// Whatever is done to a bucket, versioned or not or no more, and wherever the
// server is killed, each version is there once with all of its bytes.
func TestVersionsAreKept(t *testing.T) {
	// Not beside tests that start processes: between fork and exec those hold the
	// lock of a directory that is opened again here.
	//
	// A default run takes little; -rapid.checks=1000 takes minutes.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("12")
		defer func() { _ = f.Value.Set(f.DefValue) }()
	}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "ossemu")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &versionMachine{dir: dir, keys: map[string][]modelVersion{}}
		m.open(t)
		defer func() { m.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append, "put": m.put, "remove": m.remove, "remove version": m.removeVersion,
			"versioning": m.setVersioning, "reopen": m.reopen, "": m.check,
		})
		m.reopen(t)
		m.check(t)
		m.swept(t)
	})
}

// swept checks that no file is left but those of versions.
func (m *versionMachine) swept(t *rapid.T) {
	n := 0
	for _, versions := range m.keys {
		for _, v := range versions {
			if !v.marker {
				n++
			}
		}
	}
	files := 0
	for _, dir := range []string{testBucket, versionsDir, escapedDir} {
		err := fsWalk(m.dir+"/"+dir, func() { files++ })
		if err != nil {
			t.Fatal(err)
		}
	}
	if files != n {
		t.Fatalf("%d files for %d versions", files, n)
	}
}

func fsWalk(dir string, each func()) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !e.IsDir() {
			each()
		} else if err == nil {
			err = fsWalk(dir+"/"+e.Name(), each)
		}
	}
	return err
}

// What clients see of a versioned bucket.
func TestVersionedBucket(t *testing.T) {
	s := openTest(t, t.TempDir())
	do := func(call, body string, status int, want string, header ...string) string {
		t.Helper()
		method, target, _ := strings.Cut(call, " ")
		w := send(s, method, "h", target, body, header...)
		if w.Code != status || !strings.Contains(w.Body.String()+fmt.Sprint(w.Header()), want) {
			t.Fatalf("%s: %d %v %s", call, w.Code, w.Header(), w.Body)
		}
		return w.Header().Get("X-Oss-Version-Id")
	}
	if v := do("POST /bucket/old?append&position=0", "before", 200, ""); v != "" {
		t.Errorf("a version %q without versioning", v)
	}
	do("PUT /bucket/?versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>", 200, "")
	do("GET /bucket/?versioning", "", 200, "<Status>Enabled</Status>")
	if v := do("HEAD /bucket/old", "", 200, ""); v != nullVersion {
		t.Errorf("version %q of what was there before", v)
	}
	one := do("POST /bucket/k?append&position=0", "123", 200, "")
	if again := do("POST /bucket/k?append&position=3", "456", 200, ""); again != one || one == "" || one == nullVersion {
		t.Fatalf("versions %q, %q", one, again)
	}
	marker := do("DELETE /bucket/k", "", 204, "X-Oss-Delete-Marker:[true]")
	do("GET /bucket/k", "", 404, "X-Oss-Delete-Marker:[true]")
	do("GET /bucket/k?versionId="+marker, "", 405, "MethodNotAllowed")
	do("GET /bucket/k?versionId="+one, "", 200, "123456")
	do("GET /bucket/k?versionId=none", "", 404, "NoSuchVersion")
	do("POST /bucket/k?append&position=6", "x", 409, "PositionNotEqualToLength")
	two := do("POST /bucket/k?append&position=0", "789", 200, "")
	if two == one {
		t.Errorf("an append over a delete marker went to version %q", one)
	}
	do("DELETE /bucket/k?versionId="+marker, "", 204, "X-Oss-Delete-Marker:[true]")
	do("POST /bucket/k?append&position=3", "0", 200, "X-Oss-Next-Append-Position:[4]")
	put := do("PUT /bucket/k", "put", 200, "")
	do("POST /bucket/k?append&position=3", "x", 409, "ObjectNotAppendable")
	do("GET /bucket/?versions&prefix=k", "", 200, "<VersionId>"+put)
	do("GET /bucket/?versions&max-keys=1&key-marker=k&version-id-marker="+put, "", 200, "<NextVersionIdMarker>"+two)
	do("PUT /bucket/k?acl&versionId="+one, "", 200, one, "X-Oss-Object-Acl", "public-read")
	do("GET /bucket/k?acl&versionId="+one, "", 200, "public-read")
	do("POST /bucket/?delete", "<Delete><Object><Key>k</Key></Object><Object><Key>old</Key><VersionId>null</VersionId></Object></Delete>", 200, "<DeleteMarkerVersionId>")
	do("GET /bucket/old?versionId=null", "", 404, "NoSuchVersion")
	do("DELETE /bucket", "", 409, "BucketNotEmpty")

	// The other side of the documents.
	s.store.opt.Variants.NoAppendOverMarker = true
	do("POST /bucket/k?append&position=0", "x", 409, "ObjectNotAppendable")
}
