package ossemu

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// source opens what x-oss-copy-source names.
func (s *Server) source(r *request) (state, io.ReadSeekCloser, error) {
	text := r.Header.Get("X-Oss-Copy-Source")
	bad := invalidArgument("x-oss-copy-source", text, "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey.")
	name, query, _ := strings.Cut(text, "?")
	name, err := url.PathUnescape(name)
	if err != nil {
		return state{}, nil, bad
	}
	bucketName, key, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !ok || !validBucket(bucketName) || !validKey(key) {
		return state{}, nil, bad
	}
	params, err := url.ParseQuery(query)
	if err != nil {
		return state{}, nil, bad
	}
	st, f, err := s.store.look(bucketName, key, params.Get("versionId"), true)
	if err != nil {
		return st, nil, err
	}
	if err := s.copyable(r, &st); err != nil {
		f.Close()
		return st, nil, err
	}
	return st, f, nil
}

func (s *Server) copyable(r *request, st *state) error {
	if st.Appendable && !s.opt.Variants.CopyAppendable {
		return errorf(400, "OperationNotSupported", "The operation is not supported for this resource: an appendable object cannot be copied.", "0016-00000511")
	}
	if err := s.readable(r, st); err != nil {
		return err
	}
	// The same conditions as of a get, under other names.
	h := http.Header{}
	for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		h.Set(name, r.Header.Get("X-Oss-Copy-Source-"+name))
	}
	switch precondition(h, st) {
	case http.StatusNotModified:
		return errorf(304, "NotModified", "Not Modified", "0026-00000031")
	case http.StatusPreconditionFailed:
		return preconditionFailed()
	}
	return nil
}

func (s *Server) copyObject(w http.ResponseWriter, r *request) error {
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	attrs, err := newAttributes(r.Header, allClasses)
	if err != nil {
		return err
	}
	from, f, err := s.source(r)
	if err != nil {
		return err
	}
	defer f.Close()
	switch d := r.Header.Get("X-Oss-Metadata-Directive"); d {
	case "REPLACE":
	case "", "COPY":
		attrs.Header = from.Header
	default:
		return invalidArgument("x-oss-metadata-directive", d, "The metadata directive must be COPY or REPLACE.")
	}
	switch d := r.Header.Get("X-Oss-Tagging-Directive"); d {
	case "Replace", "REPLACE":
	case "", "Copy", "COPY":
		attrs.Tags = from.Tags
	default:
		return invalidArgument("x-oss-tagging-directive", d, "The tagging directive must be Copy or Replace.")
	}
	data, err := readBody(s.store.files, io.LimitReader(f, from.Length), from.Length, s.opt.MaxObject, true, true)
	if err != nil {
		return err
	}
	defer data.drop(s.store.files)
	st, err := s.store.put(r.bucket, r.key, data, state{attributes: attrs}, forbidsOverwrite(r))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("X-Oss-Hash-Crc64ecma", formatCRC(st.CRC))
	if from.Version != "" {
		h.Set("X-Oss-Copy-Source-Version-Id", from.Version)
	}
	st.encryptionHeaders(h)
	versionHeader(w, &st)
	return writeXML(w, copied("CopyObjectResult", st.ETag, st.Modified))
}

type xmlCopied struct {
	XMLName      xml.Name
	LastModified string
	ETag         string
}

func copied(name, etag string, at time.Time) xmlCopied {
	return xmlCopied{xml.Name{Local: name}, at.UTC().Truncate(time.Second).Format(xmlTime), `"` + etag + `"`}
}

func forbidsOverwrite(r *request) bool {
	return strings.EqualFold(r.Header.Get("X-Oss-Forbid-Overwrite"), "true")
}
