package objectstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"ossuary/internal/object"
)

// newTransport makes our own transport in place of the SDK's, because the SDK's
// unpacks objects with Content-Encoding gzip while they are read (which changes
// their bytes and lengths), dials without the request's context, and counts its
// timeouts in whole seconds. The price is that every setting of the SDK that is
// about connections is without effect and is made here.
func newTransport(o Options) (*http.Transport, error) {
	proxy, err := proxyOf(o.Proxy)
	if err != nil {
		return nil, err
	}
	roots, err := rootsOf(o.CA)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: proxy,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return atOnce{c}, nil
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: o.ConnectTimeout,
		// Nothing else bounds the wait for the answer to a read.
		ResponseHeaderTimeout: 0, // the context of the request does, see withTimeout
		DisableCompression:    true,
		// OSS speaks HTTP/1.1, in which an append has a connection for itself: as
		// many as there are appends at once, and none is closed between two.
		ForceAttemptHTTP2:   false,
		MaxIdleConns:        o.MaxConns,
		MaxIdleConnsPerHost: o.MaxConns,
		MaxConnsPerHost:     o.MaxConns,
		IdleConnTimeout:     idleTimeout,
		WriteBufferSize:     64 << 10,
		ReadBufferSize:      64 << 10,
	}, nil
}

// atOnce is a connection that writes an upload from where it stands in memory, in one
// call. The standard library would take it through a buffer of 32 KiB, made for each
// request, since it sees that a body has its length only by reading it.
type atOnce struct{ net.Conn }

// ReadFrom implements io.ReaderFrom.
func (c atOnce) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if u, ok := l.R.(*upload); ok && int64(u.Len()) <= l.N {
			n, err := u.rest.WriteTo(c.Conn)
			u.left -= int(n)
			l.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// upload reads the body of an append. It is a ReadCloser with a length, so that
// neither the SDK nor net/http puts something around it.
type upload struct {
	rest net.Buffers
	left int // bytes of rest
}

func newUpload(body object.Body) *upload {
	u := &upload{rest: make(net.Buffers, 0, len(body)), left: body.Len()} // of its own: it is used up
	for _, p := range body {
		if len(p) > 0 {
			u.rest = append(u.rest, p)
		}
	}
	return u
}

// Len is the number of bytes still to be read; the SDK asks for it.
func (u *upload) Len() int { return u.left }

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.rest.Read(p)
	u.left -= n
	return n, err
}

func (u *upload) Close() error { return nil }

// proxyOf reads Options.Proxy. The environment is asked only where that was
// wanted: a variable that was set for something else must not decide where the
// archive's bytes go.
func proxyOf(proxy string) (func(*http.Request) (*url.URL, error), error) {
	switch proxy {
	case "":
		return nil, nil
	case ProxyFromEnvironment:
		return http.ProxyFromEnvironment, nil // never for localhost
	}
	u, err := url.Parse(proxy)
	if err != nil {
		return nil, errors.New("the proxy is no URL") // which may hold a password
	}
	if u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return nil, fmt.Errorf("proxy %s: want http://host:port, https:// or socks5://", u.Redacted())
	}
	return http.ProxyURL(u), nil
}

// ErrAuthorities is wrapped by New's error where Options.CA is no good.
var ErrAuthorities = errors.New("reading the certificate authorities")

// rootsOf adds the authorities in a file to the system's; nil for these alone.
func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthorities, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s holds no certificate in PEM", ErrAuthorities, file)
	}
	return pool, nil
}
