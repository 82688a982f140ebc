package objectstore

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what the service asks for
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/object"
)

// Append appends body to key at position and returns what the service said of
// it. create goes with position 0 and is ignored elsewhere: what later appends
// would do with such headers is not documented.
//
// A cancelled or timed out context leaves the append in doubt: the bytes may be
// on their way.
func (c *Client) Append(ctx context.Context, key string, position int64, body object.Body, create *object.Create) (object.Appended, error) {
	if key == "" {
		return object.Appended{}, noKey("append") // or it would be sent to the bucket
	}
	size := body.Len()
	ctx, cancel, a := c.withTimeout(ctx, size)
	defer cancel()
	// An empty reader would go out chunked.
	var r io.Reader
	if size > 0 {
		r = newUpload(body)
	}
	options := []oss.Option{oss.WithContext(ctx)}
	if c.opt.ContentMD5 && size > 0 {
		sum := md5.New() //nolint:gosec // what the service asks for
		for _, p := range body {
			sum.Write(p)
		}
		options = append(options, oss.ContentMD5(base64.StdEncoding.EncodeToString(sum.Sum(nil))))
	}
	if c.opt.TrafficLimit > 0 {
		options = append(options, oss.TrafficLimitHeader(c.opt.TrafficLimit))
	}
	if position == 0 {
		at := c.opt.Create
		if create != nil {
			at = over(at, *create)
		}
		options = append(options, headers(at)...)
		a.needs = needs(at)
	}
	// DoAppendObject, since AppendObject hides the position that was committed
	// whenever it also has an error.
	_, err := c.bucket.DoAppendObject(&oss.AppendObjectRequest{ObjectKey: key, Reader: r, Position: position}, options)
	if err != nil {
		return object.Appended{}, c.fail("append", key, position, a, err)
	}
	// The SDK reads a missing or garbled header as 0 and any 2xx as success, so
	// the headers are read here.
	if a.status != http.StatusOK {
		return object.Appended{}, c.fail("append", key, position, a, fmt.Errorf("answered with %d instead of 200", a.status))
	}
	next, err := strconv.ParseInt(a.header.Get(headerNext), 10, 64)
	if err != nil {
		return object.Appended{}, c.fail("append", key, position, a, fmt.Errorf("200 without a next position: %q", a.header.Get(headerNext)))
	}
	crc, err := strconv.ParseUint(a.header.Get(headerCRC), 10, 64)
	if err != nil {
		return object.Appended{}, c.fail("append", key, position, a, fmt.Errorf("200 without a checksum: %q", a.header.Get(headerCRC)))
	}
	return object.Appended{Next: next, CRC64: crc, RequestID: a.header.Get(oss.HTTPHeaderOssRequestID)}, nil
}

func noKey(op string) error {
	return &object.Error{Op: op, Kind: object.Invalid, Length: -1, Message: "the object's key is empty"}
}

// Header returns all that the service says of the object, as it says it.
func (c *Client) Header(ctx context.Context, key string) (http.Header, error) {
	h, _, err := c.header(ctx, key)
	return h, err
}

func (c *Client) header(ctx context.Context, key string) (http.Header, *answer, error) {
	if key == "" {
		return nil, nil, noKey("head")
	}
	ctx, cancel, a := c.withTimeout(ctx, 0)
	defer cancel()
	h, err := c.bucket.GetObjectDetailedMeta(key, oss.WithContext(ctx))
	if err != nil {
		return nil, a, c.fail("head", key, -1, a, err)
	}
	return h, a, nil
}

