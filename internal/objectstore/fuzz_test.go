package objectstore

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"ossuary/internal/object"
)

// saying is a client whose every request is answered by the bytes in answer.
func saying(t testing.TB, answer *string) *Client {
	c, err := New(Options{Endpoint: "http://127.0.0.1:1", Region: "r", Bucket: "bucket", AccessKeyID: "i", AccessKeySecret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	c.http.DisableKeepAlives = true
	c.http.DialContext = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		say := *answer
		go func() {
			defer far.Close()
			if r, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(far, say) // the client may have had enough
			}
		}()
		return near, nil
	}
	return c
}

// heard is the answer as the standard library reads it; nil if it is none.
func heard(answer, method string) (r *http.Response, body string, whole bool) {
	in := bufio.NewReader(strings.NewReader(answer))
	for {
		r, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return nil, "", false
		}
		if r.StatusCode < 100 || r.StatusCode > 199 {
			p, err := io.ReadAll(r.Body)
			return r, string(p), err == nil
		}
	}
}

const (
	sayOK    = "HTTP/1.1 200 OK\r\nX-Oss-Request-Id: 1\r\nX-Oss-Next-Append-Position: 8\r\nX-Oss-Hash-Crc64ecma: 7\r\nX-Oss-Object-Type: Appendable\r\nContent-Length: 3\r\n\r\nabc"
	sayRange = "HTTP/1.1 206 Partial Content\r\nX-Oss-Request-Id: 1\r\nContent-Range: bytes 5-8/20\r\nContent-Length: 4\r\n\r\nabcd"
	sayList  = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n\r\n<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>" +
		"<Contents><Key>a%2Fb</Key><Size>5</Size><LastModified>2026-11-22T10:00:00.000Z</LastModified></Contents></ListBucketResult>"
)

func sayError(status, code string) string {
	return "HTTP/1.1 " + status + " x\r\nX-Oss-Request-Id: 1\r\nX-Oss-Next-Append-Position: 9\r\nX-Oss-Qos-Delay-Time: 20\r\n" +
		"X-Oss-Err: PEVycm9yPjxDb2RlPk5vU3VjaEtleTwvQ29kZT48L0Vycm9yPg==\r\n\r\n<Error><Code>" + code + "</Code><Message>m</Message><RequestId>1</RequestId></Error>"
}

