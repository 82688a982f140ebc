package ossemu

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// The service's bounds of x-oss-traffic-limit, in bits per second.
const (
	minTraffic = 245760
	maxTraffic = 838860800
)

// trafficLimit reads the header, or the parameter of a presigned URL; 0 is none.
func trafficLimit(r *request) (int64, error) {
	text := r.Header.Get("X-Oss-Traffic-Limit")
	if text == "" {
		text = r.value("x-oss-traffic-limit")
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < minTraffic || n > maxTraffic {
		return 0, errorf(400, "InvalidArgument", "The traffic limit must be an integer between 245760 and 838860800.", "0017-00000904",
			[2]string{"ArgumentName", "x-oss-traffic-limit"}, [2]string{"ArgumentValue", text})
	}
	return n, nil
}

// paced lets bytes through no faster than a traffic limit.
type paced struct {
	r     *request
	bits  int64 // per second
	start time.Time
	n     int64 // bytes let through
	slept time.Duration
}

func newPaced(r *request, bits int64) *paced { return &paced{r: r, bits: bits, start: time.Now()} }

func (p *paced) pass(n int) {
	p.n += int64(n)
	due := time.Duration(float64(p.n*8) / float64(p.bits) * float64(time.Second))
	if d := due - time.Since(p.start); d > 0 {
		p.slept += d
		sleep(p.r, d)
	}
}

// delayHeader tells how long a request was held back, in milliseconds.
const delayHeader = "X-Oss-Qos-Delay-Time"

func (p *paced) header(h http.Header) {
	if p != nil {
		h.Set(delayHeader, strconv.FormatInt(p.slept.Milliseconds(), 10))
	}
}

type pacedReader struct {
	io.Reader
	*paced
}

// Read takes small parts, so that the pace is even.
func (p pacedReader) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b[:min(len(b), 16<<10)])
	p.pass(n)
	return n, err
}