// Head returns what the service knows of the object.
func (c *Client) Head(ctx context.Context, key string) (object.Info, error) {
	h, a, err := c.header(ctx, key)
	if err != nil {
		return object.Info{}, err
	}
	if a.status != http.StatusOK {
		return object.Info{}, c.fail("head", key, -1, a, fmt.Errorf("answered with %d instead of 200", a.status))
	}
	doubt := func(what, value string) (object.Info, error) {
		return object.Info{}, c.fail("head", key, -1, a, fmt.Errorf("200 without %s: %q", what, value))
	}
	info := object.Info{
		Appendable: h.Get("X-Oss-Object-Type") == "Appendable",
		ETag:       strings.Trim(h.Get("ETag"), `"`),
	}
	if info.Length, err = strconv.ParseInt(h.Get("Content-Length"), 10, 64); err != nil {
		return doubt("a length", h.Get("Content-Length"))
	}
	if info.CRC64, err = strconv.ParseUint(h.Get(headerCRC), 10, 64); err != nil {
		// Objects put long ago have no checksum; for an appendable one it is
		// what the protocol stands on.
		if info.Appendable {
			return doubt("a checksum", h.Get(headerCRC))
		}
		info.CRC64 = 0
	}
	info.Modified, _ = http.ParseTime(h.Get("Last-Modified"))
	return info, nil
}

// Read returns the bytes [from,to) of the object, or to its end if to is
// negative or past it. An empty range gives an empty reader, and so does from at
// the object's end; from past it is a Mismatch that carries the length.
//
// The reader fails with an *object.Error, never with io.ErrUnexpectedEOF, where
// the connection was lost or fewer bytes came than were announced: io.EOF means
// that all of the range has been read.
func (c *Client) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	if key == "" {
		return nil, noKey("read")
	}
	if from < 0 || to >= 0 && to < from {
		return nil, &object.Error{Op: "read", Key: key, Kind: object.Invalid, Length: -1, Message: fmt.Sprintf("no such range: %d to %d", from, to)}
	}
	if to == from {
		// No range can say this. The object must still be there.
		info, err := c.Head(ctx, key)
		if err != nil {
			return nil, err
		}
		return c.atEnd(key, from, info.Length)
	}
	a := &answer{}
	parent := ctx
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, answerKey{}, a))
	watch := watchdog{time.AfterFunc(c.opt.Timeout, func() {
		cancel(fmt.Errorf("nothing came for %s", c.opt.Timeout))
	}), c.opt.Timeout}
	options := []oss.Option{oss.WithContext(ctx)}
	ranged := from > 0 || to >= 0
	if ranged {
		r := strconv.FormatInt(from, 10) + "-"
		if to >= 0 {
			r += strconv.FormatInt(to-1, 10)
		}
		// Without "standard" a range that leaves the object is answered with
		// the whole of it.
		options = append(options, oss.NormalizedRange(r), oss.RangeBehavior("standard"))
	}
	res, err := c.bucket.DoGetObject(&oss.GetObjectRequest{ObjectKey: key}, options)
	watch.stop()
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		if a.status == http.StatusRequestedRangeNotSatisfiable {
			return c.pastEnd(parent, key, from, a)
		}
		if a.status == 0 && cause != nil {
			err = cause
		}
		return nil, c.fail("read", key, -1, a, err)
	}
	body := res.Response.Body
	want := int64(-1)
	if n, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64); err == nil {
		want = n
	}
	whole := a.status == http.StatusOK
	if ranged {
		// All of what was asked for, or up to the object's end.
		start, end, length, ok := contentRange(a.header.Get("Content-Range"))
		whole = a.status == http.StatusPartialContent && ok && start == from && (end == length || end == to)
		want = end - start
	}
	if !whole {
		body.Close()
		cancel(nil)
		return nil, c.fail("read", key, -1, a, fmt.Errorf("asked for the bytes from %d to %d, answered with %d and %q", from, to, a.status, a.header.Get("Content-Range")))
	}
	return &reader{c: c, key: key, ctx: ctx, cancel: cancel, watch: watch, body: body, want: want, a: a}, nil
}

// atEnd is a read of nothing at from, in an object of this length.
func (c *Client) atEnd(key string, from, length int64) (io.ReadCloser, error) {
	if from > length {
		return nil, &object.Error{Op: "read", Key: key, Kind: object.Mismatch, Status: http.StatusRequestedRangeNotSatisfiable, Code: "InvalidRange", Length: length,
			Message: fmt.Sprintf("the object has %d bytes, asked for those from %d", length, from)}
	}
	return io.NopCloser(bytes.NewReader(nil)), nil
}

