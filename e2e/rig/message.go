//go:build unix

package rig

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Routes archive what message makes, in every format and codec; the
// configuration takes them as they stand, and SeriesOf must say the same.
const Routes = `      - {name: debug, subjects: ["ev.*.debug.>"], skip: true}
      - name: orders
        subjects: ["ev.*.order.>"]
        series: "orders/{{wildcard(1)}}/{{time(%F/%H%M%S)}}"
        flush: {events: 500, linger: 50ms}
        roll: {idle: 2s}
      - name: audit
        subjects: ["ev.*.audit.>"]
        series: "audit/{{wildcard(1)}}"
        codec: zstd
        audit: true
        flush: {size: 32KiB, linger: 30ms}
        roll: {size: 128KiB}
      - name: blobs
        subjects: ["ev.*.blob.>"]
        series: "blobs/{{wildcard(1)}}/{{header(Tenant)|none}}"
        codec: plain
        flush: {linger: 40ms}
        roll: {age: 3s}
      - name: notes
        subjects: ["ev.*.note.>"]
        series: "notes/{{token(4)}}"
        flush: {size: 16KiB, linger: 20ms}
      - name: lines
        subjects: ["ev.*.line.>"]
        series: "lines/{{wildcard(1)}}/{{time(%F-%H%M)}}"
        format: raw
        flush: {events: 100, linger: 30ms}
`

// SeriesOf is where an event belongs, "" if it is not archived.
func SeriesOf(subject string, headers map[string][]string, ts time.Time) string {
	t := strings.Split(subject, ".")
	ts = ts.UTC()
	switch t[2] {
	case "order":
		return "orders/" + t[1] + ts.Format("/2006-01-02/150405")
	case "audit":
		return "audit/" + t[1]
	case "blob":
		tenant := "none"
		if v := headers["Tenant"]; len(v) > 0 {
			tenant = v[0]
		}
		return "blobs/" + t[1] + "/" + tenant
	case "note":
		return "notes/" + t[3]
	case "line":
		return "lines/" + t[1] + ts.Format("/2006-01-02-1504")
	}
	return ""
}

// Message makes the i-th message of a seed, always the same one.
func Message(seed uint64, i int) *nats.Msg {
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	region := []string{"eu", "us", "ap"}[r.IntN(3)]
	kind := []string{"order", "order", "order", "audit", "audit", "blob", "note", "line", "line", "note"}[r.IntN(10)]
	if r.IntN(50) == 0 {
		kind = "debug"
	}
	m := nats.NewMsg(fmt.Sprintf("ev.%s.%s.%d", region, kind, r.IntN(4)))
	m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%x-%d", seed, i))
	switch kind {
	case "order", "audit":
		m.Data, _ = json.Marshal(map[string]any{"i": i, "total": r.Float64(), "note": "größe ✓ \u2028", "items": []int{r.IntN(9), r.IntN(9)}, "pad": strings.Repeat("x", r.IntN(200))})
		if r.IntN(2) == 0 {
			m.Header.Add("Trace", fmt.Sprint(r.Uint64()))
			m.Header.Add("Trace", "zweite \"Zeile\"")
		}
	case "blob":
		m.Data = make([]byte, r.IntN(600))
		for j := range m.Data {
			m.Data[j] = byte(r.Uint32())
		}
		if r.IntN(3) > 0 {
			m.Header.Set("Tenant", []string{"red", "blue"}[r.IntN(2)])
		}
	case "note":
		m.Data = []byte([]string{"", "plain text", "two\nlines\r\n", " {\"spaces\": 1} ", "{broken", "\"string\"", "12", "\x00\x01", "nul"}[r.IntN(9)])
		m.Data = append(m.Data, fmt.Sprintf(" %d", i)[:r.IntN(2)]...)
	case "line":
		m.Data = fmt.Appendf(nil, "level=info i=%d msg=%q", i, strings.Repeat("y", r.IntN(80)))
	default:
		m.Data = fmt.Appendf(nil, "%d", i)
	}
	return m
}
