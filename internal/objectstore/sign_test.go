package objectstore

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/ossemu"
	"ossuary/internal/ossemu/ossemutest"
)

// The emulator takes what the SDK signs, in every form, and nothing that was
// changed after it was signed.
func TestSignatures(t *testing.T) {
	s := ossemutest.Start(t, ossemu.Options{Region: ossemutest.Region, Domain: "oss.test"})
	// The real service has buckets as subdomains; here they all lead to us.
	addr := strings.TrimPrefix(s.Endpoint, "http://")
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	for _, version := range []oss.AuthVersionType{oss.AuthV1, oss.AuthV4} {
		for _, endpoint := range []string{s.Endpoint, "http://oss.test"} {
			for _, additional := range [][]string{nil, {"host", "user-agent", "content-length"}} {
				client, err := oss.New(endpoint, ossemutest.AccessKeyID, ossemutest.AccessKeySecret, oss.AuthVersion(version), oss.Region(ossemutest.Region),
					oss.HTTPClient(&http.Client{Transport: transport}), oss.AdditionalHeaders(additional))
				if err != nil {
					t.Fatal(err)
				}
				b, err := client.Bucket(ossemutest.Bucket)
				if err != nil {
					t.Fatal(err)
				}
				const key = "dir/signed key+%?&=*~ü.txt"
				if err := b.PutObject(key, strings.NewReader("body"), oss.Meta("a", "b c"), oss.ContentType("text/plain")); err != nil {
					t.Fatal(version, endpoint, additional, err)
				}
				res, err := b.ListObjectsV2(oss.Prefix("dir/"), oss.Delimiter("/"), oss.StartAfter("dir/!"), oss.MaxKeys(10))
				if err != nil || len(res.Objects) != 1 || res.Objects[0].Key != key {
					t.Fatalf("%v %v", res, err)
				}
				old, err := b.ListObjects(oss.Prefix("dir/"), oss.Marker("dir/!"))
				if err != nil || len(old.Objects) != 1 || old.Objects[0].Key != key {
					t.Fatalf("%v %v", old, err)
				}
				if additional != nil {
					continue
				}
				signed, err := b.SignURL(key, oss.HTTPGet, 60)
				if err != nil {
					t.Fatal(err)
				}
				if status, body := fetch(t, transport, signed); status != 200 || body != "body" {
					t.Errorf("%s %s: %d %s", version, signed, status, body)
				}
				if status, _ := fetch(t, transport, strings.Replace(signed, "signed", "forged", 1)); status != 403 {
					t.Errorf("%s: a forged URL got %d", version, status)
				}
				expired, err := b.SignURL(key, oss.HTTPGet, 0)
				if err == nil && version == oss.AuthV1 {
					if status, _ := fetch(t, transport, strings.Replace(expired, "Expires=", "Expires=1&x=", 1)); status != 403 {
						t.Errorf("an expired URL got %d", status)
					}
				}
			}
		}
	}
	if status, _ := fetch(t, transport, s.Endpoint+"/"+ossemutest.Bucket+"/k"); status != 403 {
		t.Errorf("an anonymous request got %d", status)
	}
}

func fetch(t *testing.T, transport http.RoundTripper, url string) (int, string) {
	t.Helper()
	resp, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(p)
}
