package objectstore

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/object"
)

// over lays c over base: what c says counts, and what it leaves open is base's.
func over(base, c object.Create) object.Create {
	c.ContentType = cmp.Or(c.ContentType, base.ContentType)
	c.ContentEncoding = cmp.Or(c.ContentEncoding, base.ContentEncoding)
	c.ContentDisposition = cmp.Or(c.ContentDisposition, base.ContentDisposition)
	c.CacheControl = cmp.Or(c.CacheControl, base.CacheControl)
	if c.Expires.IsZero() {
		c.Expires = base.Expires
	}
	c.StorageClass = cmp.Or(c.StorageClass, base.StorageClass)
	c.ACL = cmp.Or(c.ACL, base.ACL)
	if c.Encryption == "" {
		c.Encryption, c.DataEncryption = base.Encryption, base.DataEncryption
	}
	c.ForbidOverwrite = c.ForbidOverwrite || base.ForbidOverwrite
	c.Meta = union(base.Meta, c.Meta)
	c.Tags = union(base.Tags, c.Tags)
	return c
}

func union(base, m map[string]string) map[string]string {
	if len(base) == 0 {
		return m
	}
	out := maps.Clone(base)
	maps.Copy(out, m)
	return out
}

// headers are the options of the append that creates an object. They are never
// sent with a later one: the documents say of some that they take effect, of some
// that they are ignored and of some that they are refused.
func headers(c object.Create) []oss.Option {
	var out []oss.Option
	text := func(option func(string) oss.Option, value string) {
		if value != "" {
			out = append(out, option(value))
		}
	}
	text(oss.ContentType, c.ContentType)
	text(oss.ContentEncoding, c.ContentEncoding)
	text(oss.ContentDisposition, c.ContentDisposition)
	text(oss.CacheControl, c.CacheControl)
	if !c.Expires.IsZero() {
		out = append(out, oss.Expires(c.Expires.UTC()))
	}
	// Not oss.StorageClass, which is the bucket's.
	text(func(v string) oss.Option { return oss.ObjectStorageClass(oss.StorageClassType(v)) }, c.StorageClass)
	text(func(v string) oss.Option { return oss.ObjectACL(oss.ACLType(v)) }, c.ACL)
	text(oss.ServerSideEncryption, c.Encryption)
	text(oss.ServerSideDataEncryption, c.DataEncryption)
	if c.ForbidOverwrite {
		out = append(out, oss.ForbidOverWrite(true))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Meta)) {
		out = append(out, oss.Meta(name, c.Meta[name]))
	}
	if len(c.Tags) > 0 {
		var tagging oss.Tagging
		for _, key := range slices.Sorted(maps.Keys(c.Tags)) {
			tagging.Tags = append(tagging.Tags, oss.Tag{Key: key, Value: c.Tags[key]})
		}
		out = append(out, oss.SetTagging(tagging))
	}
	return out
}

// needs names the permissions that such an append takes besides oss:PutObject.
func needs(c object.Create) string {
	var out []string
	if len(c.Tags) > 0 {
		out = append(out, "oss:PutObjectTagging")
	}
	if c.ACL != "" {
		out = append(out, "oss:PutObjectAcl")
	}
	if c.Encryption == "KMS" {
		out = append(out, "kms:GenerateDataKey and kms:Decrypt")
	}
	return strings.Join(out, ", ")
}
