package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"ossuary/internal/object"
)

// Target is a store under test. Put and Delete act as another program would;
// Delete may be nil where the store keeps what it has.
type Target struct {
	Store interface {
		Append(ctx context.Context, key string, position int64, body object.Body, c *object.Create) (object.Appended, error)
		Head(ctx context.Context, key string) (object.Info, error)
		Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error)
		List(ctx context.Context, prefix string, fn func(object.Entry) error) error
	}
	Put    func(ctx context.Context, key string, p []byte) error
	Delete func(ctx context.Context, key string) error
	Prefix string // of all keys that the tests use; nothing else may have it
	Many   int    // objects in the listing test; 0: enough for two pages
}

// Conformance checks what the rest of Ossuary takes for granted of a store. It
// runs against the store in memory, the emulator and, with credentials in the
// environment, the real service.
func Conformance(t *testing.T, tg Target) {
	c := conformance{tg}
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"append", c.appends},
		{"refused appends", c.refused},
		{"known checksum", c.checksum},
		{"nothing", c.nothing},
		{"not appendable", c.unappendable},
		{"deleted", c.deleted},
		{"missing", c.missing},
		{"ranges", c.ranges},
		{"names", c.names},
		{"list", c.list},
		{"big", c.big},
		{"race", c.race},
		{"cancelled", c.cancelled},
	} {
		t.Run(test.name, test.run)
	}
}

type conformance struct{ Target }

