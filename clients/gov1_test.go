package clients

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// goV1 is the Go SDK v1.
type goV1 struct {
	bucket *oss.Bucket
	last   http.Header // of the last append's answer
}

func TestGoSDKv1(t *testing.T) {
	testClient(t, func(t *testing.T, r reach) client {
		version := oss.AuthV4
		if r.v1 {
			version = oss.AuthV1
		}
		options := []oss.ClientOption{oss.AuthVersion(version), oss.Region(r.region), oss.UseCname(r.cname), oss.HTTPClient(&http.Client{Transport: r.transport})}
		if r.token != "" {
			options = append(options, oss.SecurityToken(r.token))
		}
		c, err := oss.New(r.endpoint, r.id, r.secret, options...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.Bucket(r.bucket)
		if err != nil {
			t.Fatal(err)
		}
		return &goV1{bucket: b}
	})
}

func (c *goV1) append(key string, at int64, body string) (int64, error) {
	return c.bucket.AppendObject(key, strings.NewReader(body), at, oss.Meta("stream", "orders"), oss.GetResponseHeader(&c.last))
}

func (c *goV1) head(key string) (http.Header, error) { return c.bucket.GetObjectDetailedMeta(key) }

func (c *goV1) get(key string) (string, error) {
	r, err := c.bucket.GetObject(key)
	if err != nil {
		return "", err
	}
	defer r.Close()
	p, err := io.ReadAll(r)
	return string(p), err
}

func (c *goV1) list(prefix string) ([]string, error) {
	res, err := c.bucket.ListObjectsV2(oss.Prefix(prefix), oss.MaxKeys(10))
	var keys []string
	for _, o := range res.Objects {
		keys = append(keys, o.Key)
	}
	return keys, err
}

func (c *goV1) remove(key string) error { return c.bucket.DeleteObject(key) }

func (c *goV1) refusal(err error) (int, string, string) {
	var e oss.ServiceError
	if !errors.As(err, &e) {
		return 0, "", ""
	}
	return e.StatusCode, e.Code, c.last.Get("X-Oss-Next-Append-Position")
}
