package ossemu

import (
	"bytes"
	"io"
	"net"
	"net/http"
)

// reset ends the connection with a TCP reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the end is only less abrupt
	}
	conn.Close()
}

// closeInOrder ends the connection with all that TCP has for it, and no answer.
func closeInOrder(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	conn.Close()
}

// memoryWriter keeps an answer from its client.
type memoryWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// cutWriter cuts the connection within the body.
type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) <= w.left {
		w.left -= int64(len(p))
		return w.ResponseWriter.Write(p)
	}
	w.ResponseWriter.Write(p[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush() // the end comes anyway
	reset(w.ResponseWriter)
	return 0, io.ErrClosedPipe
}

// changingWriter changes status and headers on their way out.
type changingWriter struct {
	http.ResponseWriter
	rule *Rule
	done bool
}

func (w *changingWriter) WriteHeader(status int) {
	if w.done {
		return
	}
	w.done = true
	for k, v := range w.rule.Headers {
		if v == "" {
			w.Header().Del(k)
		} else {
			w.Header().Set(k, v)
		}
	}
	if w.rule.Status != 0 {
		status = w.rule.Status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *changingWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.ResponseWriter.Write(p)
}
