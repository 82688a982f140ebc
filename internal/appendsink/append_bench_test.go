package appendsink

// What one append costs, from the event to the answer of a store behind HTTP: the
// same for a batch of one event and of thousands.

import (
	"bufio"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/objectstore"
)

// peer is an OSS of a few lines: it takes appends and answers with position and
// CRC-64, and has nothing to read. It is to cost next to nothing, so it looks at the
// bytes of a request and not at their meaning.
type peer struct {
	mu      sync.Mutex
	objects map[string]object.Appended
	counts  map[string]int // requests, by method
}

func newPeer(t testing.TB) (*peer, *objectstore.Client) {
	p := &peer{objects: map[string]object.Appended{}, counts: map[string]int{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	c, err := objectstore.New(objectstore.Options{Endpoint: "http://" + l.Addr().String(), Bucket: "bucket",
		AccessKeyID: "id", AccessKeySecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return p, c
}

const listing = xml.Header + "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

func (p *peer) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	var body, out []byte
	for {
		first, err := r.ReadString('\n')
		if err != nil {
			return
		}
		method, target, _ := strings.Cut(first, " ")
		length := 0
		for {
			h, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(h) <= 2 {
				break
			}
			if name, value, _ := strings.Cut(string(h), ": "); name == "Content-Length" {
				length, _ = strconv.Atoi(strings.TrimSpace(value))
			}
		}
		if cap(body) < length {
			body = make([]byte, length)
		}
		if _, err := io.ReadFull(r, body[:length]); err != nil {
			return
		}
		out = p.answer(out[:0], method, target, body[:length])
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// answer appends the answer, with the headers that OSS sends.
func (p *peer) answer(out []byte, method, target string, body []byte) []byte {
	const about = "Server: AliyunOSS\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: keep-alive\r\nx-oss-request-id: 5F3A1B2C3D4E5F6071829304\r\nx-oss-server-time: 5\r\n"
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[method]++
	switch method {
	case "GET":
		return fmt.Appendf(out, "HTTP/1.1 200 OK\r\n"+about+"Content-Type: application/xml\r\nContent-Length: %d\r\n\r\n"+listing, len(listing))
	case "HEAD":
		return append(out, "HTTP/1.1 404 Not Found\r\n"+about+"\r\n"...)
	}
	key, query, _ := strings.Cut(target, "?")
	_, at, _ := strings.Cut(query, "position=")
	at, _, _ = strings.Cut(at, " ")
	o := p.objects[key]
	if at != strconv.FormatInt(o.Next, 10) {
		return append(out, "HTTP/1.1 409 Conflict\r\n"+about+"Content-Length: 0\r\n\r\n"...)
	}
	o.Next, o.CRC64 = o.Next+int64(len(body)), object.CRC64(o.CRC64, body)
	p.objects[key] = o
	out = append(out, "HTTP/1.1 200 OK\r\n"+about+"Content-Length: 0\r\nETag: \"5F3A1B2C3D4E5F6071829304A5B6C7D8\"\r\nx-oss-hash-crc64ecma: "...)
	out = strconv.AppendUint(out, o.CRC64, 10)
	out = append(out, "\r\nx-oss-next-append-position: "...)
	return append(strconv.AppendInt(out, o.Next, 10), "\r\n\r\n"...)
}

// processor is the time that the process had of the processors.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppend takes 15 events of 1 KiB to each of many series, eight appends at a
// time. One operation is one append; cpu-ns is what it takes of the processors, the
// store's part included. With next, the series have been appended to before.
func BenchmarkAppend(b *testing.B) {
	const batch, atOnce = 15, 8
	for _, known := range []bool{true, false} {
		name := "first"
		if known {
			name = "next"
		}
		b.Run(name, func(b *testing.B) {
			series := 1000
			if !known {
				series = b.N
			}
			p, store := newPeer(b)
			l := newLine(b, series, 1024, batch, event.Plain, store, atOnce)
			round := func(n int) {
				for i := range n {
					for range batch {
						l.put(b, i)
					}
					// No more in the line than a batch for each request and one behind it.
					l.waitFor(int64(l.event.Sequence) - 2*atOnce*batch)
				}
				l.wait()
			}
			if known {
				round(series)
			}
			clear(p.counts)
			b.ReportAllocs()
			before := processor()
			b.ResetTimer()
			for left := b.N; left > 0; left -= series {
				round(min(left, series))
			}
			b.StopTimer()
			b.ReportMetric(float64(processor()-before)/float64(b.N), "cpu-ns/op")
			for _, method := range []string{"POST", "HEAD", "GET"} {
				if n := p.counts[method]; n > 0 {
					b.ReportMetric(float64(n)/float64(b.N), method+"/op")
				}
			}
			if err := l.set.Drain(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
