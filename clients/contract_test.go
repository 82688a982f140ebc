package clients

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"ossuary/ossemu"
)

// client is what the contract asks of an SDK.
type client interface {
	append(key string, at int64, body string) (next int64, err error)
	head(key string) (http.Header, error)
	get(key string) (string, error)
	list(prefix string) ([]string, error)
	remove(key string) error
	// refusal takes an error apart; next is what the answer says of the position.
	refusal(err error) (status int, code string, next string)
}

// reach is a way to find a server and to sign for it.
type reach struct {
	endpoint, region, bucket, id, secret, token string
	v1                                          bool // signature
	cname                                       bool
	transport                                   *http.Transport
	addr                                        string // of the emulator
}

func (r reach) port() string {
	_, port, _ := net.SplitHostPort(r.addr)
	return port
}

// ways are what clients differ in on the wire. Names are resolved to the emulator
// by the transport, as a name server would.
func ways(t *testing.T) map[string]reach {
	t.Helper()
	srv := ossemu.Start(t, ossemu.Options{
		Region: ossemu.Region, Domain: "oss-cn-hangzhou.aliyuncs.com", CNames: map[string]string{"data.example.com": ossemu.Bucket},
		Keys: map[string]ossemu.Key{"STS.id": {Secret: "sts-secret", Token: "sts-token"}},
	})
	addr := strings.TrimPrefix(srv.Endpoint, "http://")
	here := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}}
	t.Cleanup(here.CloseIdleConnections)
	path := reach{endpoint: srv.Endpoint, region: srv.Region, bucket: srv.Bucket, id: srv.AccessKeyID, secret: srv.AccessKeySecret, transport: here, addr: addr}
	virtual, cname, sts := path, path, path
	virtual.endpoint = "http://oss-cn-hangzhou.aliyuncs.com"
	cname.endpoint, cname.cname = "http://data.example.com", true
	sts.id, sts.secret, sts.token = "STS.id", "sts-secret", "sts-token"
	out := map[string]reach{}
	for name, r := range map[string]reach{"path style": path, "virtual-hosted style": virtual, "CNAME": cname, "STS": sts} {
		out[name+", V4"] = r
		r.v1 = true
		out[name+", V1"] = r
	}
	return out
}

// testClient runs the contract over every way.
func testClient(t *testing.T, make func(t *testing.T, r reach) client) {
	for name, r := range ways(t) {
		t.Run(name, func(t *testing.T) {
			key := "log/ä b+" + name
			contract(t, make(t, r), key)
			wrong := r
			wrong.secret = "wrong"
			_, err := make(t, wrong).append(key, 0, "x")
			if status, code, _ := make(t, wrong).refusal(err); status != 403 || code != "SignatureDoesNotMatch" {
				t.Errorf("wrong secret: %d %s, %v", status, code, err)
			}
			if r.token != "" {
				wrong = r
				wrong.token = "wrong"
				_, err := make(t, wrong).append(key, 0, "x")
				if status, code, _ := make(t, wrong).refusal(err); status != 403 || code != "InvalidSecurityToken" {
					t.Errorf("wrong token: %d %s, %v", status, code, err)
				}
			}
		})
	}
}

func contract(t *testing.T, c client, key string) {
	t.Helper()
	for i, part := range []string{"first,", "second"} {
		at := int64(i * len("first,"))
		next, err := c.append(key, at, part)
		if err != nil || next != at+int64(len(part)) {
			t.Fatalf("append at %d: next %d, %v", at, next, err)
		}
	}
	_, err := c.append(key, 3, "x")
	if status, code, next := c.refusal(err); status != 409 || code != "PositionNotEqualToLength" || next != "12" {
		t.Errorf("append at 3: %d %s, next %s; %v", status, code, next, err)
	}
	h, err := c.head(key)
	if err != nil || h.Get("X-Oss-Object-Type") != "Appendable" || h.Get("X-Oss-Next-Append-Position") != "12" || h.Get("Content-Length") != "12" || h.Get("X-Oss-Meta-Stream") != "orders" {
		t.Errorf("head: %v, %v", h, err)
	}
	if text, err := c.get(key); err != nil || text != "first,second" {
		t.Errorf("get: %q, %v", text, err)
	}
	if keys, err := c.list("log/"); err != nil || len(keys) != 1 || keys[0] != key {
		t.Errorf("list: %q, %v", keys, err)
	}
	if err := c.remove(key); err != nil {
		t.Errorf("delete: %v", err)
	}
	_, err = c.get(key)
	if status, code, _ := c.refusal(err); status != 404 || code != "NoSuchKey" {
		t.Errorf("get of a deleted object: %d %s, %v", status, code, err)
	}
	if _, err = c.head(key); err == nil {
		t.Error("head of a deleted object")
	}
}
