// Package objectstore speaks to Alibaba Cloud OSS, or to anything that answers
// as OSS does. It is the only importer of the OSS SDK, which is frozen: all that
// is known about its traps is kept here, and so is the one place where errors of
// the service become object.Errors.
//
// Guarantee: an operation that returns no error was confirmed by the service in
// full. In particular Append never takes an answer for a success that does not
// carry the next position and the checksum; it returns both as the service sent
// them, and comparing them with what they should be is the caller's part.
//
// Not here: retries (the SDK makes none either; what a failed append means only
// the protocol in appendsink can say), waiting, batching, and any knowledge of
// what the objects hold.
package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/object"
)

const (
	// defaultConnectTimeout bounds the dial. OSS endpoints answer a SYN within
	// a round trip; ten seconds allow for two lost ones.
	defaultConnectTimeout = 10 * time.Second
	// defaultTimeout bounds a request (see Options.Timeout). The service gives
	// up on its own side after 60 s.
	defaultTimeout = 60 * time.Second
	// idleTimeout is below the minute after which the service closes idle
	// connections, so that an append does not meet a connection that is being
	// closed: the SDK could not tell whether it was sent.
	idleTimeout = 50 * time.Second
	// slowest is the rate in bytes per second that a body is granted besides
	// Options.Timeout, so that large batches on a thin line are not cut off
	// and tried again for ever.
	slowest = 128 << 10

	defaultMaxConns = 128
)

// ProxyFromEnvironment is the value of Options.Proxy for what the environment says.
const ProxyFromEnvironment = "environment"

// Credentials of a request; SecurityToken is for temporary ones (STS).
type Credentials struct{ AccessKeyID, AccessKeySecret, SecurityToken string }

// Options say which bucket, and how to get there.
type Options struct {
	Endpoint string // oss-cn-hangzhou.aliyuncs.com, https://..., http://127.0.0.1:9000; without a scheme https, but http to IP addresses and localhost
	Region   string // cn-hangzhou; derived from a standard endpoint if empty
	Bucket   string

	AccessKeyID, AccessKeySecret, SecurityToken string
	// Credentials, if set, is asked at each request instead of the three above
	// (temporary credentials that are renewed). It must be fast and safe for
	// concurrent use. If it fails, nothing is sent and the operation is Refused.
	Credentials func() (Credentials, error)

	// PathStyle puts the bucket into the path: "true", "false", or "auto" (also
	// ""): only for IP addresses, localhost and names without a dot. The real
	// service takes virtual-hosted URLs only.
	PathStyle string
	CNAME     bool // Endpoint is a domain of one's own, bound to the bucket

	AuthVersion string // "v4" (also "") or "v1", which new accounts and buckets refuse

	ConnectTimeout time.Duration // of the dial; 0: 10 s
	// Timeout bounds an append, head or page of a listing in full (an append is
	// granted a second more for every 128 KiB, or what TrafficLimit lets through in
	// a second), and for a read the wait for its answer and for each next piece of
	// it. 0: 60 s.
	Timeout  time.Duration
	MaxConns int // connections kept and used at once; 0: 128
	// CA is a PEM file of authorities to trust besides the system's.
	CA string
	// Proxy is the URL of a proxy (http, https, socks5), "environment" for those
	// of HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or "" for none.
	Proxy string

	// Create goes with every object that is created; where an append's own Create
	// says something else, that counts.
	Create object.Create
	// ContentMD5 sends the MD5 of each append, which the service compares before
	// it takes the bytes. The CRC-64 in its answer says the same, but afterwards.
	ContentMD5 bool
	// TrafficLimit makes the service take and give no more than so many bits a
	// second in each append; 0: as they come. See object.MinTrafficLimit.
	TrafficLimit int64

	UserAgent string // "" for ossuary
}

// Client is one bucket. It is safe for concurrent use.
type Client struct {
	opt    Options
	bucket *oss.Bucket
	http   *http.Transport
}

