package ossemu

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// receive reads the body of a put or append.
func (s *Server) receive(r *request, limit int64, onDisk bool) (*body, error) {
	for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if r.Header.Get(name) != "" {
			return nil, errorf(400, "NotImplemented", "A header you provided implies functionality that is not implemented.", "0017-00000802", [2]string{"Header", name})
		}
	}
	// A request that says nothing has no body for net/http, as one that says 0.
	if len(r.TransferEncoding) == 0 && (r.ContentLength < 0 || r.Body == http.NoBody && r.Header.Get("Content-Length") == "") {
		return nil, errorf(411, "MissingContentLength", "You must provide the Content-Length HTTP header.", "0017-00000101")
	}
	if r.ContentLength > limit {
		return nil, errorf(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.", "0017-00000601")
	}
	bits, err := trafficLimit(r)
	if err != nil {
		return nil, err
	}
	var from io.Reader = r.Body
	if bits > 0 {
		r.paced = newPaced(r, bits)
		from = pacedReader{from, r.paced}
	}
	want := r.Header.Get("Content-Md5")
	b, err := readBody(s.store.files, from, r.ContentLength, limit, onDisk, onDisk || want != "")
	if err != nil {
		var api *apiError
		if errors.As(err, &api) {
			return nil, err
		}
		return nil, errorf(400, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period.", "0017-00000701")
	}
	if err := checkMD5(r, b.md5); err != nil {
		b.drop(s.store.files)
		return nil, err
	}
	return b, nil
}

func checkMD5(r *request, have [md5.Size]byte) error {
	want := r.Header.Get("Content-Md5")
	if want == "" {
		return nil
	}
	sum, err := base64.StdEncoding.DecodeString(want)
	if err != nil || len(sum) != md5.Size || [md5.Size]byte(sum) != have {
		return errorf(400, "InvalidDigest", "The Content-MD5 you specified was invalid.", "0017-00000501", [2]string{"Content-MD5", want})
	}
	return nil
}

// position reads where an append starts.
func position(r *request) (int64, error) {
	text, ok := r.get("position")
	if !ok {
		return 0, errorf(400, "MissingArgument", "Missing Some Required Arguments.", "0017-00000901", [2]string{"ArgumentName", "position"})
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, invalidArgument("position", text, "The argument must be a non-negative integer.")
	}
	return n, nil
}

func (s *Server) appendObject(w http.ResponseWriter, r *request) error {
	at, err := position(r)
	if err != nil {
		return err
	}
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	attrs, err := newAttributes(r.Header, appendClasses)
	if err != nil {
		return err
	}
	if err := errors.Join(s.publicAllowed(attrs.ACL), s.appendVariants(r, at, &attrs)); err != nil {
		return err
	}
	b, err := s.receive(r, s.opt.MaxObject, false)
	if err != nil {
		return err
	}
	defer b.drop(s.store.files)
	st, err := s.store.append(r.bucket, r.key, at, b, attrs)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("X-Oss-Next-Append-Position", strconv.FormatInt(st.Length, 10))
	h.Set("X-Oss-Hash-Crc64ecma", formatCRC(st.CRC))
	h.Set("ETag", `"`+st.ETag+`"`)
	r.paced.header(h)
	st.encryptionHeaders(h)
	versionHeader(w, &st)
	return done(w, http.StatusOK)
}

// appendVariants refuses what one side of the documents says is refused.
func (s *Server) appendVariants(r *request, at int64, attrs *attributes) error {
	v := s.opt.Variants
	if v.NoKeyIDOnAppend && attrs.SSEKey != "" {
		return invalidArgument("x-oss-server-side-encryption-key-id", attrs.SSEKey, "An appendable object cannot be encrypted with a key of your own.")
	}
	if v.NoMetaOnLaterAppends && at > 0 {
		for name := range attrs.Header {
			if strings.HasPrefix(name, metaPrefix) {
				return invalidArgument(strings.ToLower(name), "", "An append to an object cannot carry user metadata.")
			}
		}
	}
	if v.ForbidOverwriteOnAppend && forbidsOverwrite(r) {
		if b, _ := s.store.bucketState(r.bucket); b.Versioning == "" {
			if _, _, err := s.store.look(r.bucket, r.key, "", false); err == nil {
				return fileAlreadyExists()
			}
		}
	}
	return nil
}

func (s *Server) sealObject(w http.ResponseWriter, r *request) error {
	at, err := position(r)
	if err != nil {
		return err
	}
	if s.opt.Variants.NoSeal {
		return errorf(400, "OperationNotSupported", "SealAppendable is not supported.", "0016-00000513")
	}
	st, err := s.store.seal(r.bucket, r.key, at)
	if err != nil {
		return err
	}
	w.Header().Set("X-Oss-Sealed-Time", st.Sealed.Format(http.TimeFormat))
	return done(w, http.StatusOK)
}

func (s *Server) putObject(w http.ResponseWriter, r *request) error {
	if r.Header.Get("X-Oss-Copy-Source") != "" {
		return s.copyObject(w, r)
	}
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	attrs, err := newAttributes(r.Header, allClasses)
	if err != nil {
		return err
	}
	if err := s.publicAllowed(attrs.ACL); err != nil {
		return err
	}
	b, err := s.receive(r, s.opt.MaxObject, true)
	if err != nil {
		return err
	}
	defer b.drop(s.store.files)
	st, err := s.store.put(r.bucket, r.key, b, state{attributes: attrs}, forbidsOverwrite(r))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("ETag", `"`+st.ETag+`"`)
	h.Set("X-Oss-Hash-Crc64ecma", formatCRC(st.CRC))
	h.Set("Content-Md5", base64.StdEncoding.EncodeToString(b.md5[:]))
	r.paced.header(h)
	st.encryptionHeaders(h)
	versionHeader(w, &st)
	return done(w, http.StatusOK)
}

func formatCRC(crc uint64) string { return strconv.FormatUint(crc, 10) }

func (s *Server) deleteObject(w http.ResponseWriter, r *request) error {
	gone, err := s.store.remove(r.bucket, r.key, r.value("versionId"))
	if err != nil {
		return err
	}
	if gone.version != "" {
		w.Header().Set("X-Oss-Version-Id", gone.version)
	}
	if gone.marker {
		w.Header().Set("X-Oss-Delete-Marker", "true")
	}
	return done(w, http.StatusNoContent)
}

// objectMeta tells the least about an object.
func (s *Server) objectMeta(w http.ResponseWriter, r *request) error {
	st, _, err := s.store.look(r.bucket, r.key, r.value("versionId"), false)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("ETag", `"`+st.ETag+`"`)
	h.Set("Last-Modified", st.Modified.UTC().Format(http.TimeFormat))
	h.Set("X-Oss-Hash-Crc64ecma", formatCRC(st.CRC))
	versionHeader(w, &st)
	h.Set("Content-Length", strconv.FormatInt(st.Length, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}

// getObject serves get and head.
func (s *Server) getObject(w http.ResponseWriter, r *request) error {
	bits, err := trafficLimit(r)
	if err != nil {
		return err
	}
	st, f, err := s.store.look(r.bucket, r.key, r.value("versionId"), r.op == "get")
	if err != nil {
		return err
	}
	if f != nil {
		defer f.Close()
		if err := s.readable(r, &st); err != nil {
			return err
		}
	}
	h := w.Header()
	s.describe(h, r, &st)
	if status := precondition(r.Header, &st); status != 0 {
		if status == http.StatusPreconditionFailed {
			return preconditionFailed()
		}
		w.WriteHeader(status)
		return nil
	}
	from, to, partial, err := byteRange(r.Header.Get("Range"), r.Header.Get("X-Oss-Range-Behavior") == "standard", st.Length)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, st.Length))
	}
	h.Set("Content-Length", strconv.FormatInt(to-from, 10))
	if f == nil {
		w.WriteHeader(status)
		return nil
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	var data io.Reader = f
	if bits > 0 {
		pace := newPaced(r, bits)
		data = pacedReader{f, pace}
		pace.slept = time.Duration(float64((to-from)*8) / float64(bits) * float64(time.Second))
		pace.header(h)
	}
	w.WriteHeader(status)
	// Fewer bytes than announced make net/http cut the connection, which is
	// what a reader must see.
	_, _ = io.CopyN(w, data, to-from)
	return nil
}

// describe sets the headers about an object.
func (s *Server) describe(h http.Header, r *request, st *state) {
	st.headers(h)
	h.Set("ETag", `"`+st.ETag+`"`)
	h.Set("Last-Modified", st.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Oss-Object-Type", objectType(st))
	h.Set("X-Oss-Hash-Crc64ecma", formatCRC(st.CRC))
	if st.Appendable {
		h.Set("X-Oss-Next-Append-Position", strconv.FormatInt(st.Length, 10))
	}
	if !st.Sealed.IsZero() {
		h.Set("X-Oss-Sealed-Time", st.Sealed.Format(http.TimeFormat))
	}
	if st.Version != "" {
		h.Set("X-Oss-Version-Id", st.Version)
	}
	if st.MD5 != "" {
		h.Set("Content-Md5", st.MD5)
	}
	s.restoreHeader(h, st)
	for _, p := range r.query {
		if name, ok := strings.CutPrefix(p.name, "response-"); ok && p.value != "" {
			for _, k := range kept {
				if strings.EqualFold(name, k) {
					h.Set(k, p.value)
				}
			}
		}
	}
}

func preconditionFailed() *apiError {
	return errorf(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.", "0026-00000030")
}

func fileAlreadyExists() *apiError {
	return errorf(409, "FileAlreadyExists", "The object you specified already exists and can not be overwritten.", "0026-00000008")
}

func objectType(st *state) string {
	switch {
	case st.Appendable:
		return "Appendable"
	case st.Multipart:
		return "Multipart"
	}
	return "Normal"
}

// precondition returns 0, 304 or 412.
func precondition(h http.Header, st *state) int {
	etag := func(v string) bool { return v == "*" || strings.Trim(v, `"`) == st.ETag }
	modified := st.Modified.Truncate(time.Second)
	if v := h.Get("If-Match"); v != "" && !etag(v) {
		return http.StatusPreconditionFailed
	}
	if t, err := http.ParseTime(h.Get("If-Unmodified-Since")); err == nil && modified.After(t) {
		return http.StatusPreconditionFailed
	}
	if v := h.Get("If-None-Match"); v != "" && etag(v) {
		return http.StatusNotModified
	}
	if t, err := http.ParseTime(h.Get("If-Modified-Since")); err == nil && !modified.After(t) {
		return http.StatusNotModified
	}
	return 0
}

// byteRange reads a Range header against an object's length. A range that the
// service does not understand, and without "standard" behaviour one that leaves
// the object, is passed over: the whole object is the answer.
func byteRange(value string, standard bool, length int64) (from, to int64, partial bool, err error) {
	text, ok := strings.CutPrefix(value, "bytes=")
	first, last, dash := strings.Cut(text, "-")
	if !ok || !dash {
		return 0, length, false, nil
	}
	if first == "" {
		n, err := number(last)
		if err != nil {
			return 0, length, false, nil //nolint:nilerr // passed over
		}
		from, to = max(0, length-n), length
		if n == 0 || length == 0 || n > length && !standard {
			from, to = length, length
		}
	} else {
		if from, err = number(first); err != nil {
			return 0, length, false, nil //nolint:nilerr // passed over
		}
		to = length
		if last != "" {
			n, err := number(last)
			if err != nil || n < from {
				return 0, length, false, nil //nolint:nilerr // passed over
			}
			if n >= length && !standard {
				return 0, length, false, nil
			}
			to = min(n, length-1) + 1
		}
	}
	if from >= length {
		if !standard {
			return 0, length, false, nil
		}
		e := errorf(416, "InvalidRange", "The requested range cannot be satisfied.", "0017-00000903", [2]string{"ActualObjectSize", strconv.FormatInt(length, 10)}, [2]string{"RangeRequested", value})
		e.Header = map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", length)}
		return 0, 0, false, e
	}
	return from, to, true, nil
}

// number reads digits, without the sign that ParseInt takes.
func number(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
