package objectstore

import (
	"bufio"
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"ossuary/internal/object"
	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

// An authority of one's own is trusted when it is named, and only then.
func TestOwnAuthority(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{Region: ossemutest.Region})
	srv := httptest.NewTLSServer(s.Handler())
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	trusting := newClient(t, s, func(o *Options) { o.Endpoint, o.CA = srv.URL, ca })
	if _, err := trusting.Append(t.Context(), "k", 0, object.Body{[]byte("a")}, nil); err != nil {
		t.Fatal(err)
	}
	_, err := newClient(t, s, func(o *Options) { o.Endpoint = srv.URL }).Append(t.Context(), "k", 1, object.Body{[]byte("a")}, nil)
	var e *object.Error
	if !errors.As(err, &e) || e.Kind != object.InDoubt || !strings.Contains(e.Hint, "certificate is not trusted") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(ca, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{ca, ca + ".missing"} {
		if _, err := New(Options{Endpoint: srv.URL, Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b", CA: file}); err == nil {
			t.Errorf("%s is taken", file)
		}
	}
}

// proxy is an HTTP proxy that leads every name to one server.
func proxy(t *testing.T, to string) (address string, hosts *atomic.Pointer[string], asked *atomic.Int32) {
	t.Helper()
	hosts, asked = &atomic.Pointer[string]{}, &atomic.Int32{}
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		asked.Add(1)
		host := r.In.Host
		hosts.Store(&host)
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", target.Host, host
	}})
	t.Cleanup(srv.Close)
	return srv.URL, hosts, asked
}

// Through a proxy, with the bucket in the host name as the real service has it.
func TestProxy(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{Region: ossemutest.Region, Domain: "oss.test"})
	address, host, asked := proxy(t, s.Endpoint)
	c := newClient(t, s, func(o *Options) { o.Endpoint, o.Proxy = "http://oss.test", address })
	for i := range int64(3) {
		if _, err := c.Append(t.Context(), "dir/k", i, object.Body{[]byte("a")}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 3 || *host.Load() != ossemutest.Bucket+".oss.test" {
		t.Errorf("%d requests, the last to %s", asked.Load(), *host.Load())
	}
	if info, err := newClient(t, s, nil).Head(t.Context(), "dir/k"); err != nil || info.Length != 3 {
		t.Errorf("%+v, %v", info, err)
	}
	for _, bad := range []string{"localhost:3128", "ftp://h:1", "http://", "http://user:secret@%zz"} {
		_, err := New(Options{Endpoint: "127.0.0.1:1", Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b", Proxy: bad})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// What the environment says about proxies counts only where that was asked for.
func TestProxyOfTheEnvironment(t *testing.T) {
	o := Options{Endpoint: "oss-cn-hangzhou.aliyuncs.com", Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"}
	for _, asked := range []bool{false, true} {
		if asked {
			o.Proxy = ProxyFromEnvironment
		}
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if (c.http.Proxy != nil) != asked {
			t.Errorf("asked %t: the transport has a proxy: %t", asked, c.http.Proxy != nil)
		}
	}
}

// At a domain of one's own the bucket stands nowhere in the URL, and is signed.
func TestOwnDomain(t *testing.T) {
	const domain = "archive.example.com"
	s := ossemutest.Start(t, ossemu.Options{Region: ossemutest.Region, CNames: map[string]string{domain: ossemutest.Bucket}, RefusePathStyle: true})
	address, host, _ := proxy(t, s.Endpoint)
	for _, version := range []string{"v4", "v1"} {
		c := newClient(t, s, func(o *Options) {
			o.Endpoint, o.CNAME, o.Proxy, o.AuthVersion = "http://"+domain, true, address, version
		})
		for i := range int64(2) {
			if _, err := c.Append(t.Context(), "dir/"+version, i, object.Body{[]byte("a")}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if *host.Load() != domain {
			t.Errorf("asked %s", *host.Load())
		}
		if info, err := c.Head(t.Context(), "dir/"+version); err != nil || info.Length != 2 {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

// An IP address has the bucket in the path, unless that was turned off.
func TestPathStyle(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{Region: ossemutest.Region})
	for _, style := range []string{"", "auto", "true"} {
		if _, err := newClient(t, s, func(o *Options) { o.PathStyle = style }).Append(t.Context(), "k"+style, 0, object.Body{[]byte("a")}, nil); err != nil {
			t.Errorf("%q: %v", style, err)
		}
	}
	strict := ossemutest.Start(t, ossemu.Options{Region: ossemutest.Region, RefusePathStyle: true})
	_, err := newClient(t, strict, nil).Append(t.Context(), "k", 0, object.Body{[]byte("a")}, nil)
	var e *object.Error
	if !errors.As(err, &e) || e.Kind != object.Refused || e.Code != "SecondLevelDomainForbidden" || !strings.Contains(e.Hint, "path style") {
		t.Errorf("%v", err)
	}
}

type writes struct {
	net.Conn
	sizes []int
}

func (w *writes) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return len(p), nil
}

// A body in memory is written in one call, and no more of it than was announced;
// anything else as it comes.
func TestBodyIsWrittenAtOnce(t *testing.T) {
	body := make([]byte, 1<<20)
	for name, c := range map[string]struct {
		r     io.Reader
		calls int
		total int64
	}{
		"a body":             {io.LimitReader(newUpload(object.Body{body}), 1<<20), 1, 1 << 20},
		"pieces":             {io.LimitReader(newUpload(object.Body{body[:10], nil, body[10:]}), 1<<20), 2, 1 << 20},
		"longer than it may": {io.LimitReader(newUpload(object.Body{body}), 100), 1, 100},
		"another reader":     {io.LimitReader(iotest.OneByteReader(bytes.NewReader(body[:10])), 1<<20), 10, 10},
	} {
		w := &writes{}
		n, err := atOnce{w}.ReadFrom(c.r)
		if err != nil || n != c.total || len(w.sizes) != c.calls {
			t.Errorf("%s: %d bytes in %d calls, %v, want %d in %d", name, n, len(w.sizes), err, c.total, c.calls)
		}
		if l := c.r.(*io.LimitedReader); l.N != 0 && c.total == 1<<20 {
			t.Errorf("%s: %d bytes seem to be missing", name, l.N)
		}
	}
}

// What an append allocates does not depend on its body's size: neither the SDK nor
// net/http put a buffer between the body and the connection.
func TestBodyIsNotCopied(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in, rest := bufio.NewReader(conn), int64(0)
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if n, ok := strings.CutPrefix(strings.ToLower(string(line)), "content-length: "); ok {
				rest, _ = strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			}
			if len(line) == 2 {
				if _, err := in.Discard(int(rest)); err != nil {
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Oss-Next-Append-Position: 7\r\nX-Oss-Hash-Crc64ecma: 7\r\n\r\n")
			}
		}
	}()
	c, err := New(Options{Endpoint: "http://" + listener.Addr().String(), Region: "cn-hangzhou", Bucket: "bucket", AccessKeyID: "a", AccessKeySecret: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	allocated := func(size int) uint64 {
		const times = 20
		body := object.Body{make([]byte, size/2), make([]byte, size/2)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range times {
			if a, err := c.Append(t.Context(), "k", 0, body, nil); err != nil || a.Next != 7 {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / times
	}
	allocated(1 << 10)
	small, large := allocated(1<<10), allocated(1<<20)
	if large > small+16<<10 {
		t.Errorf("%d bytes are allocated for an append of 1 KiB, %d for one of 1 MiB", small, large)
	}
}
