package objectstore

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ossuary/internal/object"
	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

// Every way in which an append can fail on the wire: what the caller is told,
// and what became of the object.
func TestAppendFaults(t *testing.T) {
	for _, tc := range []struct {
		name    string
		rule    ossemu.Rule
		kind    object.Kind
		status  int
		applied bool
		retry   time.Duration
		hint    string
	}{
		{name: "500 before", rule: ossemu.Rule{Action: "error"}, kind: object.InDoubt, status: 500},
		{name: "500 after", rule: ossemu.Rule{Action: "error", When: "after"}, kind: object.InDoubt, status: 500, applied: true},
		{name: "cut before", rule: ossemu.Rule{Action: "cut"}, kind: object.InDoubt},
		{name: "cut after", rule: ossemu.Rule{Action: "cut", When: "after"}, kind: object.InDoubt, applied: true},
		{name: "too slow", rule: ossemu.Rule{Action: "delay", When: "after", Delay: ossemu.Duration(30 * time.Second)}, kind: object.InDoubt, applied: true},
		{name: "throttled", rule: ossemu.Rule{Action: "error", Status: 503, Code: "TotalQpsLimitExceeded", Headers: map[string]string{"X-Oss-Qos-Delay-Time": "250"}}, kind: object.Throttled, status: 503, retry: 250 * time.Millisecond},
		{name: "unavailable with delay", rule: ossemu.Rule{Action: "error", Status: 503, Code: "ServiceUnavailable", Headers: map[string]string{"X-Oss-Qos-Delay-Time": "20"}}, kind: object.Throttled, status: 503, retry: 20 * time.Millisecond},
		{name: "too many requests", rule: ossemu.Rule{Action: "error", Status: 429, Code: "SlowDown", Headers: map[string]string{"Retry-After": "2"}}, kind: object.Throttled, status: 429, retry: 2 * time.Second},
		{name: "too many requests, no delay", rule: ossemu.Rule{Action: "error", Status: 429, Code: "Whatever"}, kind: object.Throttled, status: 429},
		{name: "throttled for an hour", rule: ossemu.Rule{Action: "error", Status: 503, Code: "ActiveRequestLimitExceeded", Headers: map[string]string{"X-Oss-Qos-Delay-Time": "3600000"}}, kind: object.Throttled, status: 503, retry: time.Minute},
		{name: "redirect", rule: ossemu.Rule{Action: "headers", Status: 301, Headers: map[string]string{"Location": "/elsewhere"}}, kind: object.Refused, status: 301, hint: "redirect"},
		{name: "redirect 302", rule: ossemu.Rule{Action: "headers", Status: 302, Headers: map[string]string{"Location": "/elsewhere"}}, kind: object.Refused, status: 302},
		{name: "redirect 308", rule: ossemu.Rule{Action: "headers", Status: 308, Headers: map[string]string{"Location": "/elsewhere"}}, kind: object.Refused, status: 308},
		{name: "a bare 200", rule: ossemu.Rule{Action: "headers"}, kind: object.InDoubt, status: 200},
		{name: "204", rule: ossemu.Rule{Action: "headers", When: "after", Status: 204}, kind: object.InDoubt, status: 204, applied: true},
		{name: "no next position", rule: ossemu.Rule{Action: "headers", When: "after", Headers: map[string]string{"X-Oss-Next-Append-Position": ""}}, kind: object.InDoubt, status: 200, applied: true},
		{name: "garbled next position", rule: ossemu.Rule{Action: "headers", When: "after", Headers: map[string]string{"X-Oss-Next-Append-Position": "1x"}}, kind: object.InDoubt, status: 200, applied: true},
		{name: "no checksum", rule: ossemu.Rule{Action: "headers", When: "after", Headers: map[string]string{"X-Oss-Hash-Crc64ecma": ""}}, kind: object.InDoubt, status: 200, applied: true},
		{name: "garbled checksum", rule: ossemu.Rule{Action: "headers", When: "after", Headers: map[string]string{"X-Oss-Hash-Crc64ecma": "-1"}}, kind: object.InDoubt, status: 200, applied: true},
		{name: "immutable", rule: ossemu.Rule{Action: "error", Status: 409, Code: "FileImmutable"}, kind: object.Unappendable, status: 409},
		{name: "exists", rule: ossemu.Rule{Action: "error", Status: 409, Code: "FileAlreadyExists"}, kind: object.Refused, status: 409, hint: "forbids overwriting"},
		{name: "unknown conflict", rule: ossemu.Rule{Action: "error", Status: 409, Code: "SomethingNew"}, kind: object.InDoubt, status: 409},
		{name: "a code against its status", rule: ossemu.Rule{Action: "error", Status: 503, Code: "PositionNotEqualToLength"}, kind: object.InDoubt, status: 503},
		{name: "a code of another operation", rule: ossemu.Rule{Action: "error", Status: 403, Code: "NoSuchKey"}, kind: object.InDoubt, status: 403},
		{name: "unknown 5xx", rule: ossemu.Rule{Action: "error", Status: 507, Code: "SomethingNew"}, kind: object.InDoubt, status: 507},
		{name: "refused", rule: ossemu.Rule{Action: "error", Status: 403, Code: "AccessDenied"}, kind: object.Refused, status: 403, hint: "oss:PutObject"},
		{name: "slow body", rule: ossemu.Rule{Action: "error", Status: 400, Code: "RequestTimeout"}, kind: object.InDoubt, status: 400},
		{name: "bad argument", rule: ossemu.Rule{Action: "error", Status: 400, Code: "InvalidArgument"}, kind: object.Invalid, status: 400, hint: "region"},
		{name: "too large", rule: ossemu.Rule{Action: "error", Status: 400, Code: "EntityTooLarge"}, kind: object.Invalid, status: 400, hint: "roll"},
		{name: "not implemented", rule: ossemu.Rule{Action: "error", Status: 501, Code: "NotImplemented"}, kind: object.Invalid, status: 501},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := ossemutest.Start(t, ossemu.Options{})
			timeout := 20 * time.Second
			if tc.rule.Delay > 0 {
				timeout = 200 * time.Millisecond
			}
			c := newClient(t, s, func(o *Options) { o.Timeout = timeout })
			if _, err := newClient(t, s, nil).Append(t.Context(), "k", 0, object.Body{[]byte("a")}, nil); err != nil {
				t.Fatal(err)
			}
			tc.rule.Op, tc.rule.Nth = "append", 1
			if _, err := s.AddFault(tc.rule); err != nil {
				t.Fatal(err)
			}
			_, err := c.Append(t.Context(), "k", 1, object.Body{[]byte("b")}, nil)
			var e *object.Error
			if !errors.As(err, &e) || e.Kind != tc.kind || e.Status != tc.status || e.RetryAfter != tc.retry || !strings.Contains(e.Hint, tc.hint) {
				t.Fatalf("got %#v", err)
			}
			if tc.status != 0 && e.RequestID == "" {
				t.Errorf("no request id: %v", e)
			}
			want := int64(1)
			if tc.applied {
				want = 2
			}
			if info, err := newClient(t, s, nil).Head(t.Context(), "k"); err != nil || info.Length != want {
				t.Errorf("length %d, %v, want %d", info.Length, err, want)
			}
		})
	}
}

