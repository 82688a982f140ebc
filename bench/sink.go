//go:build unix

package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"hash/crc64"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// sink is a store that costs as little as a store can: it answers an append with
// the next position and the CRC-64 of the whole object, refuses one at a wrong
// position, and throws the events away. What the archive reads again on its way
// (control log and layouts) it keeps. It checks no signatures.
//
// It stands in for OSS where the pace of the writer is measured. What it cannot
// do, giving events back, is what the emulator is for.
type sink struct {
	mu      sync.Mutex
	objects map[string]*sunk
	keys    []string // of objects, sorted
	delay   time.Duration
	denied  string // part of the keys that nobody may write
	stats   sinkStats
}

// sunk is one object. Its lock is held while a body is summed, so that appends to
// other objects go on beside.
type sunk struct {
	mu     sync.Mutex
	length int64
	crc    uint64
	kept   []byte // only of the archive's own objects
}

// sinkStats count the appends of events since the last reset.
type sinkStats struct {
	Appends int64 `json:"appends"`
	Bytes   int64 `json:"bytes"`
	Refused int64 `json:"refused"`
	First   int64 `json:"first"` // Unix nanoseconds at which the first one arrived
}

var ecma = crc64.MakeTable(crc64.ECMA)

// serveSink serves until the process ends.
func serveSink(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return newSink().Serve(l)
}

func newSink() *fasthttp.Server {
	s := &sink{objects: map[string]*sunk{}}
	return &fasthttp.Server{
		Handler: s.handle, Name: "sink", MaxRequestBodySize: 1 << 30, NoDefaultDate: true,
		ReadBufferSize: 64 << 10, Logger: silent{},
	}
}

type silent struct{}

func (silent) Printf(string, ...any) {}

func (s *sink) handle(c *fasthttp.RequestCtx) {
	arrived := time.Now()
	path := string(c.Path())
	if strings.HasPrefix(path, "/_sink/") {
		s.admin(c, strings.TrimPrefix(path, "/_sink/"))
		return
	}
	_, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case c.IsPost() && c.QueryArgs().Has("append"):
		s.append(c, key, arrived)
	case c.IsHead():
		s.head(c, key)
	case c.IsGet() && key != "":
		s.get(c, key)
	case c.IsGet():
		s.list(c)
	default:
		refuse(c, 501, "NotImplemented", "the sink does not know "+string(c.Method()))
	}
}

// refuse answers as the service does. A client takes what lacks these marks for
// the words of some proxy.
func refuse(c *fasthttp.RequestCtx, status int, code, message string) {
	text := fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message><RequestId>sink</RequestId></Error>", code, message)
	c.SetStatusCode(status)
	c.SetContentType("application/xml")
	c.Response.Header.Set("x-oss-request-id", "sink")
	if c.IsHead() {
		c.Response.Header.Set("x-oss-err", base64.StdEncoding.EncodeToString([]byte(text)))
		c.Response.SkipBody = true
		return
	}
	c.SetBodyString(text)
}

// keeps says whether the object is one that the archive reads in ordinary work.
func keeps(key string) bool { return strings.Contains(key, "/_ossuary/") }

func (s *sink) append(c *fasthttp.RequestCtx, key string, arrived time.Time) {
	position, err := strconv.ParseInt(string(c.QueryArgs().Peek("position")), 10, 64)
	if err != nil {
		refuse(c, 400, "InvalidArgument", "no position")
		return
	}
	body := c.PostBody()
	s.mu.Lock()
	if s.denied != "" && strings.Contains(key, s.denied) {
		s.mu.Unlock()
		refuse(c, 403, "AccessDenied", "the sink was told to")
		return
	}
	o, delay := s.objects[key], s.delay
	if o == nil {
		o = &sunk{}
		s.objects[key] = o
		at, _ := slices.BinarySearch(s.keys, key)
		s.keys = slices.Insert(s.keys, at, key)
	}
	if !keeps(key) && s.stats.First == 0 {
		s.stats.First = arrived.UnixNano()
	}
	s.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	o.mu.Lock()
	ok := o.length == position
	if ok {
		o.crc = crc64.Update(o.crc, ecma, body)
		o.length += int64(len(body))
		if keeps(key) {
			o.kept = append(o.kept, body...)
		}
	}
	length, crc := o.length, o.crc
	o.mu.Unlock()
	if !keeps(key) {
		s.mu.Lock()
		if ok {
			s.stats.Appends++
			s.stats.Bytes += int64(len(body))
		} else {
			s.stats.Refused++
		}
		s.mu.Unlock()
	}
	describe(c, length, crc)
	if !ok {
		refuse(c, 409, "PositionNotEqualToLength", "Position is not equal to file length")
	}
}

