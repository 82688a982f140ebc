package ossemu

import (
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// limitOf reads how many lines an answer may have.
func limitOf(r *request, name string, usual, most int) (int, error) {
	text := r.value(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, invalidArgument(name, text, "Argument "+name+" must be an integer between 1 and "+strconv.Itoa(most)+".")
	}
	return n, nil
}

func xmlTimeOf(t time.Time) string { return t.UTC().Truncate(time.Second).Format(xmlTime) }

func (s *Server) listParts(w http.ResponseWriter, r *request) error {
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	up, err := s.uploads.find(r, "0042-00000002")
	if err != nil {
		return err
	}
	encode, kind, err := encoder(r)
	if err != nil {
		return err
	}
	limit, err := limitOf(r, "max-parts", 1000, 1000)
	if err != nil {
		return err
	}
	after, err := strconv.Atoi(r.value("part-number-marker"))
	if err != nil && r.value("part-number-marker") != "" {
		return invalidArgument("part-number-marker", r.value("part-number-marker"), "Argument part-number-marker must be an integer between 0 and 10000.")
	}
	type xmlPartInfo struct {
		PartNumber    int
		LastModified  string
		ETag          string
		Size          int64
		HashCrc64ecma uint64
	}
	var res struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		EncodingType         string   `xml:",omitempty"`
		Bucket, Key          string
		UploadID             string `xml:"UploadId"`
		StorageClass         string
		PartNumberMarker     int
		NextPartNumberMarker int `xml:",omitempty"`
		MaxParts             int
		IsTruncated          bool
		Part                 []xmlPartInfo
	}
	res.EncodingType, res.Bucket, res.Key, res.UploadID = kind, r.bucket, encode(r.key), up.id
	res.StorageClass, res.PartNumberMarker, res.MaxParts = up.attrs.class(), after, limit
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(up.parts)) {
		if n <= after {
			continue
		}
		if len(res.Part) == limit {
			res.IsTruncated = true
			break
		}
		p := up.parts[n]
		res.Part = append(res.Part, xmlPartInfo{n, xmlTimeOf(p.at), `"` + p.etag + `"`, p.n, p.crc})
		res.NextPartNumberMarker = n
	}
	return writeXML(w, res)
}

func (s *Server) listUploads(w http.ResponseWriter, r *request) error {
	if _, ok := s.store.bucketState(r.bucket); !ok {
		return noSuchBucket(r.bucket)
	}
	encode, kind, err := encoder(r)
	if err != nil {
		return err
	}
	limit, err := limitOf(r, "max-uploads", 1000, 1000)
	if err != nil {
		return err
	}
	type xmlUpload struct {
		Key          string
		UploadID     string `xml:"UploadId"`
		StorageClass string
		Initiated    string
	}
	var res struct {
		XMLName            xml.Name `xml:"ListMultipartUploadsResult"`
		EncodingType       string   `xml:",omitempty"`
		Bucket             string
		KeyMarker          string
		UploadIDMarker     string `xml:"UploadIdMarker"`
		NextKeyMarker      string
		NextUploadIDMarker string `xml:"NextUploadIdMarker"`
		Delimiter, Prefix  string
		MaxUploads         int
		IsTruncated        bool
		Upload             []xmlUpload
		CommonPrefixes     []xmlPrefix
	}
	prefix, delimiter, keyMarker, idMarker := r.value("prefix"), r.value("delimiter"), r.value("key-marker"), r.value("upload-id-marker")
	res.EncodingType, res.Bucket, res.MaxUploads = kind, r.bucket, limit
	res.Prefix, res.Delimiter, res.KeyMarker, res.UploadIDMarker = encode(prefix), encode(delimiter), encode(keyMarker), idMarker
	common := ""
	for _, up := range s.uploads.inBucket(r.bucket) {
		passed := keyMarker != "" && (up.key < keyMarker || up.key == keyMarker && (idMarker == "" || up.id <= idMarker))
		if passed || !strings.HasPrefix(up.key, prefix) || common != "" && strings.HasPrefix(up.key, common) {
			continue
		}
		if len(res.Upload)+len(res.CommonPrefixes) == limit {
			res.IsTruncated = true
			break
		}
		common = ""
		if i := strings.Index(up.key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			common = up.key[:len(prefix)+i+len(delimiter)]
			res.CommonPrefixes = append(res.CommonPrefixes, xmlPrefix{encode(common)})
			// Behind everything that has the prefix: no key holds this byte.
			res.NextKeyMarker, res.NextUploadIDMarker = encode(common+"\xff"), ""
			continue
		}
		res.Upload = append(res.Upload, xmlUpload{encode(up.key), up.id, up.attrs.class(), xmlTimeOf(up.started)})
		res.NextKeyMarker, res.NextUploadIDMarker = encode(up.key), up.id
	}
	if !res.IsTruncated {
		res.NextKeyMarker, res.NextUploadIDMarker = "", ""
	}
	return writeXML(w, res)
}
