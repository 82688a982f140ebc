package ossemu

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

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
	limit, err := limitOf(r, "max-keys", 100, maxKeys)
	if err != nil {
		return err
	}
	encode, kind, err := encoder(r)
	if err != nil {
		return err
	}
	prefix, delimiter := r.value("prefix"), r.value("delimiter")
	res := xmlListing{Name: r.bucket, Prefix: encode(prefix), MaxKeys: limit, Delimiter: encode(delimiter), EncodingType: kind}
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
	for i := range items {
		it := &items[i]
		if it.prefix {
			res.CommonPrefixes = append(res.CommonPrefixes, xmlPrefix{encode(it.key)})
			continue
		}
		o := xmlObject{
			Key: encode(it.key), LastModified: xmlTimeOf(it.Modified), ETag: `"` + it.ETag + `"`,
			Type: objectType(&it.state), Size: it.Length, StorageClass: it.class(),
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

// maxMultiple is how long the XML of a request to delete many may be.
const maxMultiple = 2 << 20

type xmlDeleted struct {
	Key                   string
	VersionID             string `xml:"VersionId,omitempty"`
	DeleteMarker          bool   `xml:",omitempty"`
	DeleteMarkerVersionID string `xml:"DeleteMarkerVersionId,omitempty"`
}

func (s *Server) deleteMultiple(w http.ResponseWriter, r *request) error {
	var req struct {
		XMLName xml.Name `xml:"Delete"`
		Quiet   bool
		Object  []struct {
			Key       string
			VersionID string `xml:"VersionId"`
		}
	}
	p, err := io.ReadAll(io.LimitReader(r.Body, maxMultiple))
	if err != nil || xml.Unmarshal(hideControls(p), &req) != nil || len(req.Object) == 0 || len(req.Object) > maxKeys {
		return malformedXML()
	}
	if err := checkMD5(r, md5.Sum(p)); err != nil {
		return err
	}
	for i := range req.Object {
		o := &req.Object[i]
		o.Key = showControls(o.Key)
		if !validKey(o.Key) {
			return invalidName(o.Key)
		}
	}
	encode, kind, err := encoder(r)
	if err != nil {
		return err
	}
	var res struct {
		XMLName      xml.Name `xml:"DeleteResult"`
		EncodingType string   `xml:",omitempty"`
		Deleted      []xmlDeleted
	}
	res.EncodingType = kind
	for _, o := range req.Object {
		gone, err := s.store.remove(r.bucket, o.Key, o.VersionID)
		if err != nil {
			return err
		}
		if req.Quiet {
			continue
		}
		d := xmlDeleted{Key: encode(o.Key), VersionID: o.VersionID, DeleteMarker: gone.marker}
		if gone.marker {
			d.DeleteMarkerVersionID = gone.version
		}
		res.Deleted = append(res.Deleted, d)
	}
	return writeXML(w, res)
}

// XML 1.0 has no control characters, not even by reference; keys can have them,
// and the service takes them so. For the parser they stand here, in the last of
// the private planes.
const hidden = 0x10FF00

var controlRef = regexp.MustCompile(`&#(?:[xX]0*([01]?[0-9a-fA-F])|0*([12]?[0-9]|3[01]));`)

func hideControls(p []byte) []byte {
	return controlRef.ReplaceAllFunc(p, func(ref []byte) []byte {
		m := controlRef.FindSubmatch(ref)
		n, err := strconv.ParseUint(string(m[1])+string(m[2]), 10+6*min(len(m[1]), 1), 8)
		if err != nil {
			return ref
		}
		return []byte(string(rune(hidden + n)))
	})
}

func showControls(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= hidden && c < hidden+0x20 {
			return c - hidden
		}
		return c
	}, s)
}
