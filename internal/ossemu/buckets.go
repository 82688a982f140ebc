package ossemu

import (
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	xmlTime     = "2006-01-02T15:04:05.000Z"
	maxKeys     = 1000
	maxMultiple = 2 << 20 // bytes of a request to delete many
)

type xmlOwner struct{ ID, DisplayName string }

var owner = xmlOwner{ID: "1000000000000000", DisplayName: "1000000000000000"}

func (s *Server) location() string {
	if s.opt.Region == "" {
		return "oss-cn-hangzhou"
	}
	return "oss-" + s.opt.Region
}

type xmlBucket struct {
	Name, Location, CreationDate       string
	ExtranetEndpoint, IntranetEndpoint string
	StorageClass                       string
	Versioning                         string    `xml:",omitempty"`
	Owner                              *xmlOwner `xml:",omitempty"`
	ACL                                string    `xml:"AccessControlList>Grant,omitempty"`
}

func (s *Server) bucketXML(r *request, name string, b bucketState) xmlBucket {
	return xmlBucket{
		Name: name, Location: s.location(), CreationDate: b.Created.UTC().Format(xmlTime),
		ExtranetEndpoint: r.Host, IntranetEndpoint: r.Host, StorageClass: b.Class,
	}
}

func (s *Server) listBuckets(w http.ResponseWriter, r *request) error {
	var res struct {
		XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		Owner   xmlOwner
		Buckets []xmlBucket `xml:"Buckets>Bucket"`
	}
	res.Owner = owner
	for _, name := range s.store.bucketNames() {
		if b, ok := s.store.bucketState(name); ok && strings.HasPrefix(name, r.value("prefix")) {
			res.Buckets = append(res.Buckets, s.bucketXML(r, name, b))
		}
	}
	return writeXML(w, res)
}

func (s *Server) putBucket(w http.ResponseWriter, r *request) error {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 64<<10)) // class and redundancy mean nothing here
	if err := s.store.createBucket(r.bucket); err != nil {
		return err
	}
	w.Header().Set("Location", "/"+r.bucket)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) deleteBucket(w http.ResponseWriter, r *request) error {
	if err := s.store.deleteBucket(r.bucket); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// bucketInfo answers what can be asked about a bucket itself.
func (s *Server) bucketInfo(w http.ResponseWriter, r *request) error {
	b, ok := s.store.bucketState(r.bucket)
	if !ok {
		return noSuchBucket(r.bucket)
	}
	switch r.op {
	case "location":
		return writeXML(w, struct {
			XMLName xml.Name `xml:"LocationConstraint"`
			Value   string   `xml:",chardata"`
		}{Value: s.location()})
	case "versioning":
		return writeXML(w, struct {
			XMLName xml.Name `xml:"VersioningConfiguration"`
		}{})
	case "get_bucket_acl":
		return writeXML(w, xmlACL{Owner: owner, Grant: b.ACL})
	}
	info := s.bucketXML(r, r.bucket, b)
	info.Owner, info.ACL = &owner, b.ACL
	return writeXML(w, struct {
		XMLName xml.Name `xml:"BucketInfo"`
		Bucket  xmlBucket
	}{Bucket: info})
}

type xmlObject struct {
	Key, LastModified, ETag, Type string
	Size                          int64
	StorageClass                  string
	Owner                         *xmlOwner `xml:",omitempty"`
}

type xmlPrefix struct{ Prefix string }

type xmlListing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	Marker                *string `xml:",omitempty"`
	StartAfter            *string `xml:",omitempty"`
	ContinuationToken     *string `xml:",omitempty"`
	MaxKeys               int
	Delimiter             string
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	NextMarker            string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	KeyCount              *int   `xml:",omitempty"`
	Contents              []xmlObject
	CommonPrefixes        []xmlPrefix
}

// listObjects serves both versions of listings.
func (s *Server) listObjects(w http.ResponseWriter, r *request) error {
	limit := 100
	if text, ok := r.get("max-keys"); ok && text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxKeys {
			return invalidArgument("max-keys", text, "Argument max-keys must be an integer between 1 and 1000.")
		}
		limit = n
	}
	encode := func(v string) string { return v }
	switch enc := r.value("encoding-type"); enc {
	case "":
	case "url":
		encode = func(v string) string { return strings.ReplaceAll(url.QueryEscape(v), "+", "%20") }
	default:
		return invalidArgument("encoding-type", enc, "Invalid Encoding Method specified in Request")
	}
	prefix, delimiter := r.value("prefix"), r.value("delimiter")
	res := xmlListing{Name: r.bucket, Prefix: encode(prefix), MaxKeys: limit, Delimiter: encode(delimiter), EncodingType: r.value("encoding-type")}
	v2 := r.value("list-type") == "2"
	after := r.value("marker")
	withOwner := !v2 || r.value("fetch-owner") == "true"
	if v2 {
		after = r.value("start-after")
		enc := encode(after)
		res.StartAfter = &enc
		if token, ok := r.get("continuation-token"); ok {
			p, err := base64.RawURLEncoding.DecodeString(token)
			if err != nil {
				return invalidArgument("continuation-token", token, "The continuation token provided is incorrect.")
			}
			after = string(p)
			res.ContinuationToken = &token
		}
	} else {
		enc := encode(after)
		res.Marker = &enc
	}
	items, more, err := s.store.list(r.bucket, prefix, delimiter, after, limit)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.prefix {
			res.CommonPrefixes = append(res.CommonPrefixes, xmlPrefix{encode(it.key)})
			continue
		}
		o := xmlObject{
			Key: encode(it.key), LastModified: it.Modified.UTC().Truncate(time.Second).Format(xmlTime), ETag: `"` + it.ETag + `"`,
			Type: objectType(it.state), Size: it.Length, StorageClass: it.class(),
		}
		if withOwner {
			o.Owner = &owner
		}
		res.Contents = append(res.Contents, o)
	}
	res.IsTruncated = more
	if n := len(items); v2 {
		res.KeyCount = &n
		if more {
			// Opaque, as the service's: clients must not read meaning into it.
			res.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(items[n-1].key))
		}
	} else if more {
		res.NextMarker = encode(items[n-1].key)
	}
	return writeXML(w, res)
}

func (s *Server) deleteMultiple(w http.ResponseWriter, r *request) error {
	var req struct {
		XMLName xml.Name `xml:"Delete"`
		Quiet   bool
		Object  []struct{ Key string }
	}
	d := xml.NewDecoder(io.LimitReader(r.Body, maxMultiple))
	if err := d.Decode(&req); err != nil || len(req.Object) == 0 || len(req.Object) > maxKeys {
		return malformedXML()
	}
	for _, o := range req.Object {
		if !validKey(o.Key) {
			return invalidName(o.Key)
		}
	}
	var res struct {
		XMLName      xml.Name `xml:"DeleteResult"`
		EncodingType string   `xml:",omitempty"`
		Deleted      []struct{ Key string }
	}
	encode := func(v string) string { return v }
	if r.value("encoding-type") == "url" {
		res.EncodingType = "url"
		encode = func(v string) string { return strings.ReplaceAll(url.QueryEscape(v), "+", "%20") }
	}
	for _, o := range req.Object {
		if err := s.store.remove(r.bucket, o.Key); err != nil {
			return err
		}
		if !req.Quiet {
			res.Deleted = append(res.Deleted, struct{ Key string }{encode(o.Key)})
		}
	}
	return writeXML(w, res)
}