func TestFileAlreadyExistsAtZero(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{})
	c := newClient(t, s, nil)
	s.AddFault(ossemu.Rule{Op: "append", Action: "error", Status: 409, Code: "FileAlreadyExists"})
	_, err := c.Append(t.Context(), "k", 0, object.Body{[]byte("a")}, nil)
	var e *object.Error
	if !errors.As(err, &e) || e.Kind != object.Mismatch || e.Length != -1 {
		t.Fatalf("got %#v", err)
	}
}

// An append that arrives after its sender gave up is seen by the next request
// but one.
func TestLate(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{})
	c := newClient(t, s, nil)
	s.AddFault(ossemu.Rule{Op: "append", Action: "late", Nth: 1})
	if _, err := c.Append(t.Context(), "k", 0, object.Body{[]byte("late")}, nil); object.KindOf(err) != object.InDoubt {
		t.Fatal(err)
	}
	if _, err := c.Head(t.Context(), "k"); object.KindOf(err) != object.NotFound {
		t.Fatalf("head: %v", err)
	}
	if info, err := c.Head(t.Context(), "k"); err != nil || info.Length != 4 {
		t.Fatalf("head: %+v, %v", info, err)
	}
}

func TestMisconfigured(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server ossemu.Options
		client func(*Options)
		kind   object.Kind
		code   string
		hint   string
	}{
		{"wrong secret", ossemu.Options{}, func(o *Options) { o.AccessKeySecret = "x" }, object.Refused, "SignatureDoesNotMatch", "secret"},
		{"wrong secret, V1", ossemu.Options{}, func(o *Options) { o.AccessKeySecret, o.AuthVersion = "x", "v1" }, object.Refused, "SignatureDoesNotMatch", "V1"},
		{"wrong id", ossemu.Options{}, func(o *Options) { o.AccessKeyID = "x" }, object.Refused, "InvalidAccessKeyId", "unknown"},
		{"wrong bucket", ossemu.Options{}, func(o *Options) { o.Bucket = "no-such-bucket" }, object.Refused, "NoSuchBucket", "no-such-bucket"},
		{"V1 is off", ossemu.Options{RefuseV1: true}, func(o *Options) { o.AuthVersion = "v1" }, object.Refused, "AccessDenied", "use v4"},
		{"wrong region", ossemu.Options{Region: "cn-beijing"}, nil, object.Invalid, "InvalidArgument", "region"},
		{"clock", ossemu.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }}, nil, object.Refused, "RequestTimeTooSkewed", "clock"},
		{"token", ossemu.Options{SecurityToken: "a"}, func(o *Options) { o.SecurityToken = "b" }, object.Refused, "InvalidSecurityToken", "renew"},
		{"no credentials", ossemu.Options{}, func(o *Options) {
			o.Credentials = func() (Credentials, error) { return Credentials{}, errors.New("role is gone") }
		}, object.Refused, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClient(t, ossemutest.Start(t, tc.server), tc.client)
			ctx := t.Context()
			ops := map[string]error{
				"append": second(c.Append(ctx, "k", 0, object.Body{[]byte("a")}, nil)),
				"head":   second(c.Head(ctx, "k")),
				"read":   second(c.Read(ctx, "k", 0, -1)),
				"list":   c.List(ctx, "", func(object.Entry) error { return nil }),
				"bucket": second(c.BucketInfo(ctx)),
			}
			for op, err := range ops {
				var e *object.Error
				if !errors.As(err, &e) || e.Kind != tc.kind || e.Code != tc.code || !strings.Contains(e.Hint, tc.hint) {
					t.Errorf("%s: %#v", op, err)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// What stands between us and the service may answer in its place. None of it may
// be taken for the service's word on an object.
func TestForeignAnswers(t *testing.T) {
	for _, tc := range []struct {
		status int
		kind   object.Kind
	}{{404, object.InDoubt}, {403, object.Refused}, {502, object.InDoubt}, {413, object.InDoubt}, {407, object.Refused}, {200, object.InDoubt}, {429, object.Throttled}} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(tc.status)
			io.WriteString(w, "<html><body>proxy<br></body></html>")
		}))
		c, err := New(Options{Endpoint: srv.URL, Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"})
		if err != nil {
			t.Fatal(err)
		}
		errs := []error{second(c.Append(t.Context(), "k", 0, object.Body{[]byte("a")}, nil)), c.List(t.Context(), "", func(object.Entry) error { return nil })}
		if tc.status != 200 { // a get of HTML is what it says
			errs = append(errs, second(c.Head(t.Context(), "k")), second(c.Read(t.Context(), "k", 0, -1)))
		}
		// A whole object in answer to a range of it.
		errs = append(errs, second(c.Read(t.Context(), "k", 5, 10)))
		for i, err := range errs {
			if err == nil || object.KindOf(err) != tc.kind {
				t.Errorf("%d, %d: %v", tc.status, i, err)
			}
		}
		srv.Close()
		c.Close()
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c, err := New(Options{Endpoint: "http://" + l.Addr().String(), Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Append(t.Context(), "k", 0, object.Body{[]byte("a")}, nil)
	var e *object.Error
	if !errors.As(err, &e) || e.Kind != object.InDoubt || !strings.Contains(e.Hint, "cannot be reached") {
		t.Fatalf("%v", err)
	}
}

// A reader that lost its connection fails; it does not end.
func TestCutRead(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{})
	c := newClient(t, s, func(o *Options) { o.Timeout = 300 * time.Millisecond })
	body := make([]byte, 1<<20)
	if _, err := newClient(t, s, nil).Append(t.Context(), "k", 0, object.Body{body}, nil); err != nil {
		t.Fatal(err)
	}
	s.AddFault(ossemu.Rule{Op: "get", Action: "cut", CutAfter: 300_000, Nth: 1, Count: 2})
	for _, to := range []int64{-1, 1 << 19} {
		r, err := c.Read(t.Context(), "k", 0, to)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		var e *object.Error
		if !errors.As(err, &e) || e.Kind != object.InDoubt || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			t.Errorf("%#v", err)
		}
	}
	s.AddFault(ossemu.Rule{Op: "get", Action: "delay", Delay: ossemu.Duration(30 * time.Second)})
	if _, err := c.Read(t.Context(), "k", 0, -1); object.KindOf(err) != object.InDoubt || err == nil {
		t.Errorf("a read without an answer: %v", err)
	}
	s.ClearFaults("")
	// One may take one's time between two reads.
	r, err := c.Read(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond) // longer than the timeout: the thing under test
	if n, err := io.Copy(io.Discard, r); err != nil || n != 1<<20-10 {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestContextEnds(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{})
	c := newClient(t, s, nil)
	s.AddFault(ossemu.Rule{Action: "delay", Delay: ossemu.Duration(30 * time.Second)})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	for _, err := range []error{
		second(c.Append(ctx, "k", 0, object.Body{[]byte("a")}, nil)), second(c.Head(ctx, "k")), second(c.Read(ctx, "k", 0, -1)),
		c.List(ctx, "", func(object.Entry) error { return nil }), second(c.BucketInfo(ctx)), c.CreateBucket(ctx),
	} {
		if object.KindOf(err) != object.InDoubt || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
}

// Appends of one writer go over one connection.
func TestConnectionsAreKept(t *testing.T) {
	s, err := ossemu.New(ossemu.Options{Buckets: []string{"bucket"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conns := 0
	srv := httptest.NewUnstartedServer(s.Handler())
	srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns++
		}
	}
	srv.Start()
	defer srv.Close()
	c, err := New(Options{Endpoint: srv.URL, Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(20) {
		if _, err := c.Append(t.Context(), "k", i, object.Body{[]byte("a")}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Append(t.Context(), "k", i, object.Body{[]byte("a")}, nil); object.KindOf(err) != object.Mismatch {
			t.Fatal(err)
		}
		if _, err := c.Head(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		r, err := c.Read(t.Context(), "k", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r)
		r.Close()
	}
	c.Close()
	srv.Close()
	if conns != 1 {
		t.Errorf("%d connections", conns)
	}
}

func TestBucket(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{Region: ossemutest.Region})
	c := newClient(t, s, func(o *Options) { o.Bucket = "another-bucket" })
	if _, err := c.BucketInfo(t.Context()); object.KindOf(err) != object.Refused {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.CreateBucket(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b, err := c.BucketInfo(t.Context())
	if err != nil || b.Name != "another-bucket" || b.Location != "oss-cn-hangzhou" || b.Created.IsZero() || b.StorageClass != "Standard" || b.ACL != "private" || b.Versioning != "" {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		o        Options
		endpoint string
		region   string
		err      string
	}{
		{o: Options{Endpoint: "oss-cn-hangzhou.aliyuncs.com"}, endpoint: "https://oss-cn-hangzhou.aliyuncs.com", region: "cn-hangzhou"},
		{o: Options{Endpoint: "https://oss-cn-hangzhou-internal.aliyuncs.com/"}, endpoint: "https://oss-cn-hangzhou-internal.aliyuncs.com", region: "cn-hangzhou"},
		{o: Options{Endpoint: "oss-ap-southeast-1-internal.aliyuncs.com"}, endpoint: "https://oss-ap-southeast-1-internal.aliyuncs.com", region: "ap-southeast-1"},
		{o: Options{Endpoint: "cn-hangzhou.oss.aliyuncs.com"}, endpoint: "https://cn-hangzhou.oss.aliyuncs.com", region: "cn-hangzhou"},
		{o: Options{Endpoint: "127.0.0.1:9000"}, endpoint: "http://127.0.0.1:9000", region: "cn-hangzhou"},
		{o: Options{Endpoint: "http://ossemu:9000"}, endpoint: "http://ossemu:9000", region: "cn-hangzhou"},
		{o: Options{Endpoint: "[::1]:9000"}, endpoint: "http://[::1]:9000", region: "cn-hangzhou"},
		{o: Options{Endpoint: "oss-accelerate.aliyuncs.com"}, err: "region"},
		{o: Options{Endpoint: "oss-accelerate.aliyuncs.com", Region: "oss-cn-beijing"}, endpoint: "https://oss-accelerate.aliyuncs.com", region: "cn-beijing"},
		{o: Options{Endpoint: "archive.example.com", CNAME: true}, err: "region"},
		{o: Options{Endpoint: "archive.example.com", AuthVersion: "v1"}, endpoint: "https://archive.example.com"},
		{o: Options{}, err: "no endpoint"},
		{o: Options{Endpoint: "https://bucket.oss-cn-hangzhou.aliyuncs.com"}, err: "already carries the bucket"},
		{o: Options{Endpoint: "https://oss-cn-hangzhou.aliyuncs.com/bucket"}, err: "bucket has a setting"},
		{o: Options{Endpoint: "ftp://oss-cn-hangzhou.aliyuncs.com"}, err: "http"},
		{o: Options{Endpoint: "127.0.0.1:1", Bucket: "Big"}, err: "a-z"},
		{o: Options{Endpoint: "127.0.0.1:1", PathStyle: "maybe"}, err: "path style"},
		{o: Options{Endpoint: "a.example.com", PathStyle: "true", CNAME: true}, err: "exclude"},
		{o: Options{Endpoint: "127.0.0.1:1", AuthVersion: "v2"}, err: "v4 or v1"},
		{o: Options{Endpoint: "127.0.0.1:1", AccessKeyID: "only"}, err: "access key"},
	} {
		if tc.o.Bucket == "" {
			tc.o.Bucket = "bucket"
		}
		if tc.o.AccessKeyID == "" {
			tc.o.AccessKeyID, tc.o.AccessKeySecret = "id", "secret"
		}
		c, err := New(tc.o)
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: %v, want %q", tc.o, err, tc.err)
			}
		case err != nil:
			t.Errorf("%+v: %v", tc.o, err)
		case c.opt.Endpoint != tc.endpoint || c.opt.Region != tc.region:
			t.Errorf("%+v: %s, %s", tc.o, c.opt.Endpoint, c.opt.Region)
		}
	}
}

// The protocol stands on the checksum of an appendable object: without one the
// object is not known. An object that was put long ago has none.
func TestHeadWithoutAChecksum(t *testing.T) {
	for kind, known := range map[string]bool{"Appendable": false, "Normal": true} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Oss-Object-Type", kind)
			w.Header().Set("X-Oss-Request-Id", "1")
			w.Header().Set("Content-Length", "5")
		}))
		c, err := New(Options{Endpoint: srv.URL, Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"})
		if err != nil {
			t.Fatal(err)
		}
		info, err := c.Head(t.Context(), "k")
		if known && (err != nil || info.Length != 5) || !known && (err == nil || object.KindOf(err) != object.InDoubt) {
			t.Errorf("%s: %+v, %v", kind, info, err)
		}
		srv.Close()
		c.Close()
	}
}

// A connection that closes before all that was announced has come is no end of the
// object, and does not look like one to those who parse.
func TestReadThatEndsEarly(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, out, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		out.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nX-Oss-Request-Id: 1\r\n\r\nhalf")
		out.Flush()
	}))
	defer srv.Close()
	c, err := New(Options{Endpoint: srv.URL, Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Read(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := io.ReadAll(r)
	var e *object.Error
	if string(p) != "half" || !errors.As(err, &e) || e.Kind != object.InDoubt || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Errorf("%q, %#v", p, err)
	}
}

// A request without a key would be one to the bucket.
func TestEmptyKeyIsNotSent(t *testing.T) {
	sent := 0
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent++ }))
	defer srv.Close()
	c, err := New(Options{Endpoint: srv.URL, Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, err := range []error{second(c.Append(t.Context(), "", 0, object.Body{[]byte("a")}, nil)), second(c.Head(t.Context(), "")), second(c.Read(t.Context(), "", 0, -1))} {
		if err == nil || object.KindOf(err) != object.Invalid {
			t.Errorf("%v", err)
		}
	}
	if sent != 0 {
		t.Errorf("%d requests were sent", sent)
	}
}

// What is not 200 says nothing of the object, whatever its headers are.
func TestHeadOfAnother2xx(t *testing.T) {
	for status, known := range map[int]bool{200: true, 203: false, 206: false} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range map[string]string{"X-Oss-Object-Type": "Appendable", "X-Oss-Request-Id": "1", "X-Oss-Hash-Crc64ecma": "7", "Content-Length": "5"} {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
		}))
		c, err := New(Options{Endpoint: srv.URL, Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := c.Head(t.Context(), "k"); known != (err == nil) || !known && object.KindOf(err) != object.InDoubt {
			t.Errorf("%d: %+v, %v", status, info, err)
		}
		srv.Close()
		c.Close()
	}
}