func (conformance) wrap(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c conformance) append(t *testing.T, key string, position int64, p []byte) object.Appended {
	t.Helper()
	a, err := c.Store.Append(t.Context(), c.Prefix+key, position, object.Body{p}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (c conformance) read(t *testing.T, key string, from, to int64) []byte {
	t.Helper()
	r, err := c.Store.Read(t.Context(), c.Prefix+key, from, to)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantKind checks what kind of error err is, and returns the length that it says
// the object has.
func wantKind(t *testing.T, err error, kind object.Kind) int64 {
	t.Helper()
	var e *object.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("got %v, want an error of kind %v", err, kind)
	}
	if e.Op == "" {
		t.Errorf("the error does not say what failed: %#v", e)
	}
	return e.Length
}

func (c conformance) appends(t *testing.T) {
	create := &object.Create{ContentType: "application/x-ndjson", ContentEncoding: "gzip", Meta: map[string]string{"archive": "a"}}
	key := c.Prefix + "append"
	// Not gzip at all: the encoding is a label, and nothing may act on it.
	parts := [][]byte{[]byte("first\n"), []byte("second\n"), {0, 1, 2, 0xff}}
	var all []byte
	for _, p := range parts {
		a, err := c.Store.Append(t.Context(), key, int64(len(all)), object.Body{p[:1], nil, p[1:]}, create)
		c.wrap(t, err)
		all = append(all, p...)
		if a.Next != int64(len(all)) || a.CRC64 != object.CRC64(0, all) {
			t.Fatalf("after %d bytes: %+v, want checksum %d", len(all), a, object.CRC64(0, all))
		}
		info, err := c.Store.Head(t.Context(), key)
		c.wrap(t, err)
		if info.Length != a.Next || info.CRC64 != a.CRC64 || !info.Appendable || info.Modified.IsZero() || info.ETag == "" || strings.Contains(info.ETag, `"`) {
			t.Fatalf("head says %+v", info)
		}
	}
	if got := c.read(t, "append", 0, -1); !bytes.Equal(got, all) {
		t.Fatalf("read %q, want %q", got, all)
	}
}

func (c conformance) refused(t *testing.T) {
	const key = "refused"
	length := wantKind(t, second(c.Store.Append(t.Context(), c.Prefix+key, 5, object.Body{[]byte("x")}, nil)), object.Mismatch)
	if length != 0 {
		t.Errorf("no object: length %d", length)
	}
	c.append(t, key, 0, []byte("0123456789"))
	for _, position := range []int64{0, 9, 11, 1 << 40} {
		length := wantKind(t, second(c.Store.Append(t.Context(), c.Prefix+key, position, object.Body{[]byte("x")}, nil)), object.Mismatch)
		if length != 10 {
			t.Errorf("at %d: length %d, want 10", position, length)
		}
	}
	if got := c.read(t, key, 0, -1); string(got) != "0123456789" {
		t.Errorf("object is %q", got)
	}
	wantKind(t, second(c.Store.Append(t.Context(), c.Prefix+key, -1, object.Body{[]byte("x")}, nil)), object.Invalid)
}

func second[T any](_ T, err error) error { return err }

func (c conformance) checksum(t *testing.T) {
	// The check value of CRC-64/XZ.
	if a := c.append(t, "crc", 0, []byte("123456789")); a.CRC64 != 11051210869376104954 {
		t.Fatalf("checksum %d", a.CRC64)
	}
}

func (c conformance) nothing(t *testing.T) {
	c.append(t, "nothing", 0, []byte("abc"))
	a := c.append(t, "nothing", 3, nil)
	if a.Next != 3 || a.CRC64 != object.CRC64(0, []byte("abc")) {
		t.Fatalf("%+v", a)
	}
	wantKind(t, second(c.Store.Append(t.Context(), c.Prefix+"nothing", 2, nil, nil)), object.Mismatch)
}

func (c conformance) unappendable(t *testing.T) {
	const key = "put"
	c.wrap(t, c.Put(t.Context(), c.Prefix+key, []byte("put")))
	info, err := c.Store.Head(t.Context(), c.Prefix+key)
	c.wrap(t, err)
	if info.Appendable || info.Length != 3 {
		t.Fatalf("%+v", info)
	}
	for _, position := range []int64{0, 3} {
		wantKind(t, second(c.Store.Append(t.Context(), c.Prefix+key, position, object.Body{[]byte("x")}, nil)), object.Unappendable)
	}
	// An appendable object that is put over is none any more.
	c.append(t, "over", 0, []byte("abc"))
	c.wrap(t, c.Put(t.Context(), c.Prefix+"over", []byte("xyz")))
	wantKind(t, second(c.Store.Append(t.Context(), c.Prefix+"over", 3, object.Body{[]byte("x")}, nil)), object.Unappendable)
}

func (c conformance) deleted(t *testing.T) {
	if c.Delete == nil {
		t.Skip("nothing can be deleted here")
	}
	const key = "deleted"
	c.append(t, key, 0, []byte("abc"))
	c.wrap(t, c.Delete(t.Context(), c.Prefix+key))
	wantKind(t, second(c.Store.Head(t.Context(), c.Prefix+key)), object.NotFound)
	length := wantKind(t, second(c.Store.Append(t.Context(), c.Prefix+key, 3, object.Body{[]byte("x")}, nil)), object.Mismatch)
	if length != 0 {
		t.Errorf("length %d", length)
	}
	if a := c.append(t, key, 0, []byte("new")); a.Next != 3 || a.CRC64 != object.CRC64(0, []byte("new")) {
		t.Errorf("%+v", a)
	}
}

func (c conformance) missing(t *testing.T) {
	wantKind(t, second(c.Store.Head(t.Context(), c.Prefix+"missing")), object.NotFound)
	wantKind(t, second(c.Store.Read(t.Context(), c.Prefix+"missing", 0, -1)), object.NotFound)
	wantKind(t, second(c.Store.Read(t.Context(), c.Prefix+"missing", 5, 10)), object.NotFound)
}

func (c conformance) ranges(t *testing.T) {
	const key, data = "ranges", "0123456789"
	c.append(t, key, 0, []byte(data))
	for _, r := range []struct {
		from, to int64
		want     string
	}{
		{0, -1, data}, {0, 10, data}, {0, 1, "0"}, {3, 7, "3456"}, {9, 10, "9"}, {5, -1, "56789"},
		{5, 100, "56789"}, {0, 100, data}, {10, -1, ""}, {10, 20, ""}, {4, 4, ""},
	} {
		if got := c.read(t, key, r.from, r.to); string(got) != r.want {
			t.Errorf("[%d,%d) is %q, want %q", r.from, r.to, got, r.want)
		}
	}
	length := wantKind(t, second(c.Store.Read(t.Context(), c.Prefix+key, 11, -1)), object.Mismatch)
	if length != 10 {
		t.Errorf("past the end: length %d", length)
	}
	wantKind(t, second(c.Store.Read(t.Context(), c.Prefix+key, 5, 4)), object.Invalid)

	c.append(t, "empty", 0, nil)
	if got := c.read(t, "empty", 0, -1); len(got) != 0 {
		t.Errorf("an empty object has %q", got)
	}
	if got := c.read(t, "empty", 0, 10); len(got) != 0 {
		t.Errorf("an empty object has %q", got)
	}
	c.append(t, "empty", 0, []byte("filled"))
}

// names are keys that something on the way could trip over.
var names = []string{
	"plain", "a/b/c.000001.ndjson.gz", "space here", "plus+and%percent", "ümläut/日本", "q?a=b&c", "hash#tag", "quote'\"", "tilde~*()!$,;:@=",
	"dot/./dot", "dots/../dots", "double//slash", "trailing/", "both", "both/below", "back\\slash", strings.Repeat("long", 100),
}

func (c conformance) names(t *testing.T) {
	for _, name := range names {
		key := "names/" + name
		c.append(t, key, 0, []byte(name))
		c.append(t, key, int64(len(name)), []byte("!"))
	}
	for _, name := range names {
		if got := c.read(t, "names/"+name, 0, -1); string(got) != name+"!" {
			t.Errorf("%q holds %q", name, got)
		}
	}
	var got []string
	c.wrap(t, c.Store.List(t.Context(), c.Prefix+"names/", func(e object.Entry) error {
		got = append(got, strings.TrimPrefix(e.Key, c.Prefix+"names/"))
		return nil
	}))
	if want := slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
		t.Errorf("listed %q\nwant   %q", got, want)
	}
	for _, key := range []string{"", strings.Repeat("x", 1024)} {
		wantKind(t, second(c.Store.Append(t.Context(), key, 0, object.Body{[]byte("x")}, nil)), object.Invalid)
	}
}

func (c conformance) list(t *testing.T) {
	many := c.Many
	if many == 0 {
		many = 1050
	}
	var want []string
	for i := range many {
		want = append(want, fmt.Sprintf("%slist/%05d", c.Prefix, i))
	}
	var wg sync.WaitGroup
	keys := make(chan string)
	for range 8 {
		wg.Go(func() {
			for key := range keys {
				if _, err := c.Store.Append(t.Context(), key, 0, object.Body{[]byte("xy")}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, key := range want {
		keys <- key
	}
	close(keys)
	wg.Wait()
	var got []string
	c.wrap(t, c.Store.List(t.Context(), c.Prefix+"list/", func(e object.Entry) error {
		if e.Size != 2 || e.Modified.IsZero() {
			t.Errorf("%+v", e)
		}
		got = append(got, e.Key)
		return nil
	}))
	if !slices.Equal(got, want) {
		t.Errorf("listed %d keys, want %d", len(got), len(want))
	}
	stop := errors.New("stop")
	n := 0
	if err := c.Store.List(t.Context(), c.Prefix+"list/", func(object.Entry) error { n++; return stop }); err != stop || n != 1 { //nolint:errorlint // it comes back as it is
		t.Errorf("stopped with %v after %d", err, n)
	}
	c.wrap(t, c.Store.List(t.Context(), c.Prefix+"no such prefix", func(e object.Entry) error {
		t.Errorf("listed %+v", e)
		return nil
	}))
}

func (c conformance) big(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var all []byte
	for range 3 {
		p := make([]byte, 3<<20+random.IntN(1000))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		a := c.append(t, "big", int64(len(all)), p)
		all = append(all, p...)
		if a.Next != int64(len(all)) || a.CRC64 != object.CRC64(0, all) {
			t.Fatalf("%+v", a)
		}
	}
	if !bytes.Equal(c.read(t, "big", 0, -1), all) {
		t.Error("not what was written")
	}
	if !bytes.Equal(c.read(t, "big", 3<<20, 4<<20), all[3<<20:4<<20]) {
		t.Error("the range is not what was written")
	}
}

// race: of all that append at one position exactly one wins, and the object is
// what the winners wrote.
func (c conformance) race(t *testing.T) {
	const writers, rounds = 12, 15
	var want []byte
	for range rounds {
		var mu sync.Mutex
		var wg sync.WaitGroup
		won := 0
		position := int64(len(want))
		for i := range writers {
			wg.Go(func() {
				p := bytes.Repeat([]byte{byte('a' + i)}, 10+i)
				a, err := c.Store.Append(t.Context(), c.Prefix+"race", position, object.Body{p}, nil)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if object.KindOf(err) != object.Mismatch {
						t.Error(err)
					}
					return
				}
				won++
				want = append(want, p...)
				if a.Next != int64(len(want)) || a.CRC64 != object.CRC64(0, want) {
					t.Errorf("%+v", a)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("%d writers won", won)
		}
	}
	if got := c.read(t, "race", 0, -1); !bytes.Equal(got, want) {
		t.Error("the object is not what the winners wrote")
	}
}

func (c conformance) cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := second(c.Store.Append(ctx, c.Prefix+"cancelled", 0, object.Body{[]byte("x")}, nil))
	wantKind(t, err, object.InDoubt)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not say that it was cancelled", err)
	}
	wantKind(t, second(c.Store.Head(ctx, c.Prefix+"cancelled")), object.InDoubt)
	wantKind(t, second(c.Store.Read(ctx, c.Prefix+"cancelled", 0, -1)), object.InDoubt)
	wantKind(t, c.Store.List(ctx, c.Prefix, func(object.Entry) error { return nil }), object.InDoubt)
}
