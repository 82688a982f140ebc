package ossemu

import (
	"cmp"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
)

const (
	xmlTime = "2006-01-02T15:04:05.000Z"
	maxKeys = 1000
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
	Region                             string
	ExtranetEndpoint, IntranetEndpoint string
	StorageClass                       string
	DataRedundancyType                 string         `xml:",omitempty"`
	Versioning                         string         `xml:",omitempty"`
	AccessMonitor                      string         `xml:",omitempty"`
	TransferAcceleration               string         `xml:",omitempty"`
	CrossRegionReplication             string         `xml:",omitempty"`
	Owner                              *xmlOwner      `xml:",omitempty"`
	ACL                                string         `xml:"AccessControlList>Grant,omitempty"`
	Rule                               *xmlDefaultSSE `xml:"ServerSideEncryptionRule,omitempty"`
	BlockPublicAccess                  *bool          `xml:",omitempty"`
}

func (s *Server) bucketXML(r *request, name string, b bucketState) xmlBucket {
	host := r.Host
	if virtual := s.hostBucket(host); virtual != "" {
		host = strings.TrimPrefix(host[len(virtual):], ".")
	}
	inside := host
	if before, ok := strings.CutSuffix(host, ".aliyuncs.com"); ok && !strings.HasSuffix(before, "-internal") {
		inside = before + "-internal.aliyuncs.com"
	}
	return xmlBucket{
		Name: name, Location: s.location(), Region: strings.TrimPrefix(s.location(), "oss-"), CreationDate: b.Created.UTC().Format(xmlTime),
		ExtranetEndpoint: host, IntranetEndpoint: inside, StorageClass: b.Class,
	}
}

func (s *Server) listBuckets(w http.ResponseWriter, r *request) error {
	limit, err := limitOf(r, "max-keys", 100, maxKeys)
	if err != nil {
		return err
	}
	var res struct {
		XMLName     xml.Name `xml:"ListAllMyBucketsResult"`
		Prefix      string   `xml:",omitempty"`
		Marker      string   `xml:",omitempty"`
		MaxKeys     int      `xml:",omitempty"`
		IsTruncated bool
		NextMarker  string `xml:",omitempty"`
		Owner       xmlOwner
		Buckets     []xmlBucket `xml:"Buckets>Bucket"`
	}
	res.Prefix, res.Marker, res.MaxKeys, res.Owner = r.value("prefix"), r.value("marker"), limit, owner
	for _, name := range s.store.bucketNames() {
		b, ok := s.store.bucketState(name)
		if !ok || !strings.HasPrefix(name, res.Prefix) || name <= res.Marker || !tagged(&b, r) {
			continue
		}
		if len(res.Buckets) == limit {
			res.IsTruncated, res.NextMarker = true, res.Buckets[limit-1].Name
			break
		}
		res.Buckets = append(res.Buckets, s.bucketXML(r, name, b))
	}
	return writeXML(w, res)
}

func (s *Server) putBucket(w http.ResponseWriter, r *request) error {
	acl, err := s.bucketACL(r)
	if err != nil {
		return err
	}
	var req struct {
		XMLName            xml.Name `xml:"CreateBucketConfiguration"`
		StorageClass       string
		DataRedundancyType string
	}
	if err := xml.NewDecoder(io.LimitReader(r.Body, maxDocument)).Decode(&req); err != nil && !errors.Is(err, io.EOF) {
		return malformedXML()
	}
	if req.StorageClass != "" && !slices.Contains(allClasses, req.StorageClass) {
		return invalidArgument("StorageClass", req.StorageClass, "The storage class you specified is invalid.")
	}
	if req.DataRedundancyType != "" && req.DataRedundancyType != "LRS" && req.DataRedundancyType != "ZRS" {
		return invalidArgument("DataRedundancyType", req.DataRedundancyType, "The data redundancy type you specified is invalid.")
	}
	err = s.store.createBucket(r.bucket, func(b *bucketState) {
		b.Class, b.Redundancy = cmp.Or(req.StorageClass, b.Class), cmp.Or(req.DataRedundancyType, b.Redundancy)
	})
	if err == nil && acl != "" {
		err = s.store.changeBucket(r.bucket, func(b *bucketState) error { b.ACL = acl; return nil })
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/"+r.bucket)
	return done(w, http.StatusOK)
}

func (s *Server) deleteBucket(w http.ResponseWriter, r *request) error {
	if len(s.uploads.inBucket(r.bucket)) > 0 {
		return bucketNotEmpty(r.bucket)
	}
	if err := s.store.deleteBucket(r.bucket); err != nil {
		return err
	}
	return done(w, http.StatusNoContent)
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
	case "get_bucket_acl":
		return writeXML(w, xmlACL{Owner: owner, Grant: b.ACL})
	}
	info := s.bucketXML(r, r.bucket, b)
	block := s.opt.Variants.BlockPublicAccess
	info.Owner, info.ACL, info.DataRedundancyType, info.Versioning, info.BlockPublicAccess = &owner, b.ACL, b.Redundancy, b.Versioning, &block
	info.AccessMonitor, info.TransferAcceleration, info.CrossRegionReplication = "Disabled", "Disabled", "Disabled"
	info.Rule = &xmlDefaultSSE{b.SSE.SSE, b.SSE.SSEKey, b.SSE.SSEData}
	return writeXML(w, struct {
		XMLName xml.Name `xml:"BucketInfo"`
		Bucket  xmlBucket
	}{Bucket: info})
}