func describe(c *fasthttp.RequestCtx, length int64, crc uint64) {
	h := &c.Response.Header
	h.Set("x-oss-next-append-position", strconv.FormatInt(length, 10))
	h.Set("x-oss-hash-crc64ecma", strconv.FormatUint(crc, 10))
	h.Set("x-oss-object-type", "Appendable")
	h.Set("x-oss-request-id", "sink")
	h.Set("ETag", `"sink"`)
}

// find returns a copy of what there is of an object; one of no length is none.
func (s *sink) find(key string) (length int64, crc uint64, kept []byte, ok bool) {
	s.mu.Lock()
	o := s.objects[key]
	s.mu.Unlock()
	if o == nil {
		return 0, 0, nil, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.length, o.crc, o.kept, o.length > 0
}

func (s *sink) head(c *fasthttp.RequestCtx, key string) {
	length, crc, _, ok := s.find(key)
	if !ok {
		refuse(c, 404, "NoSuchKey", "The specified key does not exist.")
		return
	}
	describe(c, length, crc)
	c.Response.SkipBody = true
	c.Response.Header.SetContentLength(int(length))
}

func (s *sink) get(c *fasthttp.RequestCtx, key string) {
	length, crc, kept, ok := s.find(key)
	switch {
	case !ok:
		refuse(c, 404, "NoSuchKey", "The specified key does not exist.")
		return
	case !keeps(key):
		refuse(c, 501, "NotImplemented", "the sink gives no events back")
		return
	}
	from, to := int64(0), length
	if r, ranged := strings.CutPrefix(string(c.Request.Header.Peek("Range")), "bytes="); ranged {
		first, last, _ := strings.Cut(r, "-")
		from, _ = strconv.ParseInt(first, 10, 64)
		if n, err := strconv.ParseInt(last, 10, 64); err == nil {
			to = min(n+1, length)
		}
		if from >= length {
			c.Response.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", length))
			refuse(c, 416, "InvalidRange", "The requested range cannot be satisfied")
			return
		}
		c.SetStatusCode(206)
		c.Response.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, length))
	}
	describe(c, length, crc)
	c.SetBody(kept[from:to])
}

// listing is the answer to a ListObjectsV2.
type listing struct {
	XMLName     xml.Name `xml:"ListBucketResult"`
	IsTruncated bool
	KeyCount    int
	Next        string       `xml:"NextContinuationToken,omitempty"`
	Contents    []listedItem `xml:"Contents"`
}

type listedItem struct {
	Key, LastModified, ETag, Type string
	Size                          int64
}

func (s *sink) list(c *fasthttp.RequestCtx) {
	prefix, after := string(c.QueryArgs().Peek("prefix")), string(c.QueryArgs().Peek("continuation-token"))
	most, err := strconv.Atoi(string(c.QueryArgs().Peek("max-keys")))
	if err != nil {
		most = 100
	}
	var out listing
	s.mu.Lock()
	at, _ := slices.BinarySearch(s.keys, max(prefix, after))
	for _, key := range s.keys[at:] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if key == after {
			continue
		}
		if len(out.Contents) == most {
			out.IsTruncated, out.Next = true, out.Contents[most-1].Key
			break
		}
		o := s.objects[key]
		o.mu.Lock()
		if o.length > 0 {
			out.Contents = append(out.Contents, listedItem{Key: key, LastModified: "2026-01-01T00:00:00.000Z", ETag: `"sink"`, Type: "Appendable", Size: o.length})
		}
		o.mu.Unlock()
	}
	s.mu.Unlock()
	out.KeyCount = len(out.Contents)
	c.SetContentType("application/xml")
	c.Response.Header.Set("x-oss-request-id", "sink")
	_ = xml.NewEncoder(c).Encode(out) // into memory
}

// admin serves /_sink/stats, reset, delay?d=20ms and refuse?key=part.
func (s *sink) admin(c *fasthttp.RequestCtx, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch what {
	case "stats":
	case "reset":
		s.stats = sinkStats{}
	case "delay":
		d, err := time.ParseDuration(string(c.QueryArgs().Peek("d")))
		if err != nil {
			refuse(c, 400, "InvalidArgument", "d is no duration")
			return
		}
		s.delay = d
	case "refuse":
		s.denied = string(c.QueryArgs().Peek("key"))
	default:
		refuse(c, 404, "NoSuchKey", "stats, reset, delay or refuse")
		return
	}
	_ = json.NewEncoder(c).Encode(s.stats) // into memory
}
