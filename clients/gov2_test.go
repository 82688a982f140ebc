package clients

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"
)

// goV2 is the Go SDK v2.
type goV2 struct {
	ctx    context.Context //nolint:containedctx // of the test
	client *oss.Client
	bucket string
}

func TestGoSDKv2(t *testing.T) {
	testClient(t, func(t *testing.T, r reach) client {
		version := oss.SignatureVersionV4
		if r.v1 {
			version = oss.SignatureVersionV1
		}
		cfg := oss.LoadDefaultConfig().
			WithCredentialsProvider(credentials.NewStaticCredentialsProvider(r.id, r.secret, r.token)).
			WithRegion(r.region).WithEndpoint(r.endpoint).WithSignatureVersion(version).WithUseCName(r.cname).
			WithHttpClient(&http.Client{Transport: r.transport})
		return &goV2{ctx: t.Context(), client: oss.NewClient(cfg), bucket: r.bucket}
	})
}

func (c *goV2) append(key string, at int64, body string) (int64, error) {
	res, err := c.client.AppendObject(c.ctx, &oss.AppendObjectRequest{
		Bucket: &c.bucket, Key: &key, Position: &at, Body: strings.NewReader(body), Metadata: map[string]string{"stream": "orders"},
	})
	if err != nil {
		return 0, err
	}
	return res.NextPosition, nil
}

func (c *goV2) head(key string) (http.Header, error) {
	res, err := c.client.HeadObject(c.ctx, &oss.HeadObjectRequest{Bucket: &c.bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	return res.Headers, nil
}

func (c *goV2) get(key string) (string, error) {
	res, err := c.client.GetObject(c.ctx, &oss.GetObjectRequest{Bucket: &c.bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	p, err := io.ReadAll(res.Body)
	return string(p), err
}

func (c *goV2) list(prefix string) ([]string, error) {
	var keys []string
	p := c.client.NewListObjectsV2Paginator(&oss.ListObjectsV2Request{Bucket: &c.bucket, Prefix: &prefix, MaxKeys: 1})
	for p.HasNext() {
		page, err := p.NextPage(c.ctx)
		if err != nil {
			return keys, err
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	return keys, nil
}

func (c *goV2) remove(key string) error {
	_, err := c.client.DeleteObject(c.ctx, &oss.DeleteObjectRequest{Bucket: &c.bucket, Key: &key})
	return err
}

func (c *goV2) refusal(err error) (int, string, string) {
	var e *oss.ServiceError
	if !errors.As(err, &e) {
		return 0, "", ""
	}
	return e.StatusCode, e.Code, e.Headers.Get("X-Oss-Next-Append-Position")
}

// AppendFile is what programs use that append with this SDK.
func TestGoSDKv2AppendFile(t *testing.T) {
	for name, r := range ways(t) {
		t.Run(name, func(t *testing.T) {
			cfg := oss.LoadDefaultConfig().
				WithCredentialsProvider(credentials.NewStaticCredentialsProvider(r.id, r.secret, r.token)).
				WithRegion(r.region).WithEndpoint(r.endpoint).WithUseCName(r.cname).WithHttpClient(&http.Client{Transport: r.transport})
			if r.v1 {
				cfg.WithSignatureVersion(oss.SignatureVersionV1)
			}
			c := oss.NewClient(cfg)
			key := "file/" + name
			for range 2 {
				f, err := c.AppendFile(t.Context(), r.bucket, key)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(f, "line\n"); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			res, err := c.SealAppendObject(t.Context(), &oss.SealAppendObjectRequest{Bucket: &r.bucket, Key: &key, Position: oss.Ptr(int64(10))})
			if err != nil || res.SealedTime == nil {
				t.Fatalf("seal: %v, %v", res, err)
			}
			u, err := c.Presign(t.Context(), &oss.GetObjectRequest{Bucket: &r.bucket, Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), u.Method, u.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := r.transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if p, err := io.ReadAll(resp.Body); err != nil || string(p) != "line\nline\n" {
				t.Errorf("by a presigned URL: %s %q, %v", resp.Status, p, err)
			}
		})
	}
}
