package ossemu

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Entry is a line of the request log.
type Entry struct {
	Time      time.Time `json:"time"` // when the request came
	ID        string    `json:"id"`   // as in x-oss-request-id
	Op        string    `json:"op"`   // as in rules; "" is none that is here
	Method    string    `json:"method"`
	Host      string    `json:"host"`
	Target    string    `json:"target"` // path and query as they came, secrets included
	Bucket    string    `json:"bucket,omitempty"`
	Key       string    `json:"key,omitempty"`
	AccessKey string    `json:"access_key,omitempty"`
	Agent     string    `json:"agent,omitempty"`
	Status    int       `json:"status"` // 0: the connection ended without an answer
	Code      string    `json:"code,omitempty"`
	EC        string    `json:"ec,omitempty"`
	Fault     string    `json:"fault,omitempty"` // the rule that has hit it
	In        int64     `json:"in"`              // bytes of the request's body, -1: not said
	Out       int64     `json:"out"`             // bytes of the answer's body
	Position  *int64    `json:"position,omitempty"`
	Next      string    `json:"next,omitempty"` // x-oss-next-append-position
	Took      Duration  `json:"took"`
}

// requestLog writes entries, one line each.
type requestLog struct {
	mu  sync.Mutex
	w   io.Writer
	log zerolog.Logger // gets a short form at level debug
}

// noting is a writer that remembers what the log wants to know.
type noting struct {
	http.ResponseWriter
	entry Entry
}

func (w *noting) WriteHeader(status int) {
	if w.entry.Status == 0 {
		w.entry.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *noting) Write(p []byte) (int, error) {
	if w.entry.Status == 0 {
		w.entry.Status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.entry.Out += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *noting) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// begin notes a request; logged writes the line, where anybody wants it.
func (l *requestLog) begin(w http.ResponseWriter, r *request) (http.ResponseWriter, func()) {
	if l.w == nil && !l.log.Debug().Enabled() {
		return w, func() {}
	}
	nw := &noting{ResponseWriter: w, entry: Entry{
		Time: time.Now(), ID: r.id, Op: r.op, Method: r.Method, Host: r.Host, Target: r.URL.RequestURI(), Bucket: r.bucket, Key: r.key,
		Agent: r.UserAgent(), In: r.ContentLength,
	}}
	return nw, func() {
		e := &nw.entry
		e.Took, e.AccessKey, e.Fault = Duration(time.Since(e.Time)), r.keyID, r.fault
		if r.op == "append" || r.op == "seal" {
			if at, err := position(r); err == nil {
				e.Position = &at
			}
			e.Next = nw.Header().Get("X-Oss-Next-Append-Position")
		}
		l.log.Debug().Str("op", e.Op).Str("bucket", e.Bucket).Str("key", e.Key).Str("request", e.ID).Int("status", e.Status).Str("code", e.Code).Dur("took", time.Duration(e.Took)).Msg("request")
		if l.w == nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		_ = json.NewEncoder(l.w).Encode(e) // a log that cannot be written must not fail requests
	}
}

// note remembers the error that is being answered.
func note(w http.ResponseWriter, e *apiError) {
	for {
		switch v := w.(type) {
		case *noting:
			v.entry.Code, v.entry.EC = e.Code, e.EC
			return
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return
		}
	}
}
