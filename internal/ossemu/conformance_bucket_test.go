package ossemu_test

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

func md5Of(s string) string {
	sum := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func hexMD5(s string) string { return fmt.Sprintf("%X", md5.Sum([]byte(s))) }

var bucketFacts = []fact{
	{"signatures are checked", "help.aliyun.com, V4 signatures; error codes; " + sdkV2 + "client_integration_object_extension_test.go TestClientExtension", func(c *conformant) {
		bad := *c
		bad.secret = "wrong"
		bad.append("k", 0, "x").want(c, 403, "SignatureDoesNotMatch")
		bad.id = "nobody"
		bad.append("k", 0, "x").want(c, 403, "InvalidAccessKeyId")
		for _, skew := range []time.Duration{-16 * time.Minute, 16 * time.Minute} {
			late := *c
			late.skew = skew
			late.append("k", 0, "x").want(c, 403, "RequestTimeTooSkewed")
		}
		late := *c
		late.skew = -14 * time.Minute
		late.append("k", 0, "x").want(c, 200, "")
		elsewhere := *c
		elsewhere.region = "mars-north-1"
		elsewhere.append("k", 1, "x").want(c, 400, "InvalidArgument")
		c.send(c.request(c.bucket, "GET", c.key("k"), "", nil)).want(c, 403, "AccessDenied")
	}},
	{"presigned URLs", "help.aliyun.com, V4 signatures in the URL", func(c *conformant) {
		c.append("k", 0, "abc").want(c, 200, "")
		presigned := func(at time.Time) *http.Request {
			query := "x-oss-credential=" + escape(c.id+"/"+c.scope(at), false) + "&x-oss-date=" + at.Format("20060102T150405Z") + "&x-oss-expires=60&x-oss-signature-version=OSS4-HMAC-SHA256"
			sig := c.signature(at, "GET", c.bucket, c.key("k"), query, "")
			return c.request(c.bucket, "GET", c.key("k"), query+"&x-oss-signature="+sig, nil)
		}
		if a := c.send(presigned(time.Now().UTC())).want(c, 200, ""); a.text != "abc" {
			c.Errorf("%q", a.text)
		}
		c.send(presigned(time.Now().UTC().Add(-2*time.Minute))).want(c, 403, "AccessDenied")
		req := presigned(time.Now().UTC())
		req.URL.RawQuery += "0"
		c.send(req).want(c, 403, "SignatureDoesNotMatch")
	}},
	{"what a bucket tells about itself", "help.aliyun.com, GetBucketInfo, GetBucketLocation, GetBucketAcl, GetBucketStat", func(c *conformant) {
		for query, want := range map[string]string{
			"bucketInfo": "<Name>" + c.bucket + "</Name>", "location": "oss-" + c.region, "acl": "<Grant>", "stat": "<ObjectCount>", "versioning": "VersioningConfiguration",
		} {
			if a := c.call("GET", "", query, "").want(c, 200, ""); !strings.Contains(a.text, want) {
				c.Errorf("%s: %s", query, a.text)
			}
		}
		c.call("GET", "", "worm", "").want(c, 404, "NoSuchWORMConfiguration")
		c.call("GET", "", "encryption", "").want(c, 404, "NoSuchServerSideEncryptionRule")
	}},
	{"versions of an appendable object", pageVersion + "; " + sdkV1 + "bucket_test.go TestVersioningAppendObject", func(c *conformant) {
		c = c.another("versioned")
		c.call("PUT", "", "versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>").want(c, 200, "")
		one := c.append("k", 0, "123").want(c, 200, "").has(c, "X-Oss-Version-Id", "*").Header.Get("X-Oss-Version-Id")
		first := c.call("HEAD", "k", "", "").Header.Get("Last-Modified")
		time.Sleep(1100 * time.Millisecond) // Last-Modified has seconds
		c.append("k", 3, "456").want(c, 200, "").has(c, "X-Oss-Version-Id", one)
		// "its Last-Modified stays that of the initial upload": help.aliyun.com, convert
		// appendable objects to the Cold Archive class.
		c.call("HEAD", "k", "", "").has(c, "Last-Modified", first)
		marker := c.call("DELETE", "k", "", "").want(c, 204, "").has(c, "X-Oss-Delete-Marker", "true").Header.Get("X-Oss-Version-Id")
		c.call("GET", "k", "", "").want(c, 404, "NoSuchKey")
		if a := c.call("GET", "k", "versionId="+one, "").want(c, 200, ""); a.text != "123456" {
			c.Errorf("%q", a.text)
		}
		c.append("k", 0, "789").want(c, 200, "").has(c, "X-Oss-Next-Append-Position", "3")
		c.call("DELETE", "k", "versionId="+marker, "").want(c, 204, "")
		c.append("k", 3, "0").want(c, 200, "").has(c, "X-Oss-Next-Append-Position", "4")
		c.call("PUT", "k", "", "put").want(c, 200, "")
		c.append("k", 4, "x").want(c, 409, "ObjectNotAppendable")
		c.call("GET", "k", "versionId=CAEQnone", "").want(c, 404, "NoSuchVersion")
		if a := c.call("GET", "", "prefix=&versions", "").want(c, 200, ""); strings.Count(a.text, "<Version>") != 3 {
			c.Errorf("%s", a.text)
		}
		c.call("PUT", "", "versioning", "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>").want(c, 200, "")
		c.append("s", 0, "x").want(c, 200, "").has(c, "X-Oss-Version-Id", "null")
	}},
	{"an object under retention takes no appends", pageWorm + "; " + pageAppend + ", limits: not for objects in the protection period", func(c *conformant) {
		c = c.another("under retention")
		c.append("k", 0, "abc").want(c, 200, "")
		id := c.call("POST", "", "worm", "<InitiateWormConfiguration><RetentionPeriodInDays>1</RetentionPeriodInDays></InitiateWormConfiguration>").want(c, 200, "").has(c, "X-Oss-Worm-Id", "*").Header.Get("X-Oss-Worm-Id")
		if a := c.call("GET", "", "worm", "").want(c, 200, ""); !strings.Contains(a.text, id) || !strings.Contains(a.text, "InProgress") {
			c.Errorf("%s", a.text)
		}
		c.append("k", 3, "x").want(c, 409, "FileImmutable")
		c.call("DELETE", "k", "", "").want(c, 409, "FileImmutable")
		c.call("PUT", "k", "", "x").want(c, 409, "FileImmutable")
		c.append("new", 0, "x").want(c, 200, "")
		c.append("new", 1, "x").want(c, 409, "FileImmutable")
		c.call("DELETE", "", "worm", "").want(c, 204, "") // or the suite's bucket would stay
		c.append("k", 3, "x").want(c, 200, "")
	}},
	{"lifecycle rules", "help.aliyun.com, PutBucketLifecycle", func(c *conformant) {
		c = c.another("with lifecycle rules")
		c.call("GET", "", "lifecycle", "").want(c, 404, "NoSuchLifecycle")
		c.call("PUT", "", "lifecycle", "<LifecycleConfiguration></LifecycleConfiguration>").want(c, 400, "MalformedXML")
		rules := "<LifecycleConfiguration><Rule><ID>r</ID><Prefix>log/</Prefix><Status>Enabled</Status><Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>"
		c.call("PUT", "", "lifecycle", rules).want(c, 200, "")
		if a := c.call("GET", "", "lifecycle", "").want(c, 200, ""); !strings.Contains(a.text, "<Days>30</Days>") || !strings.Contains(a.text, "<ID>r</ID>") {
			c.Errorf("%s", a.text)
		}
		c.call("DELETE", "", "lifecycle", "").want(c, 204, "")
		c.call("GET", "", "lifecycle", "").want(c, 404, "NoSuchLifecycle")
	}},
	{"a bucket's encryption is its objects'", "help.aliyun.com, PutBucketEncryption", func(c *conformant) {
		c = c.another("encrypted")
		c.call("PUT", "", "encryption", "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>").want(c, 200, "")
		c.append("k", 0, "x").want(c, 200, "").has(c, "X-Oss-Server-Side-Encryption", "AES256")
		c.call("DELETE", "", "encryption", "").want(c, 204, "")
	}},
	{"a bucket with objects is not deleted", "help.aliyun.com, DeleteBucket", func(c *conformant) {
		c = c.another("deleted")
		c.append("k", 0, "x").want(c, 200, "")
		c.call("DELETE", "", "", "").want(c, 409, "BucketNotEmpty")
	}},
}
