package ossemu

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// uploads are the multipart uploads that are neither completed nor aborted. They
// do not survive the server: a client finds NoSuchUpload and starts again. What
// they complete to is put like any other object.
type uploads struct {
	mu sync.Mutex
	m  map[string]*upload
}

type upload struct {
	id, bucket, key string
	attrs           attributes
	started         time.Time
	sequential      bool // its whole MD5 is known and told
	parts           map[int]*part
}

type part struct {
	*body
	crc  uint64
	etag string
	at   time.Time
}

const (
	maxParts    = 10_000
	maxPartSize = 5 << 30
	minPartSize = 100 << 10 // of all but the last
)

func noSuchUpload(id, ec string) *apiError {
	return errorf(404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", ec, [2]string{"UploadId", id})
}

// find returns the upload that a request names; ec is the error's, which differs
// by operation.
func (u *uploads) find(r *request, ec string) (*upload, error) {
	id := r.value("uploadId")
	u.mu.Lock()
	defer u.mu.Unlock()
	up := u.m[id]
	if up == nil || up.bucket != r.bucket || up.key != r.key {
		return nil, noSuchUpload(id, ec)
	}
	return up, nil
}

// drop ends an upload and removes its parts' files; false: somebody else has.
func (u *uploads) drop(f files, up *upload) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m[up.id] != up {
		return false
	}
	delete(u.m, up.id)
	for _, p := range up.parts {
		p.drop(f)
	}
	return true
}

func (u *uploads) inBucket(name string) []*upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []*upload
	for _, up := range u.m {
		if up.bucket == name {
			out = append(out, up)
		}
	}
	slices.SortFunc(out, func(a, b *upload) int {
		if c := strings.Compare(a.key, b.key); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	return out
}

func (s *Server) initiateMultipart(w http.ResponseWriter, r *request) error {
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	attrs, err := newAttributes(r.Header, allClasses)
	if err != nil {
		return err
	}
	attrs.Multipart = true
	if forbidsOverwrite(r) {
		if _, _, err := s.store.look(r.bucket, r.key, "", false); err == nil {
			return fileAlreadyExists()
		}
	}
	up := &upload{id: newID() + newID()[:8], bucket: r.bucket, key: r.key, attrs: attrs, started: s.opt.Now().UTC(), sequential: r.has("sequential"), parts: map[int]*part{}}
	s.uploads.mu.Lock()
	s.uploads.m[up.id] = up
	s.uploads.mu.Unlock()
	encode, kind, err := encoder(r)
	if err != nil {
		return err
	}
	attrs.encryptionHeaders(w.Header())
	return writeXML(w, struct {
		XMLName      xml.Name `xml:"InitiateMultipartUploadResult"`
		EncodingType string   `xml:",omitempty"`
		Bucket       string
		Key          string
		UploadID     string `xml:"UploadId"`
	}{EncodingType: kind, Bucket: r.bucket, Key: encode(r.key), UploadID: up.id})
}

// encoder returns how names in an answer are to be written.
func encoder(r *request) (encode func(string) string, kind string, err error) {
	switch kind = r.value("encoding-type"); kind {
	case "":
		return func(v string) string { return v }, "", nil
	case "url":
		return func(v string) string { return uriEncode(v, false) }, kind, nil
	}
	return nil, "", invalidArgument("encoding-type", kind, "Invalid Encoding Method specified in Request")
}

func (s *Server) uploadPart(w http.ResponseWriter, r *request) error {
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	copies := r.Header.Get("X-Oss-Copy-Source") != ""
	ec := "0042-00000104"
	if copies {
		ec = "0042-00000311"
	}
	up, err := s.uploads.find(r, ec)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(r.value("partNumber"))
	if err != nil || n < 1 || n > maxParts {
		return invalidArgument("partNumber", r.value("partNumber"), "Part number must be an integer between 1 and 10000, inclusive")
	}
	var b *body
	var from state
	if copies {
		b, from, err = s.copyPart(r)
	} else {
		b, err = s.receive(r, maxPartSize, true)
	}
	if err != nil {
		return err
	}
	p := &part{body: b, etag: fmt.Sprintf("%X", b.md5), at: s.opt.Now().UTC()}
	if p.crc, err = b.crc(s.store.files, 0); err != nil {
		b.drop(s.store.files)
		return err
	}
	s.uploads.mu.Lock()
	if s.uploads.m[up.id] != up {
		s.uploads.mu.Unlock()
		b.drop(s.store.files)
		return noSuchUpload(up.id, ec)
	}
	former := up.parts[n]
	up.parts[n] = p
	s.uploads.mu.Unlock()
	if former != nil {
		former.drop(s.store.files)
	}
	h := w.Header()
	h.Set("X-Oss-Hash-Crc64ecma", formatCRC(p.crc))
	if copies {
		if from.Version != "" {
			h.Set("X-Oss-Copy-Source-Version-Id", from.Version)
		}
		return writeXML(w, copied("CopyPartResult", p.etag, p.at))
	}
	h.Set("ETag", `"`+p.etag+`"`)
	h.Set("Content-Md5", base64.StdEncoding.EncodeToString(b.md5[:]))
	r.paced.header(h)
	return done(w, http.StatusOK)
}

func (s *Server) copyPart(r *request) (*body, state, error) {
	from, f, err := s.source(r)
	if err != nil {
		return nil, from, err
	}
	defer f.Close()
	first, end := int64(0), from.Length
	if text := r.Header.Get("X-Oss-Copy-Source-Range"); text != "" {
		if first, end, _, err = byteRange(text, true, from.Length); err != nil {
			return nil, from, err
		}
	}
	if _, err := f.Seek(first, io.SeekStart); err != nil {
		return nil, from, err
	}
	b, err := readBody(s.store.files, io.LimitReader(f, end-first), end-first, maxPartSize, true, true)
	return b, from, err
}

type xmlPart struct {
	PartNumber int
	ETag       string
}

func (s *Server) completeMultipart(w http.ResponseWriter, r *request) error {
	encode, kind, err := encoder(r)
	if err != nil {
		return err
	}
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	p, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return malformedXML()
	}
	var req struct {
		XMLName xml.Name  `xml:"CompleteMultipartUpload"`
		Part    []xmlPart `xml:"Part"`
	}
	all := strings.EqualFold(r.Header.Get("X-Oss-Complete-All"), "yes")
	switch {
	case all && len(p) > 0:
		return errorf(400, "InvalidArgument", "Should not speficy both complete all header and http body.", "0042-00000216",
			[2]string{"ArgumentName", "x-oss-complete-all"}, [2]string{"ArgumentValue", r.Header.Get("X-Oss-Complete-All")})
	case !all && xml.Unmarshal(p, &req) != nil: // no parts make an empty object
		return malformedXML()
	}
	up, err := s.uploads.find(r, "0042-00000311")
	if err != nil {
		return err
	}
	attrs := up.attrs
	if acl, err := objectACL(r.Header); err != nil {
		return err
	} else if acl != "" {
		attrs.ACL = acl
	}
	parts, err := s.uploads.chosen(up, req.Part, all)
	if err != nil {
		return err
	}
	b, etag, err := s.join(parts)
	if err != nil {
		return err
	}
	defer b.drop(s.store.files)
	if !s.uploads.drop(s.store.files, up) {
		return noSuchUpload(up.id, "0042-00000311")
	}
	whole := state{attributes: attrs, ETag: etag}
	if up.sequential {
		whole.MD5 = base64.StdEncoding.EncodeToString(b.md5[:])
	}
	st, err := s.store.put(r.bucket, r.key, b, whole, forbidsOverwrite(r))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("X-Oss-Hash-Crc64ecma", formatCRC(st.CRC))
	st.encryptionHeaders(h)
	versionHeader(w, &st)
	return writeXML(w, struct {
		XMLName      xml.Name `xml:"CompleteMultipartUploadResult"`
		EncodingType string   `xml:",omitempty"`
		Location     string
		Bucket       string
		Key          string
		ETag         string
	}{EncodingType: kind, Location: "http://" + r.Host + r.URL.EscapedPath(), Bucket: r.bucket, Key: encode(r.key), ETag: `"` + st.ETag + `"`})
}