// FuzzAnswer hears any bytes for an answer. What comes back as a success says so
// in full, and what is taken for a clear no is one: the rest is in doubt.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{sayOK, sayRange, sayList, sayError("404", "NoSuchKey"), sayError("409", "PositionNotEqualToLength"), sayError("403", "AccessDenied"),
		sayError("500", "NoSuchKey"), sayError("503", "SlowDown"), sayError("409", "FileAlreadyExists"), sayError("409", "ObjectNotAppendable"), sayError("400", "InvalidArgument"),
		strings.Replace(sayRange, "5-8", "5-7", 1), strings.Replace(sayRange, "5-8/20", "5-8/9", 1), "HTTP/1.1 416 x\r\nContent-Range: bytes */5\r\n\r\n",
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 301 x\r\nLocation: /x\r\n\r\n", "HTTP/1.1 416 x\r\nContent-Range: bytes */3\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "HTTP/1.1 100 Continue\r\n\r\n" + sayOK, "junk"} {
		for op := range uint8(5) {
			f.Add(op, s)
		}
	}
	var say string
	c := saying(f, &say)
	f.Fuzz(func(t *testing.T, op uint8, answer string) {
		say = answer
		ctx := t.Context()
		var err error
		var ok func(r *http.Response, body string, whole bool) bool
		method := "GET"
		switch op % 5 {
		case 0:
			method = "POST"
			var a object.Appended
			a, err = c.Append(ctx, "k", 5, object.Body{[]byte("abc")}, nil)
			ok = func(r *http.Response, _ string, _ bool) bool {
				next, err1 := strconv.ParseInt(r.Header.Get("X-Oss-Next-Append-Position"), 10, 64)
				crc, err2 := strconv.ParseUint(r.Header.Get("X-Oss-Hash-Crc64ecma"), 10, 64)
				return r.StatusCode == 200 && err1 == nil && err2 == nil && a.Next == next && a.CRC64 == crc
			}
		case 1:
			method = "HEAD"
			var i object.Info
			i, err = c.Head(ctx, "k")
			ok = func(r *http.Response, _ string, _ bool) bool {
				length, err1 := strconv.ParseInt(r.Header.Get("Content-Length"), 10, 64)
				crc, err2 := strconv.ParseUint(r.Header.Get("X-Oss-Hash-Crc64ecma"), 10, 64)
				appendable := r.Header.Get("X-Oss-Object-Type") == "Appendable"
				return r.StatusCode == 200 && err1 == nil && i.Length == length && i.Length >= 0 && i.Appendable == appendable &&
					(err2 == nil && i.CRC64 == crc || !appendable && i.CRC64 == 0)
			}
		case 2, 3:
			from, to := int64(5), int64(9)
			if op%5 == 3 {
				from, to = 0, -1
			}
			var in io.ReadCloser
			var p []byte
			if in, err = c.Read(ctx, "k", from, to); err == nil {
				p, err = io.ReadAll(in)
				in.Close()
			}
			ok = func(r *http.Response, body string, whole bool) bool {
				if op%5 == 3 {
					return r.StatusCode == 200 && whole && string(p) == body && (r.ContentLength < 0 || r.ContentLength == int64(len(p)))
				}
				if r.StatusCode == 416 { // from is its length
					return len(p) == 0 && r.Header.Get("Content-Range") == "bytes */5"
				}
				total, _ := strings.CutPrefix(r.Header.Get("Content-Range"), strings.Split(r.Header.Get("Content-Range"), "/")[0]+"/")
				first, last, found := strings.Cut(strings.TrimPrefix(strings.Split(r.Header.Get("Content-Range"), "/")[0], "bytes "), "-")
				a, _ := strconv.ParseInt(first, 10, 64)
				b, _ := strconv.ParseInt(last, 10, 64)
				return r.StatusCode == 206 && found && a == 5 && (b == 8 || total == strconv.FormatInt(b+1, 10)) && int64(len(p)) == b-a+1 && strings.HasPrefix(body, string(p))
			}
		case 4:
			var got []string
			err = c.List(ctx, "", func(e object.Entry) error { got = append(got, e.Key); return nil })
			ok = func(r *http.Response, body string, _ bool) bool { return r.StatusCode == 200 && sameKeys(body, got) }
		}
		r, body, whole := heard(answer, method)
		if err == nil {
			if r == nil || !ok(r, body, whole) {
				t.Fatalf("operation %d takes this for a success: %q", op%5, answer)
			}
			return
		}
		var e *object.Error
		if !errors.As(err, &e) {
			t.Fatalf("%T %v", err, err)
		}
		_ = e.Error()
		status := 0
		if r != nil {
			status = r.StatusCode
		}
		fits := true
		switch e.Kind {
		case object.NotFound:
			fits = status == 404 && (strings.Contains(answer, "NoSuchKey") || r.Header.Get("X-Oss-Request-Id") != "" || strings.Contains(answer, "RequestId") || r.Header.Get("X-Oss-Err") != "")
		case object.Mismatch:
			fits = status == 409 && method == "POST" || status == 416 && op%5 == 2
		case object.Unappendable:
			fits = status == 409
		case object.Refused:
			fits = status >= 300 && status < 500
		case object.Invalid:
			fits = status >= 400 && status < 500 || status == 501
		case object.Throttled:
			fits = status >= 400
		}
		if !fits || status == 0 && e.Kind != object.InDoubt {
			t.Fatalf("operation %d takes this for %v: %q", op%5, e, answer)
		}
	})
}

// sameKeys reads a listing on its own.
func sameKeys(body string, got []string) bool {
	var v struct {
		XMLName      xml.Name `xml:"ListBucketResult"`
		EncodingType string
		Contents     []struct{ Key string }
	}
	if xml.Unmarshal([]byte(body), &v) != nil || len(v.Contents) != len(got) {
		return false
	}
	for i, o := range v.Contents {
		if key, err := url.QueryUnescape(o.Key); err != nil || key != got[i] {
			return false
		}
	}
	return true
}
