package objectstore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/object"
	"ossuary/internal/object/objecttest"
	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

// newClient makes a client for an emulator; change may alter its options.
func newClient(t testing.TB, s *ossemutest.Server, change func(*Options)) *Client {
	t.Helper()
	o := Options{
		Endpoint: s.Endpoint, Region: ossemutest.Region, Bucket: ossemutest.Bucket,
		AccessKeyID: ossemutest.AccessKeyID, AccessKeySecret: ossemutest.AccessKeySecret,
		Timeout: 20 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// target lets a test put and delete through the SDK, which the client does not.
func target(c *Client, prefix string) objecttest.Target {
	return objecttest.Target{
		Store: c,
		Put: func(ctx context.Context, key string, p []byte) error {
			return c.bucket.PutObject(key, bytes.NewReader(p), oss.WithContext(ctx))
		},
		Delete: func(ctx context.Context, key string) error { return c.bucket.DeleteObject(key, oss.WithContext(ctx)) },
		Prefix: prefix,
	}
}

func TestConformanceEmulator(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server func(t *testing.T) ossemu.Options
		client func(*Options)
	}{
		{"memory", func(*testing.T) ossemu.Options { return ossemu.Options{Region: ossemutest.Region} }, nil},
		{"disk", func(t *testing.T) ossemu.Options { return ossemu.Options{Dir: t.TempDir()} }, nil},
		{"disk, synced", func(t *testing.T) ossemu.Options { return ossemu.Options{Dir: t.TempDir(), Fsync: true} }, nil},
		{"V1 signatures", func(*testing.T) ossemu.Options { return ossemu.Options{} }, func(o *Options) { o.AuthVersion = "v1" }},
		{"temporary credentials", func(*testing.T) ossemu.Options { return ossemu.Options{SecurityToken: "token"} }, func(o *Options) { o.SecurityToken = "token" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := ossemutest.Start(t, tc.server(t))
			tg := target(newClient(t, s, tc.client), "conformance/")
			if tc.name != "disk" { // pages are the same in all
				tg.Many = 20
			}
			objecttest.Conformance(t, tg)
		})
	}
}

// TestConformanceOSS runs the suite against the real service, in objects under a
// prefix of its own that it deletes afterwards. It costs some thousand requests,
// and a month of an object of the class IA.
func TestConformanceOSS(t *testing.T) {
	endpoint := os.Getenv("OSS_TEST_ENDPOINT")
	if endpoint == "" {
		t.Skip("OSS_TEST_ENDPOINT, _BUCKET, _REGION, _ACCESS_KEY_ID and _ACCESS_KEY_SECRET are not set")
	}
	c, err := New(Options{
		Endpoint: endpoint, Region: os.Getenv("OSS_TEST_REGION"), Bucket: os.Getenv("OSS_TEST_BUCKET"),
		AccessKeyID: os.Getenv("OSS_TEST_ACCESS_KEY_ID"), AccessKeySecret: os.Getenv("OSS_TEST_ACCESS_KEY_SECRET"),
		SecurityToken: os.Getenv("OSS_TEST_SECURITY_TOKEN"),
	})
	if err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprintf("ossuary-conformance-%d/", time.Now().UnixNano())
	t.Cleanup(func() {
		var keys []string
		ctx := context.Background()
		if err := c.List(ctx, prefix, func(e object.Entry) error { keys = append(keys, e.Key); return nil }); err != nil {
			t.Error(err)
		}
		for len(keys) > 0 {
			n := min(len(keys), 1000)
			if _, err := c.bucket.DeleteObjects(keys[:n], oss.DeleteObjectsQuiet(true)); err != nil {
				t.Error(err)
			}
			keys = keys[n:]
		}
	})
	objecttest.Conformance(t, target(c, prefix))
	t.Run("create", func(t *testing.T) {
		createsWith(t, c, prefix+"created", object.Create{ACL: "private", Encryption: "AES256"})
	})
	t.Run("each append", func(t *testing.T) {
		again := *c
		again.opt.ContentMD5, again.opt.TrafficLimit = true, object.MaxTrafficLimit
		if _, err := again.Append(t.Context(), prefix+"measured", 0, object.Body{[]byte("a")}, nil); err != nil {
			t.Error(err)
		}
	})
	if skew, ok, err := c.Skew(t.Context(), prefix); err != nil || !ok || skew.Abs() > time.Minute {
		t.Errorf("clock %s off, told %t, %v", skew, ok, err)
	}
	if b, err := c.BucketInfo(t.Context()); err != nil || b.Name != c.opt.Bucket {
		t.Errorf("bucket info %+v, %v", b, err)
	}
}
