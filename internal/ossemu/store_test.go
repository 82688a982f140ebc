package ossemu

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const testBucket = "bucket"

func openTest(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := New(Options{Dir: dir, Buckets: []string{testBucket}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func appendString(t *testing.T, s *Server, key string, position int64, p string) {
	t.Helper()
	if _, err := s.store.append(testBucket, key, position, &body{mem: []byte(p), n: int64(len(p))}, attributes{}); err != nil {
		t.Fatal(err)
	}
}

func putString(t *testing.T, s *Server, key, p string) {
	t.Helper()
	b, err := readBody(s.store.files, strings.NewReader(p), int64(len(p)), 1<<20, true, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.put(testBucket, key, b, state{}, false); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) removed(key string) error {
	_, err := s.store.remove(testBucket, key, "")
	return err
}

// contents returns all objects, after checking length and checksum of each.
func contents(t *testing.T, s *Server) map[string]string {
	t.Helper()
	items, _, err := s.store.list(testBucket, "", "", "", 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, it := range items {
		st, f, err := s.store.look(testBucket, it.key, "", true)
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(io.LimitReader(f, st.Length))
		f.Close()
		if err != nil || int64(len(p)) != st.Length || crc64.Checksum(p, ecma) != st.CRC || it.Length != st.Length {
			t.Errorf("%s: %+v, holds %q, %v", it.key, st, p, err)
		}
		out[it.key] = string(p)
	}
	return out
}

func wantContents(t *testing.T, s *Server, want map[string]string) {
	t.Helper()
	if got := contents(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// kill ends the server as a kill would: nothing more is written.
func kill(s *Server) {
	s.store.journal.mu.Lock()
	s.store.journal.broken = errClosed
	s.store.journal.file.Close()
	s.store.journal.mu.Unlock()
	s.store.lock.Close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

func TestReopen(t *testing.T) {
	for _, end := range []string{"close", "kill"} {
		t.Run(end, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, dir)
			want := map[string]string{}
			for _, key := range []string{"a/b", "a", "a/b/c", "x/../y", "./z", "d//e", "end/", strings.Repeat("n", 300)} {
				appendString(t, s, key, 0, key)
				appendString(t, s, key, int64(len(key)), "+")
				want[key] = key + "+"
			}
			putString(t, s, "put", "one")
			putString(t, s, "put", "two")
			putString(t, s, "a", "over")
			putString(t, s, "gone", "x")
			appendString(t, s, "gone2/below", 0, "x")
			want["put"], want["a"] = "two", "over"
			for _, key := range []string{"gone", "gone2/below", "never"} {
				if err := s.removed(key); err != nil {
					t.Fatal(err)
				}
			}
			wantContents(t, s, want)
			if _, err := New(Options{Dir: dir}); err == nil {
				t.Error("two servers use one directory")
			}
			if end == "kill" {
				kill(s)
			} else if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, dir)
			wantContents(t, s, want)
			appendString(t, s, "a/b", 4, "more")
			if st, _, err := s.store.look(testBucket, "put", "", false); err != nil || st.Appendable {
				t.Errorf("%+v, %v", st, err)
			}
			if _, err := os.Stat(filepath.Join(dir, testBucket, "gone2")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("an empty directory is left: %v", err)
			}
			if p, err := os.ReadFile(filepath.Join(dir, testBucket, "a", "b")); err == nil && string(p) != "a/b+more" {
				t.Errorf("file holds %q", p)
			}
		})
	}
}

// Whatever part of the journal a kill leaves, the store opens with a state that
// it once had.
func TestTornJournal(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	appendString(t, s, "k", 0, "one")
	kill(s)
	s = openTest(t, dir)
	appendString(t, s, "k", 3, "two")
	putString(t, s, "p", "put")
	if err := s.removed("p"); err != nil {
		t.Fatal(err)
	}
	appendString(t, s, "new", 0, "new")
	kill(s)
	journal := filepath.Join(dir, journalName)
	whole, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(whole); n > 0; n-- {
		// Every seventh byte, and every one around the end of a record.
		if n%7 != 0 && !bytes.Contains(whole[max(0, n-2):min(len(whole), n+2)], []byte("\n")) {
			continue
		}
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, journalName), whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := New(Options{Dir: copied})
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if _, ok := s.store.bucketState(testBucket); !ok {
			t.Fatalf("cut at %d: the bucket is gone", n)
		}
		got := contents(t, s)
		// Without the record of its creation, a file is one laid there by hand.
		if k := got["k"]; k != "one" && k != "onetwo" {
			t.Errorf("cut at %d: k is %q", n, k)
		}
		if v, ok := got["new"]; ok && v != "new" {
			t.Errorf("cut at %d: new is %q", n, v)
		}
		s.Close()
	}
	// Damage that is not at the end is not passed over.
	whole[20] ^= 1
	if err := os.WriteFile(journal, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "damaged at byte 0") {
		t.Errorf("a damaged journal: %v", err)
	}
	// And without the journal the files are taken as they are.
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	wantContents(t, openTest(t, dir), map[string]string{"k": "onetwo", "new": "new"})
}

// A put that was committed but whose file had not been moved is finished.
func TestUnfinished(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	putString(t, s, "p", "old")
	appendString(t, s, "removed", 0, "x")
	b := s.store.buckets[testBucket]
	put, err := readBody(s.store.files, strings.NewReader("newer"), 5, 100, true, true)
	if err != nil {
		t.Fatal(err)
	}
	e := b.entries["p"]
	st := e.state
	st.Length, st.CRC, st.Pending = 5, crc64.Checksum([]byte("newer"), ecma), "install:"+put.tmp
	if err := s.store.commit(b, "p", e, st); err != nil {
		t.Fatal(err)
	}
	e = b.entries["removed"]
	if err := s.store.commit(b, "removed", e, state{Path: e.Path, Pending: "remove"}); err != nil {
		t.Fatal(err)
	}
	e = s.store.entry(b, "created")
	if _, err := s.store.create(b, "created", e); err != nil {
		t.Fatal(err)
	}
	// A compaction of the running journal loses none of it.
	if err := s.store.journal.compact(); err != nil {
		t.Fatal(err)
	}
	kill(s)
	s = openTest(t, dir)
	wantContents(t, s, map[string]string{"p": "newer"})
	left, err := os.ReadDir(filepath.Join(dir, tmpDir))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// brokenDisk writes half of what it should, and changes nothing else.
type brokenDisk struct{ *diskFiles }

var errDisk = errors.New("disk error (planted)")

func (d brokenDisk) write(p string, at int64, b *body) error {
	return errors.Join(errDisk, d.diskFiles.write(p, at, &body{mem: b.mem[:len(b.mem)/2]}))
}
func (brokenDisk) truncate(string, int64) error { return errDisk }
func (brokenDisk) install(string, *body) error  { return errDisk }
func (brokenDisk) remove(string) error          { return errDisk }

// Half an append is never seen, nor what a deletion has left, even if it cannot
// be cleared away at once.
func TestBrokenDisk(t *testing.T) {
	for _, again := range []string{"works again", "reopened", "killed"} {
		t.Run(again, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, dir)
			disk := s.store.files.(*diskFiles)
			appendString(t, s, "whole", 0, "whole")
			appendString(t, s, "removed", 0, "x")
			putString(t, s, "put", "old and longer")

			s.store.files = brokenDisk{disk}
			two := &body{mem: []byte("two"), n: 3}
			failed := func(_ state, err error) {
				t.Helper()
				if !errors.Is(err, errDisk) {
					t.Fatalf("got %v", err)
				}
			}
			for range 2 {
				failed(s.store.append(testBucket, "whole", 5, two, attributes{}))
				failed(s.store.append(testBucket, "new", 0, two, attributes{}))
				failed(state{}, s.removed("removed"))
			}
			for _, key := range []string{"put", "new put"} {
				b, err := readBody(disk, strings.NewReader(key), 0, 1<<20, true, true)
				if err != nil {
					t.Fatal(err)
				}
				failed(s.store.put(testBucket, key, b, state{}, false))
				b.drop(disk)
			}
			for _, key := range []string{"whole", "new", "removed", "put", "new put"} {
				st, _, err := s.store.look(testBucket, key, "", false)
				failed(st, err)
			}

			s.store.files = disk
			switch again {
			case "reopened":
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = openTest(t, dir)
			case "killed":
				kill(s)
				s = openTest(t, dir)
			}
			wantContents(t, s, map[string]string{"whole": "whole", "put": "put", "new put": "new put"})
			appendString(t, s, "whole", 5, "!")
			appendString(t, s, "new", 0, "new")
			appendString(t, s, "removed", 0, "back")
			wantContents(t, s, map[string]string{"whole": "whole!", "put": "put", "new put": "new put", "new": "new", "removed": "back"})
		})
	}
}

// What is done to files by hand.
func TestByHand(t *testing.T) {
	dir := t.TempDir()
	file := func(key string) string { return filepath.Join(dir, testBucket, key) }
	write := func(key, p string, flag int) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file(key)), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(file(key), os.O_WRONLY|os.O_CREATE|flag, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(p); err != nil {
			t.Fatal(err)
		}
	}
	s := openTest(t, dir)
	for _, key := range []string{"keep", "rm", "more", "less"} {
		appendString(t, s, key, 0, "0123456789")
	}
	os.Remove(file("rm"))
	write("more", "foreign", os.O_APPEND)
	write("less", "abc", os.O_TRUNC)
	want := map[string]string{"keep": "0123456789", "more": "0123456789foreign", "less": "abc"}
	wantContents(t, s, want)
	for key, length := range map[string]int64{"rm": 0, "more": 17, "less": 3} {
		_, err := s.store.append(testBucket, key, 10, &body{mem: []byte("x"), n: 1}, attributes{})
		var e *apiError
		if !errors.As(err, &e) || e.Header["X-Oss-Next-Append-Position"] != fmt.Sprint(length) {
			t.Errorf("%s: %v", key, err)
		}
	}
	appendString(t, s, "rm", 0, "again")
	want["rm"] = "again"
	// A new file is an object once its key is asked for, and is not written over.
	write("dir/laid", "laid", 0)
	if st, _, err := s.store.look(testBucket, "dir/laid", "", false); err != nil || st.Length != 4 || !st.Appendable {
		t.Errorf("%+v, %v", st, err)
	}
	write("laid2", "laid", 0)
	if _, err := s.store.append(testBucket, "laid2", 0, &body{mem: []byte("x"), n: 1}, attributes{}); err == nil {
		t.Error("a foreign file was written over")
	}
	want["dir/laid"], want["laid2"] = "laid", "laid"
	wantContents(t, s, want)

	// While it was stopped cleanly, every difference was made by hand.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	write("more", "!", os.O_APPEND)
	write("laid3", "laid", 0)
	os.Remove(file("keep"))
	want["more"], want["laid3"] = "0123456789foreign!", "laid"
	delete(want, "keep")
	s = openTest(t, dir)
	wantContents(t, s, want)

	// After a kill, bytes behind the committed length are a torn append.
	appendString(t, s, "torn", 0, "whole")
	kill(s)
	write("torn", "torn", os.O_APPEND)
	want["torn"] = "whole"
	wantContents(t, openTest(t, dir), want)
}

func TestSymlinksDoNotLeadOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	s := openTest(t, dir)
	if err := os.Symlink(outside, filepath.Join(dir, testBucket, "out")); err != nil {
		t.Skip(err) // not every system lets everybody make symbolic links
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.store.look(testBucket, "out/secret", "", true); err == nil {
		t.Error("read outside of the directory")
	}
	s.store.append(testBucket, "out/new", 0, &body{mem: []byte("x"), n: 1}, attributes{})
	if left, _ := os.ReadDir(outside); len(left) != 1 {
		t.Errorf("wrote outside of the directory: %v", left)
	}
}

// The journal may be compacted at any time.
func TestCompactUnderLoad(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	want := map[string]string{}
	var wg sync.WaitGroup
	for i := range 4 {
		key := fmt.Sprint("k", i)
		var all strings.Builder
		for n := range 100 {
			fmt.Fprintln(&all, n)
		}
		want[key] = all.String()
		wg.Go(func() {
			position := int64(0)
			for n := range 100 {
				line := fmt.Sprintln(n)
				if _, err := s.store.append(testBucket, key, position, &body{mem: []byte(line), n: int64(len(line))}, attributes{}); err != nil {
					t.Error(err)
				}
				position += int64(len(line))
				putString(t, s, "p"+key, line)
				if n%2 == 0 {
					s.removed("p" + key)
				}
			}
		})
		want["p"+key] = "99\n"
	}
	wg.Go(func() {
		for range 50 {
			s.store.journal.mu.Lock()
			if err := s.store.journal.compact(); err != nil {
				t.Error(err)
			}
			s.store.journal.mu.Unlock()
		}
	})
	wg.Wait()
	kill(s)
	wantContents(t, openTest(t, dir), want)
}

func TestListPages(t *testing.T) {
	s := openTest(t, "")
	keys := []string{"a", "a-b", "a/1", "a/2", "a/b/3", "b", "b/", "b/x", "c\U0010FFFFd", "日本/語", "日本/\U0010FFFF語"}
	for _, key := range keys {
		appendString(t, s, key, 0, "x")
	}
	for _, tc := range []struct {
		prefix, delimiter string
		want              []string
	}{
		{"", "", keys},
		{"a", "", keys[:5]},
		{"a/", "", keys[2:5]},
		{"", "/", []string{"a", "a-b", "a/", "b", "b/", "c\U0010FFFFd", "日本/"}},
		{"a/", "/", []string{"a/1", "a/2", "a/b/"}},
		{"b/", "/", []string{"b/", "b/x"}},
		{"zzz", "", nil},
	} {
		for limit := 1; limit < 12; limit++ {
			var got []string
			after := ""
			for range 20 {
				items, more, err := s.store.list(testBucket, tc.prefix, tc.delimiter, after, limit)
				if err != nil || len(items) > limit {
					t.Fatal(items, err)
				}
				for _, it := range items {
					got = append(got, it.key)
				}
				if !more {
					break
				}
				after = items[len(items)-1].key
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%q %q by %d: %q, want %q", tc.prefix, tc.delimiter, limit, got, tc.want)
			}
		}
	}
}

// A change whose record cannot be written did not happen.
func TestBrokenJournal(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	appendString(t, s, "k", 0, "one")
	s.store.journal.mu.Lock()
	good := s.store.journal.file
	readOnly, err := os.Open(filepath.Join(dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	s.store.journal.file = readOnly
	s.store.journal.mu.Unlock()
	if _, err := s.store.append(testBucket, "k", 3, &body{mem: []byte("two"), n: 3}, attributes{}); err == nil {
		t.Fatal("an append was confirmed without its record")
	}
	s.store.journal.mu.Lock()
	s.store.journal.file = good
	s.store.journal.mu.Unlock()
	wantContents(t, s, map[string]string{"k": "one"})
	kill(s)
	wantContents(t, openTest(t, dir), map[string]string{"k": "one"})
}

// A record in which a byte has changed is none, though it be JSON still.
func TestDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	appendString(t, s, "k", 0, "one")
	kill(s)
	journal := filepath.Join(dir, journalName)
	p, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(p, '\n') + 1
	changed := bytes.Replace(p[first:], []byte(`"bucket"`), []byte(`"bucker"`), 1)
	if bytes.Equal(changed, p[first:]) {
		t.Fatalf("the journal has no bucket: %s", p)
	}
	if err := os.WriteFile(journal, append(p[:first:first], changed...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "damaged at byte") {
		t.Errorf("it opens with %v", err)
	}
}
