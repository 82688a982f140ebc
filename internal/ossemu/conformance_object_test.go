package ossemu_test

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var objectFacts = []fact{
	{"reads of ranges", pageGet + ", Range and x-oss-range-behavior; " + sdkV1 + "bucket_test.go TestGetObjectRangeBehavior", func(c *conformant) {
		c.append("k", 0, "0123456789").want(c, 200, "")
		for _, tc := range []struct {
			r, behaviour, want, where string
			status                    int
		}{
			{"bytes=2-4", "", "234", "bytes 2-4/10", 206},
			{"bytes=7-", "", "789", "bytes 7-9/10", 206},
			{"bytes=-3", "", "789", "bytes 7-9/10", 206},
			{"bytes=5-100", "", "0123456789", "", 200},
			{"bytes=5-100", "standard", "56789", "bytes 5-9/10", 206},
			{"bytes=10-", "", "0123456789", "", 200},
		} {
			a := c.call("GET", "k", "", "", "Range", tc.r, "X-Oss-Range-Behavior", tc.behaviour)
			if a.StatusCode != tc.status || a.text != tc.want || a.Header.Get("Content-Range") != tc.where {
				c.Errorf("%s %s: %d %q %s", tc.r, tc.behaviour, a.StatusCode, a.text, a.Header.Get("Content-Range"))
			}
		}
		c.call("GET", "k", "", "", "Range", "bytes=10-", "X-Oss-Range-Behavior", "standard").want(c, 416, "InvalidRange")
	}},
	{"reads on conditions", pageGet + ", If-Match and the others", func(c *conformant) {
		etag := c.append("k", 0, "abc").want(c, 200, "").Header.Get("ETag")
		past, future := "Mon, 02 Jan 2006 15:04:05 GMT", time.Now().Add(time.Hour).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
		c.call("GET", "k", "", "", "If-Match", etag).want(c, 200, "")
		c.call("GET", "k", "", "", "If-Match", `"x"`).want(c, 412, "PreconditionFailed")
		c.call("GET", "k", "", "", "If-None-Match", etag).want(c, 304, "")
		c.call("GET", "k", "", "", "If-Modified-Since", future).want(c, 304, "")
		c.call("GET", "k", "", "", "If-Modified-Since", past).want(c, 200, "")
		c.call("GET", "k", "", "", "If-Unmodified-Since", past).want(c, 412, "PreconditionFailed")
	}},
	{"errors are told in XML and headers, of head in x-oss-err", "help.aliyun.com, error responses; " + sdkV1 + "bucket_test.go TestErrorFromHeader", func(c *conformant) {
		for _, method := range []string{"GET", "HEAD"} {
			a := c.call(method, "none", "", "").want(c, 404, "NoSuchKey").has(c, "X-Oss-Request-Id", "*", "X-Oss-Ec", "0026-00000001")
			if a.fault.EC != a.Header.Get("X-Oss-Ec") || a.fault.RequestId != a.Header.Get("X-Oss-Request-Id") {
				c.Errorf("%s: %+v, %v", method, a.fault, a.Header)
			}
		}
		c.call("HEAD", "none", "objectMeta", "").want(c, 404, "NoSuchKey")
		a := c.callIn("ossuary-no-such-bucket-x", "GET", "k", "", nil).want(c, 404, "NoSuchBucket").has(c, "X-Oss-Ec", "0015-00000101")
		if a.fault.Message != "The specified bucket does not exist." {
			c.Errorf("%q", a.fault.Message)
		}
	}},
	{"names", "help.aliyun.com, object naming conventions", func(c *conformant) {
		for _, key := range []string{"a b", "ä/日本", "a//b", "x/./y", "plus+", "per%cent", "q?&=#", `back\slash`} {
			c.append(key, 0, "x").want(c, 200, "")
			c.content(key, "x")
		}
		c.call("POST", strings.Repeat("k", 1024), "append&position=0", "x").want(c, 400, "InvalidObjectName")
		on := *c
		on.prefix = ""
		on.call("POST", "/slash", "append&position=0", "x").want(c, 400, "InvalidObjectName")
	}},
	{"object meta is short", "help.aliyun.com, GetObjectMeta", func(c *conformant) {
		c.append("k", 0, "abc").want(c, 200, "")
		c.call("HEAD", "k", "objectMeta", "").want(c, 200, "").has(c, "Content-Length", "3", "ETag", "*", "Last-Modified", "*", "X-Oss-Object-Type", "")
	}},
	{"deleting", "help.aliyun.com, DeleteObject and DeleteMultipleObjects", func(c *conformant) {
		for _, key := range []string{"a", "b", "c"} {
			c.append(key, 0, "x").want(c, 200, "")
		}
		c.call("DELETE", "a", "", "").want(c, 204, "")
		c.call("DELETE", "a", "", "").want(c, 204, "")
		body := "<Delete><Object><Key>" + c.key("b") + "</Key></Object><Object><Key>" + c.key("c") + "</Key></Object></Delete>"
		if a := c.call("POST", "", "delete", body, "Content-MD5", md5Of(body)).want(c, 200, ""); strings.Count(a.text, "<Deleted>") != 2 {
			c.Errorf("%s", a.text)
		}
		c.append("a", 0, "again").want(c, 200, "")
		c.call("GET", "b", "", "").want(c, 404, "NoSuchKey")
	}},
	{"listings go page by page", "help.aliyun.com, ListObjects and ListObjectsV2", func(c *conformant) {
		var want []string
		for _, key := range []string{"a", "d/1", "d/2", "e", "f/1"} {
			c.append(key, 0, "x").want(c, 200, "")
			want = append(want, c.key(key))
		}
		type page struct {
			IsTruncated                       bool
			NextMarker, NextContinuationToken string
			Contents                          []struct{ Key, Type, StorageClass string }
			CommonPrefixes                    []struct{ Prefix string }
		}
		for _, version := range []string{"", "list-type=2&"} {
			var got []string
			after := ""
			for range 10 {
				a := c.call("GET", "", version+"max-keys=2&prefix="+escape(c.prefix, false)+after, "").want(c, 200, "")
				var p page
				if err := xml.Unmarshal([]byte(a.text), &p); err != nil {
					c.Fatal(err)
				}
				for _, o := range p.Contents {
					got = append(got, o.Key)
					if o.Type != "Appendable" || o.StorageClass != "Standard" {
						c.Errorf("%+v", o)
					}
				}
				if after = "&marker=" + escape(p.NextMarker, false); version != "" {
					after = "&continuation-token=" + escape(p.NextContinuationToken, false)
				}
				if !p.IsTruncated {
					break
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				c.Errorf("%q: %q, want %q", version, got, want)
			}
		}
		a := c.call("GET", "", "delimiter=%2F&prefix="+escape(c.prefix, false), "").want(c, 200, "")
		var p page
		if err := xml.Unmarshal([]byte(a.text), &p); err != nil || len(p.Contents) != 2 || len(p.CommonPrefixes) != 2 {
			c.Errorf("%+v, %v", p, err)
		}
		c.call("GET", "", "max-keys=1001", "").want(c, 400, "InvalidArgument")
	}},
	{"multipart uploads", "help.aliyun.com, multipart upload; " + sdkV1 + "download_test.go TestDownloadRoutineWithRecovery for the ETag", func(c *conformant) {
		var up struct{ UploadId string }
		a := c.call("POST", "k", "uploads", "", "X-Oss-Meta-A", "b").want(c, 200, "")
		if err := xml.Unmarshal([]byte(a.text), &up); err != nil {
			c.Fatal(err)
		}
		part := strings.Repeat("0123456789abcdef", 100<<10/16)
		done := "<CompleteMultipartUpload>"
		sums := ""
		for n := 1; n <= 2; n++ {
			a := c.call("PUT", "k", "partNumber="+strconv.Itoa(n)+"&uploadId="+up.UploadId, part).want(c, 200, "").has(c, "X-Oss-Hash-Crc64ecma", crcOf(part))
			etag := a.Header.Get("ETag")
			sums += strings.Trim(etag, `"`)
			done += "<Part><PartNumber>" + strconv.Itoa(n) + "</PartNumber><ETag>" + etag + "</ETag></Part>"
		}
		if a := c.call("GET", "k", "uploadId="+up.UploadId, "").want(c, 200, ""); strings.Count(a.text, "<PartNumber>") != 2 {
			c.Errorf("%s", a.text)
		}
		c.call("POST", "k", "uploadId="+up.UploadId, "<CompleteMultipartUpload><Part><PartNumber>7</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>").want(c, 400, "InvalidPart")
		c.call("POST", "k", "uploadId="+up.UploadId, done+"</CompleteMultipartUpload>").want(c, 200, "")
		c.call("HEAD", "k", "", "").has(c, "X-Oss-Object-Type", "Multipart", "X-Oss-Hash-Crc64ecma", crcOf(part+part), "ETag", `"`+hexMD5(sums)+`-2"`, "X-Oss-Meta-A", "b")
		c.call("POST", "k", "uploadId="+up.UploadId, done+"</CompleteMultipartUpload>").want(c, 404, "NoSuchUpload")
		c.append("k", 2*len(part), "x").want(c, 409, "ObjectNotAppendable")
	}},
	{"normal objects are copied", "help.aliyun.com, CopyObject", func(c *conformant) {
		c.call("PUT", "k", "", "abc", "X-Oss-Meta-A", "b", "Content-Type", "text/plain").want(c, 200, "")
		from := "/" + c.bucket + "/" + escape(c.key("k"), true)
		c.call("PUT", "copy", "", "", "X-Oss-Copy-Source", from).want(c, 200, "").has(c, "X-Oss-Hash-Crc64ecma", crcOf("abc"))
		c.call("HEAD", "copy", "", "").has(c, "X-Oss-Meta-A", "b", "Content-Type", "text/plain")
		c.call("PUT", "copy", "", "", "X-Oss-Copy-Source", from, "X-Oss-Metadata-Directive", "REPLACE", "X-Oss-Meta-C", "d").want(c, 200, "")
		c.call("HEAD", "copy", "", "").has(c, "X-Oss-Meta-A", "", "X-Oss-Meta-C", "d")
		c.call("PUT", "copy", "", "", "X-Oss-Copy-Source", from, "X-Oss-Copy-Source-If-Match", "x").want(c, 412, "PreconditionFailed")
		c.content("copy", "abc")
	}},
	{"tags", "help.aliyun.com, PutObjectTagging", func(c *conformant) {
		c.append("k", 0, "abc", "X-Oss-Tagging", "a=1").want(c, 200, "")
		c.call("PUT", "k", "tagging", "<Tagging><TagSet><Tag><Key>b</Key><Value>2</Value></Tag></TagSet></Tagging>").want(c, 200, "")
		if a := c.call("GET", "k", "tagging", "").want(c, 200, ""); !strings.Contains(a.text, "<Key>b</Key>") || strings.Contains(a.text, "<Key>a</Key>") {
			c.Errorf("%s", a.text)
		}
		c.call("DELETE", "k", "tagging", "").want(c, 204, "")
		c.append("k", 3, "d").want(c, 200, "")
	}},
}
