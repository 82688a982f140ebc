package objectstore

import (
	"bytes"
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

// atOnce is a connection that writes a body in memory from where it stands, in one
// call. The standard library would take it through a buffer of 32 KiB, made for each
// request, since it sees that a body has its length only by reading it.
type atOnce struct{ net.Conn }

// ReadFrom implements io.ReaderFrom.
func (c atOnce) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if b, ok := l.R.(*bytes.Reader); ok && int64(b.Len()) <= l.N {
			n, err := b.WriteTo(c.Conn)
			l.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

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
