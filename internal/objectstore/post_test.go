package objectstore

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/object"
)

// answers stands for the network: it answers each request at once and keeps the last.
type answers struct {
	last *http.Request
	body []byte
	keep bool
}

func (n *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if n.keep {
		n.last, n.body = r, nil
		if r.Body != nil {
			n.body, _ = io.ReadAll(r.Body)
		}
	}
	return &http.Response{StatusCode: http.StatusOK, Header: answered, Body: http.NoBody, Request: r}, nil
}

var answered = http.Header{headerNext: {"16384"}, headerCRC: {"1"}, oss.HTTPHeaderOssRequestID: {"5F3A1B2C3D4E5F6071829304"}}

func withoutNetwork(t testing.TB, change func(*Options)) (*Client, *answers) {
	o := Options{Endpoint: "oss-cn-hangzhou.aliyuncs.com", Bucket: "bucket", AccessKeyID: "id", AccessKeySecret: "secret"}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &answers{keep: true}
	c.bucket.Client.HTTPClient.Transport = noting{n}
	return c, n
}

// An append that says nothing besides goes out as the SDK's own would, to the last
// header.
func TestPostIsTheSDKs(t *testing.T) {
	for _, key := range []string{"a", "s/1.000001.ndjson", "s/1.000001.ndjson.gz", "s/1.000001.ndjson.zst", "s/1.raw.gz", "ä b/?&=+%25.000001.TXT", "x.html", ".json"} {
		for _, position := range []int64{0, 1, 1 << 40} {
			for _, version := range []string{"v4", "v1"} {
				for _, token := range []string{"", "token"} {
					for _, body := range []string{"", "some bytes"} {
						c, n := withoutNetwork(t, func(o *Options) { o.AuthVersion, o.SecurityToken, o.Region = version, token, "cn-hangzhou" })
						var seen [2]string
						for i := range seen {
							var r io.Reader
							if body != "" {
								r = bytes.NewReader([]byte(body))
							}
							options := []oss.Option{oss.WithContext(t.Context())}
							var err error
							if i == 0 {
								_, err = c.bucket.DoAppendObject(&oss.AppendObjectRequest{ObjectKey: key, Reader: r, Position: position}, options)
							} else {
								err = c.post(t.Context(), key, position, r, options)
							}
							if err != nil {
								t.Fatal(err)
							}
							h := n.last.Header.Clone()
							sign, _, _ := strings.Cut(h.Get("Authorization"), "Signature=") // which is of this second
							if version == "v1" {
								sign, _, _ = strings.Cut(sign, ":")
							}
							h.Set("Authorization", sign)
							if h.Get("Date") == "" {
								t.Error("no date")
							}
							h.Del("Date")
							seen[i] = fmt.Sprint(n.last.Method, n.last.URL, n.last.Host, n.last.ContentLength, n.last.TransferEncoding, h, string(n.body))
						}
						if seen[0] != seen[1] {
							t.Errorf("%s at %d:\n%s\nthe SDK sends\n%s", key, position, seen[1], seen[0])
						}
					}
				}
			}
		}
	}
}

// BenchmarkAppendRequest is what an append costs besides the network.
func BenchmarkAppendRequest(b *testing.B) {
	c, n := withoutNetwork(b, nil)
	n.keep = false
	body := make([]byte, 16<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Append(b.Context(), "orders/eu/1234.000001.ndjson.gz", 1<<20, object.Body{body}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
