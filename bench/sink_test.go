//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/objectstore"
)

// The sink, as the product's own client sees it.
func TestSinkAnswersAsAStore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := newSink()
	go srv.Serve(l)
	t.Cleanup(func() { srv.Shutdown() })
	c, err := objectstore.New(objectstore.Options{Endpoint: "http://" + l.Addr().String(), Bucket: bucketName, AccessKeyID: accessKey, AccessKeySecret: secretKey, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	at := func(key string, position int64, body string) (object.Appended, error) {
		return c.Append(ctx, key, position, object.Body{[]byte(body)}, nil)
	}
	kindOf := func(err error) object.Kind {
		var e *object.Error
		if !errors.As(err, &e) {
			t.Fatalf("no error of the store: %v", err)
		}
		return e.Kind
	}

	first, err1 := at("a/events/1.000001.ndjson", 0, "12345")
	second, err2 := at("a/events/1.000001.ndjson", 5, "6789")
	if err1 != nil || err2 != nil || first.Next != 5 || second.Next != 9 || second.CRC64 != 11051210869376104954 { // CRC-64/XZ of 123456789
		t.Errorf("appends: %+v %v, %+v %v", first, err1, second, err2)
	}
	_, err = at("a/events/1.000001.ndjson", 5, "again")
	var e *object.Error
	if !errors.As(err, &e) || e.Kind != object.Mismatch || e.Length != 9 {
		t.Errorf("an append at a wrong position: %v", err)
	}
	if info, err := c.Head(ctx, "a/events/1.000001.ndjson"); err != nil || info.Length != 9 || info.CRC64 != second.CRC64 || !info.Appendable {
		t.Errorf("head: %+v %v", info, err)
	}
	if _, err := c.Head(ctx, "a/events/2.000001.ndjson"); kindOf(err) != object.NotFound {
		t.Errorf("head of nothing: %v", err)
	}

	if _, err := at("a/_ossuary/control/S.000001.jsonl", 0, "one\ntwo\n"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		from, to int64
		want     string
	}{{0, -1, "one\ntwo\n"}, {4, -1, "two\n"}, {0, 3, "one"}, {8, -1, ""}} {
		r, err := c.Read(ctx, "a/_ossuary/control/S.000001.jsonl", tt.from, tt.to)
		if err != nil {
			t.Errorf("reading from %d to %d: %v", tt.from, tt.to, err)
			continue
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != tt.want {
			t.Errorf("reading from %d to %d: %q %v", tt.from, tt.to, b, err)
		}
		r.Close()
	}

	const many = 1100 // two pages
	for i := range many {
		if _, err := at(fmt.Sprintf("b/%05d", i), 0, "x"); err != nil {
			t.Fatal(err)
		}
	}
	n, last := 0, ""
	if err := c.List(ctx, "b/", func(e object.Entry) error {
		if e.Key <= last || !strings.HasPrefix(e.Key, "b/") || e.Size != 1 {
			t.Errorf("%+v follows %s", e, last)
		}
		n, last = n+1, e.Key
		return nil
	}); err != nil || n != many {
		t.Errorf("%d of %d objects were listed: %v", n, many, err)
	}
}