// pastEnd answers a 416: from is the object's length or more.
func (c *Client) pastEnd(ctx context.Context, key string, from int64, a *answer) (io.ReadCloser, error) {
	if rest, ok := strings.CutPrefix(a.header.Get("Content-Range"), "bytes */"); ok {
		if length, err := strconv.ParseInt(rest, 10, 64); err == nil && from >= length {
			return c.atEnd(key, from, length)
		}
	}
	info, err := c.Head(ctx, key)
	if err != nil {
		return nil, err
	}
	if from < info.Length {
		// It has grown since. Nothing was wrong, but nothing was read either.
		return nil, c.fail("read", key, -1, &answer{}, fmt.Errorf("the object grew from %d while it was read", from))
	}
	return c.atEnd(key, from, info.Length)
}

// contentRange parses "bytes 5-9/20" into [5,10) of 20; the length is -1 if it is
// not told.
func contentRange(s string) (start, end, length int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	s, total, _ := strings.Cut(s, "/")
	first, last, found := strings.Cut(s, "-")
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	length, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		length = -1
	}
	return start, end + 1, length, ok && found && err1 == nil && err2 == nil && start >= 0 && end >= start && end < math.MaxInt64
}

// watchdog cancels a read on which nothing comes. It runs only while we wait,
// since a reader may take its time between two reads.
type watchdog struct {
	*time.Timer
	d time.Duration
}

func (w watchdog) start() { w.Reset(w.d) }
func (w watchdog) stop()  { w.Stop() }

type reader struct {
	c      *Client
	key    string
	ctx    context.Context //nolint:containedctx // of this one request, for its cause
	cancel context.CancelCauseFunc
	watch  watchdog
	body   io.ReadCloser
	a      *answer
	got    int64
	want   int64 // -1: not announced
	err    error // sticky
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	r.watch.start()
	n, err := r.body.Read(p)
	r.watch.stop()
	r.got += int64(n)
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF && (r.want < 0 || r.got == r.want): //nolint:errorlint // the end is io.EOF itself
		r.err = io.EOF
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		// Not wrapped: a caller that parses would take an unexpected end for
		// the end of the object, and this is only the end of a connection.
		r.fail(fmt.Errorf("connection lost after %d of %d bytes", r.got, r.want))
	default:
		if cause := context.Cause(r.ctx); cause != nil {
			err = cause
		}
		r.fail(err)
	}
	return n, r.err
}

func (r *reader) fail(err error) { r.err = r.c.fail("read", r.key, -1, &answer{}, err) }

func (r *reader) Close() error {
	r.watch.stop()
	err := r.body.Close()
	r.cancel(nil)
	return err
}

// listPage is what the service gives at most.
const listPage = "1000"

// List calls fn for every object whose key starts with prefix, in ascending
// byte order of the keys. Pages are fetched as they are needed, so objects that
// come or go meanwhile may be seen or not. fn's error ends the listing and is
// returned as it is.
func (c *Client) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	token := ""
	for {
		page, err := c.listPage(ctx, prefix, token)
		if err != nil {
			return err
		}
		for _, o := range page.Objects {
			if err := fn(object.Entry{Key: o.Key, Size: o.Size, Modified: o.LastModified}); err != nil {
				return err
			}
		}
		if !page.IsTruncated {
			return nil
		}
		if page.NextContinuationToken == "" || page.NextContinuationToken == token {
			return c.fail("list", prefix, -1, &answer{}, errors.New("the listing goes on but does not say where"))
		}
		token = page.NextContinuationToken
	}
}

func (c *Client) listPage(ctx context.Context, prefix, token string) (oss.ListObjectsResultV2, error) {
	ctx, cancel, a := c.withTimeout(ctx, 0)
	defer cancel()
	options := []oss.Option{oss.WithContext(ctx), oss.Prefix(prefix), oss.AddParam("max-keys", listPage)}
	if token != "" {
		options = append(options, oss.ContinuationToken(token))
	}
	page, err := c.bucket.ListObjectsV2(options...)
	if err != nil {
		return page, c.fail("list", prefix, -1, a, err)
	}
	if page.XMLName.Local != "ListBucketResult" {
		return page, c.fail("list", prefix, -1, a, errors.New("the answer is no listing"))
	}
	return page, nil
}
