package objectstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/object"
)

const (
	headerDelay = "X-Oss-Qos-Delay-Time" // milliseconds, with throttled replies
	headerNext  = oss.HTTPHeaderOssNextAppendPosition
	headerCRC   = oss.HTTPHeaderOssCRC64
)

// What a code of the service means to a writer. Codes that are not here go by
// their status, see kindOfStatus.
//
//	PositionNotEqualToLength   Mismatch      the header carries the length
//	FileAlreadyExists          Mismatch      at position 0, length not told; else Refused: see kindOf
//	ObjectNotAppendable        Unappendable  it was put, or is a symbolic link
//	FileImmutable              Unappendable  a retention policy holds it as it is
//	NoSuchKey                  NotFound
//	NoSuchBucket and 401, 403  Refused       a person must mend it
//	RequestTimeout (a 400)     InDoubt       the body came too slowly
//	InvalidDigest              InDoubt       the body changed on its way: sent again it may arrive
//	throttling codes           Throttled
//	5xx, 408, unknown 409      InDoubt
//	other 4xx                  Invalid
//	3xx                        Refused       wrong endpoint, or somebody in between
var kinds = map[string]object.Kind{
	"PositionNotEqualToLength": object.Mismatch,
	"ObjectNotAppendable":      object.Unappendable,
	"FileImmutable":            object.Unappendable,
	"NoSuchKey":                object.NotFound,

	"NoSuchBucket":          object.Refused,
	"InvalidBucketName":     object.Refused,
	"BucketAlreadyExists":   object.Refused, // somebody else's
	"TooManyBuckets":        object.Refused,
	"AccessDenied":          object.Refused,
	"InvalidAccessKeyId":    object.Refused,
	"SignatureDoesNotMatch": object.Refused,
	"RequestTimeTooSkewed":  object.Refused,
	"SecurityTokenExpired":  object.Refused,
	"InvalidSecurityToken":  object.Refused,
	"UserDisable":           object.Refused,
	"KmsServiceNotEnabled":  object.Refused,
	"InvalidObjectState":    object.Refused, // archived: restore it first

	"RequestTimeout":     object.InDoubt,
	"InvalidDigest":      object.InDoubt,
	"InternalError":      object.InDoubt,
	"ServiceUnavailable": object.InDoubt,

	"TotalQpsLimitExceeded":            object.Throttled,
	"QpsLimitExceeded":                 object.Throttled,
	"UploadTrafficRateLimitExceeded":   object.Throttled,
	"DownloadTrafficRateLimitExceeded": object.Throttled,
	"TotalTrafficRateLimitExceeded":    object.Throttled,
	"ActiveRequestLimitExceeded":       object.Throttled,
	"CpuLimitExceeded":                 object.Throttled,
	"SlowDown":                         object.Throttled,
}

func kindOfStatus(status int) object.Kind {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return object.Refused
	case status >= 300 && status < 400:
		return object.Refused
	case status == http.StatusTooManyRequests:
		return object.Throttled
	case status == http.StatusRequestTimeout, status == http.StatusConflict:
		return object.InDoubt
	case status == http.StatusNotImplemented:
		return object.Invalid
	case status >= 400 && status < 500:
		return object.Invalid
	}
	return object.InDoubt
}

// agrees says whether a code of this kind may come with the status, and to this
// operation. The two contradict each other where somebody in between has put in
// a word of his own, or the service is in trouble: no clear no is made of that.
func agrees(kind object.Kind, status int, isAppend bool) bool {
	switch kind {
	case object.NotFound:
		return status == http.StatusNotFound
	case object.Unappendable:
		return status == http.StatusConflict
	case object.Mismatch:
		return status == http.StatusConflict && isAppend
	case object.Refused:
		return status < 500
	}
	return true
}

// fail makes the one error of a failed operation. position is the append's, and
// -1 for other operations.
func (c *Client) fail(op, key string, position int64, a *answer, err error) error {
	e := &object.Error{Op: op, Key: key, Status: a.status, Length: -1, Err: err}
	if a.header != nil {
		e.RequestID = a.header.Get(oss.HTTPHeaderOssRequestID)
		e.RetryAfter = a.delay()
	}
	var se oss.ServiceError
	if errors.As(err, &se) {
		e.Status, e.Code, e.Message = se.StatusCode, se.Code, se.Message
		if se.Endpoint != "" && !strings.Contains(c.opt.Endpoint, se.Endpoint) {
			e.Endpoint = se.Endpoint
		}
		if se.RequestID != "" {
			e.RequestID = se.RequestID
		}
	}
	e.Kind = c.kindOf(e, position, a)
	if e.Kind == object.Mismatch {
		if n, err := strconv.ParseInt(a.header.Get(headerNext), 10, 64); err == nil && n >= 0 {
			e.Length = n
		}
	}
	e.Hint = c.hint(e, a)
	return e
}

// maxDelay bounds what a header can make us wait. The service asks for seconds.
const maxDelay = time.Minute

// delay is how long the service, or a gateway in front of it, wants to be left
// alone; 0 if it does not say.
func (a *answer) delay() time.Duration {
	d := time.Duration(0)
	if ms, err := strconv.ParseUint(a.header.Get(headerDelay), 10, 32); err == nil {
		d = time.Duration(ms) * time.Millisecond
	} else if s, err := strconv.ParseUint(a.header.Get("Retry-After"), 10, 16); err == nil {
		d = time.Duration(s) * time.Second
	}
	return min(d, maxDelay)
}