// New checks the options and makes a client; it sends nothing.
func New(o Options) (*Client, error) {
	o.Endpoint = strings.TrimRight(strings.TrimSpace(o.Endpoint), "/")
	if o.Endpoint == "" {
		return nil, errors.New("no endpoint, e.g. oss-cn-hangzhou.aliyuncs.com")
	}
	host, err := endpointHost(&o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", o.Endpoint, err)
	}
	if strings.HasPrefix(host, "s3.") && strings.HasSuffix(host, ".aliyuncs.com") {
		return nil, fmt.Errorf("endpoint %q speaks the protocol of S3, which has no appends: give %s", o.Endpoint, strings.TrimPrefix(host, "s3."))
	}
	if o.Bucket != "" && strings.HasPrefix(host, o.Bucket+".oss-") {
		return nil, fmt.Errorf("endpoint %q already carries the bucket: give %s", o.Endpoint, strings.TrimPrefix(host, o.Bucket+"."))
	}
	if err := oss.CheckBucketName(o.Bucket); err != nil {
		return nil, fmt.Errorf("bucket %q: 3 to 63 of a-z, 0-9 and -, with no - at either end", o.Bucket)
	}
	if o.Credentials == nil {
		if o.AccessKeyID == "" || o.AccessKeySecret == "" {
			return nil, errors.New("no access key: both id and secret are needed")
		}
		fixed := Credentials{o.AccessKeyID, o.AccessKeySecret, strings.TrimSpace(o.SecurityToken)}
		o.Credentials = func() (Credentials, error) { return fixed, nil }
	}
	pathStyle := false
	switch o.PathStyle {
	case "", "auto":
		pathStyle = !o.CNAME && isLocal(host)
	case "true":
		pathStyle = true
	case "false":
	default:
		return nil, fmt.Errorf("path style %q: auto, true or false", o.PathStyle)
	}
	if pathStyle && o.CNAME {
		return nil, errors.New("path style and a domain of one's own (cname) exclude each other")
	}
	version := oss.AuthV4
	switch o.AuthVersion {
	case "", "v4":
		o.AuthVersion = "v4"
		if o.Region == "" {
			if o.Region, err = deriveRegion(o.Endpoint, pathStyle); err != nil {
				return nil, err
			}
		}
	case "v1":
		version = oss.AuthV1
	default:
		return nil, fmt.Errorf("signature version %q: v4 or v1", o.AuthVersion)
	}
	// "oss-cn-hangzhou" is what the console shows as location; signatures want
	// the bare region.
	o.Region = strings.TrimPrefix(o.Region, "oss-")
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = defaultConnectTimeout
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.MaxConns <= 0 {
		o.MaxConns = defaultMaxConns
	}
	if o.UserAgent == "" {
		o.UserAgent = "ossuary"
	}

	if l := o.TrafficLimit; l != 0 && (l < object.MinTrafficLimit || l > object.MaxTrafficLimit) {
		return nil, fmt.Errorf("traffic limit of %d bits a second: %d to %d", l, int64(object.MinTrafficLimit), int64(object.MaxTrafficLimit))
	}

	transport, err := newTransport(o)
	if err != nil {
		return nil, err
	}
	client, err := oss.New(o.Endpoint, "", "",
		oss.HTTPClient(&http.Client{
			Transport: noting{transport},
			// Following a redirect would turn the POST of an append into a
			// GET, whose success the SDK takes for the append's.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		oss.SetCredentialsProvider(provider{o.Credentials}),
		oss.AuthVersion(version), oss.Region(o.Region),
		oss.UseCname(o.CNAME), oss.ForcePathStyle(pathStyle),
		oss.RedirectEnabled(false), // says the same as CheckRedirect, should HTTPClient ever go
		oss.EnableCRC(false),       // we compare, over the whole object; the SDK would hide the committed position
		oss.VerifyObjectStrict(false),
		oss.UserAgent(o.UserAgent),
	)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", o.Endpoint, err)
	}
	bucket, err := client.Bucket(o.Bucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %q: %w", o.Bucket, err)
	}
	return &Client{opt: o, bucket: bucket, http: transport}, nil
}

// Close drops idle connections. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Region returns the region that requests are signed for.
func (c *Client) Region() string { return c.opt.Region }

// provider gives the SDK its credentials.
type provider struct{ get func() (Credentials, error) }

type credentials struct{ Credentials }

func (c credentials) GetAccessKeyID() string     { return c.AccessKeyID }
func (c credentials) GetAccessKeySecret() string { return c.AccessKeySecret }
func (c credentials) GetSecurityToken() string   { return c.SecurityToken }

// credentialsError marks a failure in which no request was made.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "no credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

func (p provider) GetCredentials() oss.Credentials {
	c, _ := p.GetCredentialsE()
	return c
}

func (p provider) GetCredentialsE() (oss.Credentials, error) {
	c, err := p.get()
	if err != nil {
		return credentials{}, &credentialsError{err}
	}
	return credentials{c}, nil
}

// answer is what the transport saw of the response to one request. The SDK
// gives status and headers only with some errors, and they decide what an error
// means.
type answer struct {
	status int // 0: no response came
	header http.Header
	needs  string // permissions that the request needs besides the usual ones
}

type answerKey struct{}

// noting notes each response in the answer that the request's context carries.
type noting struct{ base http.RoundTripper }

func (t noting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if a, ok := r.Context().Value(answerKey{}).(*answer); ok {
		a.status, a.header = resp.StatusCode, resp.Header
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		// The SDK leaves the body of a redirect open, and the connection with it.
		resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, nil
}

// endpointHost completes the endpoint with its scheme and returns the host name
// without port.
func endpointHost(endpoint *string) (string, error) {
	if !strings.Contains(*endpoint, "://") {
		u, err := url.Parse("//" + *endpoint)
		if err != nil {
			return "", err
		}
		scheme := "https://"
		if isLocal(u.Hostname()) {
			scheme = "http://"
		}
		*endpoint = scheme + *endpoint
	}
	u, err := url.Parse(*endpoint)
	switch {
	case err != nil:
		return "", err
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("want http:// or https://")
	case u.Hostname() == "":
		return "", errors.New("no host")
	case u.Path != "" || u.RawQuery != "" || u.User != nil:
		return "", errors.New("want scheme, host and port only (the bucket has a setting of its own)")
	}
	return u.Hostname(), nil
}

// isLocal says whether host cannot have buckets as subdomains: an address, this
// machine, or a name in a local network such as a container's.
func isLocal(host string) bool {
	return net.ParseIP(host) != nil || host == "localhost" || !strings.Contains(host, ".")
}

// deriveRegion returns the region in a standard endpoint's name. Path style
// means an emulator; those take any region or say which they want.
func deriveRegion(endpoint string, pathStyle bool) (string, error) {
	region := object.Region(endpoint)
	switch {
	case region != "":
		return region, nil
	case pathStyle:
		return "cn-hangzhou", nil
	case object.Accelerates(endpoint):
		return "", fmt.Errorf("no region, and the accelerating endpoint %s leads to any: set it to the bucket's, e.g. cn-hangzhou", endpoint)
	}
	return "", fmt.Errorf("no region, and none can be read from the endpoint %s: set it to the bucket's, e.g. cn-hangzhou", endpoint)
}

// withTimeout bounds a whole request with a body of n bytes, and returns where
// its response will be noted.
func (c *Client) withTimeout(ctx context.Context, n int) (context.Context, context.CancelFunc, *answer) {
	a := &answer{}
	rate := int64(slowest)
	if c.opt.TrafficLimit > 0 {
		rate = min(rate, c.opt.TrafficLimit/8)
	}
	d := c.opt.Timeout + time.Duration(int64(n)/rate)*time.Second
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, answerKey{}, a), d)
	return ctx, cancel, a
}