// chosen returns the parts that a completion names, in their order.
func (u *uploads) chosen(up *upload, named []xmlPart, all bool) ([]*part, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var parts []*part
	if all {
		for _, n := range slices.Sorted(maps.Keys(up.parts)) {
			parts = append(parts, up.parts[n])
		}
	}
	for i, p := range named {
		if i > 0 && named[i-1].PartNumber >= p.PartNumber {
			return nil, errorf(400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts list must specified in order by part number.", "0042-00000210")
		}
		have := up.parts[p.PartNumber]
		if have == nil || !strings.EqualFold(strings.Trim(p.ETag, `"`), have.etag) {
			return nil, errorf(400, "InvalidPart", "One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.", "0042-00000211",
				[2]string{"PartNumber", strconv.Itoa(p.PartNumber)})
		}
		parts = append(parts, have)
	}
	for _, p := range parts[:max(0, len(parts)-1)] {
		if p.n < minPartSize {
			return nil, errorf(400, "EntityTooSmall", "Your proposed upload smaller than the minimum allowed size.", "0042-00000212")
		}
	}
	return parts, nil
}

// join makes one body of parts. The ETag is that of the service, which hashes the
// parts' ETags as text (Go SDK v1, TestDownloadRoutineWithRecovery, has one).
func (s *Server) join(parts []*part) (*body, string, error) {
	sums := md5.New()
	readers := make([]io.Reader, 0, len(parts))
	for _, p := range parts {
		_, _ = io.WriteString(sums, p.etag)
		r, err := p.open(s.store.files)
		if err != nil {
			return nil, "", fmt.Errorf("reading a part: %w", err)
		}
		defer r.Close()
		readers = append(readers, r)
	}
	b, err := readBody(s.store.files, io.MultiReader(readers...), 0, 1<<62, true, true)
	return b, fmt.Sprintf("%s-%d", strings.ToUpper(hex.EncodeToString(sums.Sum(nil))), len(parts)), err
}

func (s *Server) abortMultipart(w http.ResponseWriter, r *request) error {
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	up, err := s.uploads.find(r, "0042-00000002")
	if err != nil {
		return err
	}
	s.uploads.drop(s.store.files, up)
	return done(w, http.StatusNoContent)
}
