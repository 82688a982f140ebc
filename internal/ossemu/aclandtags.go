package ossemu

import (
	"encoding/xml"
	"io"
	"net/http"
)

// maxDocument is how long the XML of a request may be.
const maxDocument = 256 << 10

func malformedXML() *apiError {
	return errorf(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.", "0017-00000401")
}

// document reads the XML of a request's body into v.
func document(r *request, v any) error {
	if xml.NewDecoder(io.LimitReader(r.Body, maxDocument)).Decode(v) != nil {
		return malformedXML()
	}
	return nil
}

func done(w http.ResponseWriter, status int) error {
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	return nil
}

// changeObject answers a request that changes what an object has, not its bytes.
func (s *Server) changeObject(w http.ResponseWriter, r *request, status int, fn func(*bucket, *state) error) error {
	st, err := s.store.change(r.bucket, r.key, r.value("versionId"), fn)
	if err != nil {
		return err
	}
	versionHeader(w, &st)
	return done(w, status)
}

// versionHeader tells which version a request was about, where there are such.
func versionHeader(w http.ResponseWriter, st *state) {
	if st.Version != "" {
		w.Header().Set("X-Oss-Version-Id", st.Version)
	}
}

type xmlACL struct {
	XMLName xml.Name `xml:"AccessControlPolicy"`
	Owner   xmlOwner
	Grant   string `xml:"AccessControlList>Grant"`
}

func (s *Server) getACL(w http.ResponseWriter, r *request) error {
	st, _, err := s.store.look(r.bucket, r.key, r.value("versionId"), false)
	if err != nil {
		return err
	}
	versionHeader(w, &st)
	grant := st.ACL
	if grant == "" {
		grant = aclDefault
	}
	return writeXML(w, xmlACL{Owner: owner, Grant: grant})
}

func (s *Server) putACL(w http.ResponseWriter, r *request) error {
	acl, err := objectACL(r.Header)
	if err != nil {
		return err
	}
	if err := s.publicAllowed(acl); err != nil {
		return err
	}
	if acl == "" {
		return errorf(400, "MissingArgument", "Missing Some Required Arguments.", "0017-00000901", [2]string{"ArgumentName", "x-oss-object-acl"})
	}
	return s.changeObject(w, r, http.StatusOK, func(_ *bucket, st *state) error { st.ACL = acl; return nil })
}

type xmlTagging struct {
	XMLName xml.Name `xml:"Tagging"`
	Tags    []xmlTag `xml:"TagSet>Tag"`
}

type xmlTag struct{ Key, Value string }

func (s *Server) getTagging(w http.ResponseWriter, r *request) error {
	st, _, err := s.store.look(r.bucket, r.key, r.value("versionId"), false)
	if err != nil {
		return err
	}
	versionHeader(w, &st)
	return writeXML(w, taggingXML(st.Tags))
}

func taggingXML(tags []tag) xmlTagging {
	var res xmlTagging
	for _, t := range tags {
		res.Tags = append(res.Tags, xmlTag(t))
	}
	return res
}

// tagsOf reads the tags in a request's body.
func tagsOf(r *request) ([]tag, error) {
	var req xmlTagging
	if err := document(r, &req); err != nil {
		return nil, err
	}
	tags := make([]tag, 0, len(req.Tags))
	for _, t := range req.Tags {
		tags = append(tags, tag(t))
	}
	return tags, checkTags(tags)
}

func (s *Server) putTagging(w http.ResponseWriter, r *request) error {
	tags, err := tagsOf(r)
	if err != nil {
		return err
	}
	return s.changeObject(w, r, http.StatusOK, func(_ *bucket, st *state) error { st.Tags = tags; return nil })
}

func (s *Server) deleteTagging(w http.ResponseWriter, r *request) error {
	return s.changeObject(w, r, http.StatusNoContent, func(_ *bucket, st *state) error { st.Tags = nil; return nil })
}