// bucketACL reads the header x-oss-acl; "" is none.
func (s *Server) bucketACL(r *request) (string, error) {
	v := r.Header.Get("X-Oss-Acl")
	if v == "" {
		return "", nil
	}
	if !slices.Contains(objectACLs[1:], v) {
		return "", errorf(400, "InvalidArgument", "no such bucket access control exists", "0015-00000204",
			[2]string{"ArgumentName", "x-oss-acl"}, [2]string{"ArgumentValue", v})
	}
	return v, s.publicAllowed(v)
}

// publicAllowed refuses to open a bucket or object to everybody where that is
// blocked.
func (s *Server) publicAllowed(acl string) error {
	if s.opt.Variants.BlockPublicAccess && strings.HasPrefix(acl, "public-") {
		return accessDenied("Put public bucket or object acl is not allowed", "0015-00000205")
	}
	return nil
}

func (s *Server) putBucketACL(w http.ResponseWriter, r *request) error {
	acl, err := s.bucketACL(r)
	if err != nil {
		return err
	}
	if acl == "" {
		return errorf(400, "MissingArgument", "Missing Some Required Arguments.", "0017-00000901", [2]string{"ArgumentName", "x-oss-acl"})
	}
	return s.changeBucket(w, r, http.StatusOK, func(b *bucketState) error { b.ACL = acl; return nil })
}

func (s *Server) changeBucket(w http.ResponseWriter, r *request, status int, fn func(*bucketState) error) error {
	if err := s.store.changeBucket(r.bucket, fn); err != nil {
		return err
	}
	return done(w, status)
}

// bucketStat counts what is in a bucket, former versions not.
func (s *Server) bucketStat(w http.ResponseWriter, r *request) error {
	var res struct {
		XMLName                                                            xml.Name `xml:"BucketStat"`
		Storage, ObjectCount, MultipartUploadCount, LiveChannelCount       int64
		LastModifiedTime                                                   int64
		StandardStorage, StandardObjectCount                               int64
		InfrequentAccessStorage, InfrequentAccessRealStorage               int64
		InfrequentAccessObjectCount                                        int64
		ArchiveStorage, ArchiveRealStorage, ArchiveObjectCount             int64
		ColdArchiveStorage, ColdArchiveRealStorage, ColdArchiveObjectCount int64
	}
	items, _, err := s.store.list(r.bucket, "", "", "", math.MaxInt)
	if err != nil {
		return err
	}
	for i := range items {
		it := &items[i]
		res.Storage += it.Length
		res.ObjectCount++
		switch it.class() {
		case standard:
			res.StandardStorage, res.StandardObjectCount = res.StandardStorage+it.Length, res.StandardObjectCount+1
		case "IA":
			res.InfrequentAccessStorage, res.InfrequentAccessObjectCount = res.InfrequentAccessStorage+it.Length, res.InfrequentAccessObjectCount+1
		case "Archive":
			res.ArchiveStorage, res.ArchiveObjectCount = res.ArchiveStorage+it.Length, res.ArchiveObjectCount+1
		default:
			res.ColdArchiveStorage, res.ColdArchiveObjectCount = res.ColdArchiveStorage+it.Length, res.ColdArchiveObjectCount+1
		}
	}
	res.InfrequentAccessRealStorage, res.ArchiveRealStorage, res.ColdArchiveRealStorage = res.InfrequentAccessStorage, res.ArchiveStorage, res.ColdArchiveStorage
	res.MultipartUploadCount = int64(len(s.uploads.inBucket(r.bucket)))
	res.LastModifiedTime = s.opt.Now().Unix()
	return writeXML(w, res)
}

// listLive lists the live channels: there are none, and clients that empty a
// bucket ask.
func (s *Server) listLive(w http.ResponseWriter, r *request) error {
	return writeXML(w, struct {
		XMLName     xml.Name `xml:"ListLiveChannelResult"`
		Prefix      string
		Marker      string
		MaxKeys     int
		IsTruncated bool
	}{Prefix: r.value("prefix"), Marker: r.value("marker"), MaxKeys: maxKeys})
}
