package ossemu

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
)

// listedVersion is one line of a listing of versions: a version, a delete
// marker, or a common prefix.
type listedVersion struct {
	key    string
	prefix bool
	latest bool
	state
}

// versions returns all that a key has, the newest first.
func (s *store) versions(b *bucket, key string) ([]listedVersion, error) {
	e := s.entry(b, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.refresh(b, key, e); err != nil {
		return nil, err
	}
	var out []listedVersion
	if e.Exists || e.Marker {
		out = append(out, listedVersion{key: key, latest: true, state: e.state})
	}
	for _, st := range e.old {
		out = append(out, listedVersion{key: key, state: st})
	}
	return out, nil
}

// listVersions returns up to limit versions and common prefixes behind the
// version after of the key afterKey, and whether there are more.
func (s *store) listVersions(bucketName, prefix, delimiter, afterKey, after string, limit int) (out []listedVersion, more bool, err error) {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return nil, false, err
	}
	defer done()
	add := func(v listedVersion) bool {
		if more = len(out) == limit; !more {
			out = append(out, v)
		}
		return !more
	}
	s.mu.RLock()
	keys := slices.Clone(b.all)
	s.mu.RUnlock()
	i, _ := slices.BinarySearch(keys, max(prefix, afterKey))
	common := ""
	if delimiter != "" && strings.HasSuffix(afterKey, delimiter) {
		common = afterKey // a page ended with this prefix
	}
	for _, key := range keys[i:] {
		switch {
		case !strings.HasPrefix(key, prefix):
			return out, more, nil
		case common != "" && strings.HasPrefix(key, common):
			continue
		}
		if j := strings.Index(key[len(prefix):], delimiter); delimiter != "" && j >= 0 {
			common = key[:len(prefix)+j+len(delimiter)]
			if !add(listedVersion{key: common, prefix: true}) {
				return out, more, nil
			}
			continue
		}
		versions, err := s.versions(b, key)
		if err != nil {
			return nil, false, err
		}
		if key == afterKey {
			if after == "" {
				continue
			}
			n := slices.IndexFunc(versions, func(v listedVersion) bool { return v.version() == after })
			versions = versions[n+1:]
		}
		for _, v := range versions {
			if !add(v) {
				return out, more, nil
			}
		}
	}
	return out, more, nil
}

type xmlVersion struct {
	XMLName      xml.Name
	Key          string
	VersionID    string `xml:"VersionId"`
	IsLatest     bool
	LastModified string
	ETag         string `xml:",omitempty"`
	Type         string `xml:",omitempty"`
	Size         *int64 `xml:",omitempty"`
	StorageClass string `xml:",omitempty"`
	Owner        xmlOwner
}

func (s *Server) listObjectVersions(w http.ResponseWriter, r *request) error {
	encode, kind, err := encoder(r)
	if err != nil {
		return err
	}
	limit, err := limitOf(r, "max-keys", 100, maxKeys)
	if err != nil {
		return err
	}
	prefix, delimiter, keyMarker, idMarker := r.value("prefix"), r.value("delimiter"), r.value("key-marker"), r.value("version-id-marker")
	items, more, err := s.store.listVersions(r.bucket, prefix, delimiter, keyMarker, idMarker, limit)
	if err != nil {
		return err
	}
	var res struct {
		XMLName             xml.Name `xml:"ListVersionsResult"`
		Name, Prefix        string
		KeyMarker           string
		VersionIDMarker     string `xml:"VersionIdMarker"`
		MaxKeys             int
		Delimiter           string
		EncodingType        string `xml:",omitempty"`
		IsTruncated         bool
		NextKeyMarker       string `xml:",omitempty"`
		NextVersionIDMarker string `xml:"NextVersionIdMarker,omitempty"`
		Versions            []xmlVersion
		CommonPrefixes      []xmlPrefix
	}
	res.Name, res.Prefix, res.KeyMarker, res.VersionIDMarker = r.bucket, encode(prefix), encode(keyMarker), idMarker
	res.MaxKeys, res.Delimiter, res.EncodingType, res.IsTruncated = limit, encode(delimiter), kind, more
	for i := range items {
		v := &items[i]
		switch {
		case v.prefix:
			res.CommonPrefixes = append(res.CommonPrefixes, xmlPrefix{encode(v.key)})
			continue
		case v.Marker:
			res.Versions = append(res.Versions, xmlVersion{
				XMLName: xml.Name{Local: "DeleteMarker"}, Key: encode(v.key), VersionID: v.version(), IsLatest: v.latest,
				LastModified: xmlTimeOf(v.Modified), Owner: owner,
			})
		default:
			res.Versions = append(res.Versions, xmlVersion{
				XMLName: xml.Name{Local: "Version"}, Key: encode(v.key), VersionID: v.version(), IsLatest: v.latest,
				LastModified: xmlTimeOf(v.Modified), ETag: `"` + v.ETag + `"`, Type: objectType(&v.state), Size: &v.Length,
				StorageClass: v.class(), Owner: owner,
			})
		}
	}
	if more {
		last := items[len(items)-1]
		res.NextKeyMarker = encode(last.key)
		if !last.prefix {
			res.NextVersionIDMarker = last.version()
		}
	}
	return writeXML(w, res)
}
