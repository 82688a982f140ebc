package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	// OSS takes 8 KB of user metadata. Some of it is ours: the archive's name and
	// the version of its format.
	maxMetadata = 8<<10 - ownMetadata
	ownMetadata = 256
	maxTags     = 10
)

var (
	storageClasses = []string{"Standard", "IA", "Archive"}
	metaName       = regexp.MustCompile(`^[a-z0-9-]+$`)
	tagText        = regexp.MustCompile(`^[a-zA-Z0-9 +\-=._:/]*$`)
	mediaType      = regexp.MustCompile(`^[!-~]+/[ -~]+$`)
)

func (v *validator) objects() {
	o := v.config.Objects
	v.storageClass("objects.storage_class", o.StorageClass)
	v.orNone("objects.server_side_encryption", o.ServerSideEncryption, "AES256", "KMS", "SM4")
	v.orNone("objects.data_encryption", o.DataEncryption, "SM4")
	if o.DataEncryption != "" && o.ServerSideEncryption != "KMS" {
		v.bad("objects.data_encryption", "it says with what KMS encrypts, and KMS does not", "set server_side_encryption: KMS, or leave it out")
	}
	v.orNone("objects.acl", o.ACL, "default", "private", "public-read", "public-read-write")
	if o.ACL == "public-read-write" {
		v.warn("objects.acl", "anybody may append to the segments, or overwrite them", "use public-read, or leave it out")
	}
	if o.ContentType != "" && !mediaType.MatchString(o.ContentType) {
		v.bad("objects.content_type", fmt.Sprintf("%q is no media type", o.ContentType), "write it as application/octet-stream, or leave it out")
	}
	switch {
	case o.ContentEncoding != "" && o.ContentEncoding != "gzip":
		v.bad("objects.content_encoding", fmt.Sprintf("%q is not offered", o.ContentEncoding), "use gzip, or leave it out")
	case o.ContentEncoding == "gzip" && !v.writes("gzip"):
		v.warn("objects.content_encoding", "no route writes gzip, and it is sent for no other codec", "leave it out")
	}
	v.header("objects.content_disposition", o.ContentDisposition)
	v.header("objects.cache_control", o.CacheControl)
	v.metadata("objects.metadata", o.Metadata, nil)
	v.tagging("objects.tagging", o.Tagging, nil)
	for i, s := range v.config.Sources {
		for j, r := range s.Routes {
			at := fmt.Sprintf("sources[%d].routes[%d].objects", i, j)
			v.storageClass(at+".storage_class", r.Objects.StorageClass)
			v.metadata(at+".metadata", r.Objects.Metadata, o.Metadata)
			v.tagging(at+".tagging", r.Objects.Tagging, o.Tagging)
		}
	}
}

func (v *validator) storageClass(path, class string) {
	switch class {
	case "ColdArchive", "DeepColdArchive":
		v.bad(path, class+" takes no appendable objects", "use Standard, IA or Archive; what must lie colder is copied there once it is sealed")
	case "Archive":
		v.warn(path, "objects of this class are read only after they were restored, and a writer has to read its segments after a lost answer and after a restart, as verify and cat have to",
			"turn on the bucket's real-time access of Archive objects, or use IA, and let a lifecycle rule move what is sealed")
	default:
		v.orNone(path, class, storageClasses...)
	}
}

func (v *validator) orNone(path, value string, known ...string) {
	if value != "" {
		v.oneOf(path, value, known...)
	}
}

// writes reports whether some route has the codec.
func (v *validator) writes(codec string) bool {
	for _, s := range v.config.Sources {
		if slices.ContainsFunc(s.Routes, func(r Route) bool { return !r.Skip && r.Codec == codec }) {
			return true
		}
	}
	return false
}

// plainText reports whether s can stand in a header as it is.
func plainText(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) < 0 && strings.TrimSpace(s) == s
}

func (v *validator) header(path, value string) {
	if !plainText(value) {
		v.bad(path, "it has characters that a header cannot hold", "use printable ASCII, without space at the ends")
	}
}

func (v *validator) metadata(path string, own, global map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(own)) {
		at := path + "." + name
		switch {
		case !metaName.MatchString(name):
			v.bad(at, fmt.Sprintf("%q is no name of metadata", name), "use a-z, 0-9 and -")
		case strings.HasPrefix(name, "ossuary-"):
			v.bad(at, "these names are the archive's own", "choose another name")
		case own[name] == "":
			v.bad(at, "it has no value", "give it one, or leave it out")
		default:
			v.header(at, own[name])
		}
	}
	total := 0
	all := maps.Clone(global)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, own)
	for name, value := range all {
		total += len("x-oss-meta-") + len(name) + len(value)
	}
	if len(own) > 0 && total > maxMetadata {
		v.bad(path, fmt.Sprintf("%d bytes of metadata", total), fmt.Sprintf("use at most %d: the store takes 8 KB, and some are the archive's own", maxMetadata))
	}
}

func (v *validator) tagging(path string, own, global map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(own)) {
		at, value := path+"."+key, own[key]
		switch {
		case key == "" || len(key) > 128 || !tagText.MatchString(key):
			v.bad(at, fmt.Sprintf("%q is no key of a tag", key), "use 1 to 128 letters, digits, spaces and + - = . _ : /")
		case len(value) > 256 || !tagText.MatchString(value):
			v.bad(at, fmt.Sprintf("%q is no value of a tag", value), "use up to 256 letters, digits, spaces and + - = . _ : /")
		}
	}
	all := maps.Clone(own)
	if all == nil {
		return
	}
	maps.Copy(all, global)
	if len(all) > maxTags {
		v.bad(path, fmt.Sprintf("%d tags", len(all)), fmt.Sprintf("use at most %d", maxTags))
	}
}
