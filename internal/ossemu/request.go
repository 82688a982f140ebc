package ossemu

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// request is one request, taken apart.
type request struct {
	*http.Request
	id     string
	op     string // append, put, get, ...; "" if it is none of ours
	bucket string // "" for the service itself
	key    string // "" for the bucket
	sub    string // the query parameter that makes the operation what it is, or ""
	query  []param
	path   bool   // the bucket was named in the path
	paced  *paced // nil: as fast as it comes
	fault  string // the rule that has hit it
	keyID  string // whose request it is; "" until that is known
}

// param is one query parameter, decoded; the order is the sender's.
type param struct{ name, value string }

func (r *request) get(name string) (string, bool) {
	for _, p := range r.query {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

func (r *request) has(name string) bool {
	_, ok := r.get(name)
	return ok
}

func (r *request) value(name string) string {
	v, _ := r.get(name)
	return v
}

// serve answers one request: faults first, then the protocol.
func (s *Server) serve(w http.ResponseWriter, hr *http.Request) {
	if s.opt.Admin && strings.HasPrefix(hr.URL.Path, adminPath) {
		s.serveAdmin(w, hr)
		return
	}
	r, err := s.parse(hr)
	w, logged := s.requests.begin(w, r)
	defer logged()
	s.faults.count(r.op)
	defer s.faults.arrive(s.faults.mark()) // what was late before this request arrives after it
	h := w.Header()
	h.Set("Server", "AliyunOSS")
	h.Set("X-Oss-Request-Id", r.id)
	h.Set("X-Oss-Server-Time", "1")
	if err != nil {
		writeError(w, hr, r.id, asAPIError(err))
		return
	}
	s.withFaults(w, r, s.answer)
}

// answer carries the request out.
func (s *Server) answer(w http.ResponseWriter, r *request) {
	err := s.reachable(r)
	if err == nil {
		err = s.authenticate(r)
	}
	if err == nil {
		err = s.dispatch(w, r)
	}
	if err != nil {
		writeError(w, r.Request, r.id, asAPIError(err))
	}
}

// reachable refuses what came to the wrong address.
func (s *Server) reachable(r *request) error {
	if endpoint := s.opt.Elsewhere[r.bucket]; endpoint != "" {
		return errorf(403, "AccessDenied", "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.", "0003-00001403",
			[2]string{"Bucket", r.bucket}, [2]string{"Endpoint", endpoint})
	}
	// Before any signature: the vendor's SDK v2 expects it so of its requests with
	// unknown keys (TestClientExtension).
	if _, ok := s.store.bucketState(r.bucket); !ok && r.bucket != "" && r.op != "create_bucket" {
		return noSuchBucket(r.bucket)
	}
	if r.path && r.bucket != "" && s.opt.RefusePathStyle {
		return errorf(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.", "0048-00000201", [2]string{"Bucket", r.bucket})
	}
	return nil
}

func asAPIError(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	return internalError(err)
}

func (s *Server) dispatch(w http.ResponseWriter, r *request) error {
	if r.Header.Get("X-Oss-Callback") != "" || r.has("callback") {
		return notImplemented("callback")
	}
	if serve := r.route().serve; serve != nil {
		return serve(s, w, r)
	}
	if r.Method != "GET" && r.Method != "HEAD" && r.Method != "PUT" && r.Method != "POST" && r.Method != "DELETE" {
		return errorf(405, "MethodNotAllowed", "The specified method is not allowed against this resource.", "0017-00000103")
	}
	return notImplemented(r.Method + " " + r.URL.RawQuery)
}

// parse takes a request apart. It returns a request, with its id, also when it
// is refused.
func (s *Server) parse(hr *http.Request) (*request, error) {
	r := &request{Request: hr, id: newID()}
	query, err := parseQuery(hr.URL.RawQuery)
	r.query = query
	if err != nil {
		return r, invalidArgument("query", hr.URL.RawQuery, "The query string is not well-formed.")
	}
	// Keys go by what was sent: a decoded path could not tell %2F from a slash
	// at the start, and net/url would clean it.
	path := hr.URL.EscapedPath()
	path = strings.TrimPrefix(path, "/")
	r.bucket = s.hostBucket(hr.Host)
	if r.bucket == "" {
		r.path = true
		r.bucket, path, _ = strings.Cut(path, "/")
		if r.bucket, err = url.PathUnescape(r.bucket); err != nil {
			return r, errorf(400, "InvalidBucketName", "The specified bucket is not valid.", "0015-00000001")
		}
	}
	if r.key, err = url.PathUnescape(path); err != nil {
		return r, invalidName(path)
	}
	r.op = r.route().op
	// A key without a bucket is not to be taken for a request to the service: what
	// is signed names it with its bucket only.
	if (r.bucket != "" || r.key != "") && !validBucket(r.bucket) {
		text := "The specified bucket is not valid."
		if "/"+r.bucket+"/" == adminPath {
			text += " (Faults can be planted only where the emulator was started with --admin.)"
		}
		return r, errorf(400, "InvalidBucketName", text, "0015-00000001", [2]string{"BucketName", r.bucket})
	}
	if r.key != "" && !validKey(r.key) {
		return r, invalidName(r.key)
	}
	return r, nil
}

func invalidName(key string) *apiError {
	return errorf(400, "InvalidObjectName", "The specified object is not valid.", "0017-00000001", [2]string{"ObjectName", key})
}

// hostBucket returns the bucket in a virtual-hosted name.
func (s *Server) hostBucket(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.ToLower(host)
	if b := s.opt.CNames[host]; b != "" {
		return b
	}
	for _, domain := range []string{s.opt.Domain, "localhost"} {
		if domain == "" {
			continue
		}
		if b, ok := strings.CutSuffix(host, "."+domain); ok && validBucket(b) {
			return b
		}
	}
	return ""
}

func parseQuery(raw string) ([]param, error) {
	var q []param
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return q, err
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return q, err
		}
		q = append(q, param{name, value})
	}
	return q, nil
}

func validBucket(name string) bool {
	if len(name) < 3 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// validKey says what the service says: 1 to 1023 bytes of UTF-8 that do not
// start with a slash or backslash. What a file system makes of it is the
// store's business.
func validKey(key string) bool {
	return key != "" && len(key) <= 1023 && utf8.ValidString(key) && key[0] != '/' && key[0] != '\\'
}