func (c *Client) kindOf(e *object.Error, position int64, a *answer) object.Kind {
	var ce *credentialsError
	if errors.As(e.Err, &ce) {
		return object.Refused
	}
	if e.Status == 0 {
		return object.InDoubt // no answer: timeouts, lost connections, cancelled contexts
	}
	if e.Status < 300 {
		return object.InDoubt // an answer that says yes, but not completely
	}
	kind, known := kinds[e.Code]
	switch {
	case known && !agrees(kind, e.Status, position >= 0):
		return object.InDoubt // whose word is it?
	case known && kind == object.InDoubt && e.RetryAfter > 0:
		return object.Throttled
	case known:
		return kind
	case e.Code == "FileAlreadyExists" && e.Status == http.StatusConflict:
		// Where a rule of the bucket forbids overwriting. At position 0 it says
		// what a mismatch says: the object is there, do not create it; reading
		// it forward is the way on. At a later position it would mean that the
		// rule takes appends for overwriting, which a person must mend.
		if position == 0 {
			return object.Mismatch
		}
		return object.Refused
	case e.Status == http.StatusNotFound && e.Code == "":
		// A HEAD may be answered without a body, so without a code. Only the
		// service itself may say that an object does not exist: a proxy's 404
		// must not make a writer give the object up.
		if e.RequestID != "" && (e.Op == "head" || e.Op == "read") {
			return object.NotFound
		}
		return object.InDoubt
	case e.Code == "" && e.RequestID == "" && e.Status >= 400 && kindOfStatus(e.Status) == object.Invalid:
		return object.InDoubt // not the service's own words either
	case e.RetryAfter > 0:
		return object.Throttled
	}
	return kindOfStatus(e.Status)
}

// hint says what a person can do about the error.
func (c *Client) hint(e *object.Error, a *answer) string {
	switch e.Code {
	case "NoSuchBucket":
		return fmt.Sprintf("create the bucket %s in region %s, or correct its name or the endpoint", c.opt.Bucket, c.opt.Region)
	case "InvalidAccessKeyId":
		return "the access key id is unknown to the service: was it deleted, or does the key belong to another cloud?"
	case "SignatureDoesNotMatch":
		return "check the access key secret and the region (requests are signed for " + c.region() + ")" + c.v1Hint()
	case "RequestTimeTooSkewed":
		if skew, ok := a.skew(time.Now()); ok && skew != 0 {
			return fmt.Sprintf("this machine's clock is more than 15 minutes off, the service's says %s: set it", skewText(skew))
		}
		return "this machine's clock is more than 15 minutes off: set it"
	case "SecurityTokenExpired", "InvalidSecurityToken":
		return "the temporary credentials have expired or do not belong together: renew them"
	case "SecondLevelDomainForbidden":
		return "the service takes no path-style URLs: set path style to auto or false"
	case "UserDisable":
		return "the account is disabled, perhaps over an unpaid bill"
	case "InvalidObjectState":
		return "the object lies in an archive storage class: restore it first"
	case "EntityTooLarge":
		return "an object takes appends up to 5 GB: roll segments earlier"
	case "FileAlreadyExists":
		return "a rule of the bucket forbids overwriting: exempt the archive's prefix from it"
	case "AccessDenied":
		if e.Endpoint != "" {
			return "the bucket lies in another region: use the endpoint " + e.Endpoint
		}
		if a.needs != "" {
			return "the access key needs oss:PutObject, oss:GetObject and oss:ListObjects on the bucket, and for what is set at the objects " + a.needs + c.v1Hint()
		}
		return "the access key needs oss:PutObject, oss:GetObject and oss:ListObjects on the bucket" + c.v1Hint()
	case "KmsServiceNotEnabled":
		return "turn on KMS for the account, or encrypt with AES256"
	case "InvalidEncryptionAlgorithmError":
		return "the region does not know this way of encrypting: use AES256 or KMS"
	case "InvalidDigest":
		return "the bytes changed on their way: is there something in between that rewrites requests?"
	}
	switch {
	case e.Status >= 300 && e.Status < 400:
		return "the endpoint answers with a redirect: check endpoint and scheme"
	case e.Status == http.StatusBadRequest && e.Code == "InvalidArgument":
		return "if every request fails so, check the region (requests are signed for " + c.region() + ")"
	case e.Kind == object.Refused && e.Status == http.StatusForbidden:
		return strings.TrimPrefix(c.v1Hint(), "; ")
	case e.Status >= 400 && e.RequestID == "":
		return "the answer is not the service's own: is there a proxy in between?"
	case e.Status != 0:
		return ""
	}
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(e.Err, &dns):
		return "the endpoint's name cannot be resolved: " + c.opt.Endpoint
	case errors.As(e.Err, &cert), errors.As(e.Err, &unknown):
		return "the endpoint's certificate is not trusted here"
	case errors.As(e.Err, &record):
		return "the endpoint does not speak TLS: use http://"
	case errors.Is(e.Err, context.Canceled):
		return ""
	case errors.As(e.Err, &op) && op.Op == "dial":
		if strings.Contains(c.opt.Endpoint, "-internal.") {
			return "the endpoint cannot be reached: internal endpoints work within their region of the cloud only"
		}
		return "the endpoint cannot be reached: " + c.opt.Endpoint
	}
	return ""
}

func (c *Client) region() string {
	if c.opt.Region == "" {
		return "no region"
	}
	return c.opt.Region
}

func (c *Client) v1Hint() string {
	if c.opt.AuthVersion == "v1" {
		return "; V1 signatures are refused for new accounts and buckets: use v4"
	}
	return ""
}

// skewText says how far the service's clock is ahead of ours.
func skewText(skew time.Duration) string {
	if skew < 0 {
		return (-skew).String() + " earlier"
	}
	return skew.String() + " later"
}
