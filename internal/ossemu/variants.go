package ossemu

import (
	"fmt"
	"slices"
	"strings"
)

// Variants are behaviours that documents, or documents and the vendor's own
// tests, disagree about. The zero value is what those tests, which were written
// to run against the service, expect; each field turns to the other side.
type Variants struct {
	// NoAppendOverMarker: an append whose object's current version is a delete
	// marker is refused (the page of AppendObject); else one at position 0 makes
	// a new version (Go SDK v1, TestVersioningAppendObject).
	NoAppendOverMarker bool
	// NoMetaOnLaterAppends: x-oss-meta-* on a later append is refused (the page of
	// AppendObject: "cannot be carried"); else passed over (Go SDK v1, TestAppendObject).
	NoMetaOnLaterAppends bool
	// NoKeyIDOnAppend: an append that names a KMS key is refused (the page of
	// AppendObject, limits); else the key is kept and told.
	NoKeyIDOnAppend bool
	// ForbidOverwriteOnAppend: x-oss-forbid-overwrite refuses appends to an object
	// that is there; else appends pass it over (it is documented for put, copy and
	// multipart uploads).
	ForbidOverwriteOnAppend bool
	// CopyAppendable: an appendable object can be copied, and the copy is a normal
	// one (the page of AppendObject names CopyObject for changing metadata); else
	// refused (the SDKs' pages of append upload).
	CopyAppendable bool
	// NoSeal: sealing is not supported, as without the vendor's leave (Go SDK v2,
	// TestSealAppendObject, takes either).
	NoSeal bool
	// BlockPublicAccess: public ACLs are refused, as on accounts and buckets that
	// block them, which new ones do.
	BlockPublicAccess bool
}

func (v *Variants) names() map[string]*bool {
	return map[string]*bool{
		"no-append-over-marker":      &v.NoAppendOverMarker,
		"no-meta-on-later-appends":   &v.NoMetaOnLaterAppends,
		"no-key-id-on-append":        &v.NoKeyIDOnAppend,
		"forbid-overwrite-on-append": &v.ForbidOverwriteOnAppend,
		"copy-appendable":            &v.CopyAppendable,
		"no-seal":                    &v.NoSeal,
		"block-public-access":        &v.BlockPublicAccess,
	}
}

// VariantNames returns the names that ParseVariants knows, in order.
func VariantNames() []string {
	var names []string
	for name := range (&Variants{}).names() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ParseVariants sets the fields with these names: no-seal is NoSeal.
func ParseVariants(names []string) (Variants, error) {
	var v Variants
	known := v.names()
	for _, name := range names {
		field := known[name]
		if field == nil {
			return v, fmt.Errorf("variant %q is not known; there are %s", name, strings.Join(VariantNames(), ", "))
		}
		*field = true
	}
	return v, nil
}
