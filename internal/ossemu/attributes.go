package ossemu

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// attributes are what an object is created with, and served with from then on.
// The zero value is what a file has that was laid into a bucket by hand.
type attributes struct {
	Header    map[string]string `json:"h,omitempty"`     // content headers and x-oss-meta-*
	Class     string            `json:"class,omitempty"` // "" is Standard
	ACL       string            `json:"oacl,omitempty"`  // "" is default: as the bucket
	SSE       string            `json:"sse,omitempty"`   // AES256, KMS, SM4
	SSEData   string            `json:"ssed,omitempty"`  // with KMS: the algorithm for the data
	SSEKey    string            `json:"ssek,omitempty"`  // with KMS: the key's id
	Tags      []tag             `json:"tags,omitempty"`
	Multipart bool              `json:"mp,omitempty"`
}

type tag struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

// kept are the headers that an object is created with and served with.
var kept = []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires"}

const (
	defaultType  = "application/octet-stream"
	maxMeta      = 8 << 10
	standard     = "Standard"
	metaPrefix   = "X-Oss-Meta-"
	aclDefault   = "default"
	maxTags      = 10
	maxTagKey    = 128 // characters
	maxTagValue  = 256
	kmsAlgorithm = "KMS"
)

func invalidEncryption(value string) *apiError {
	return errorf(400, "InvalidEncryptionAlgorithmError", "The Encryption request you specified is not valid. Supported value: AES256/KMS/SM4.", "0016-00000301",
		[2]string{"ArgumentName", "x-oss-server-side-encryption"}, [2]string{"ArgumentValue", value})
}

// newAttributes reads what a request wants its object to have. classes are the
// storage classes that the operation takes.
func newAttributes(h http.Header, classes []string) (attributes, error) {
	a := attributes{Header: map[string]string{}}
	for _, name := range kept {
		if v := h.Get(name); v != "" {
			a.Header[name] = v
		}
	}
	if a.Header["Content-Type"] == "" {
		a.Header["Content-Type"] = defaultType
	}
	meta, err := userMeta(h)
	if err != nil {
		return a, err
	}
	for name, v := range meta {
		a.Header[name] = v
	}
	if a.Class, err = storageClass(h, classes); err != nil {
		return a, err
	}
	if a.ACL, err = objectACL(h); err != nil {
		return a, err
	}
	if err := a.encryption(h); err != nil {
		return a, err
	}
	if v := h.Get("X-Oss-Tagging"); v != "" {
		if a.Tags, err = parseTagging(v); err != nil {
			return a, err
		}
	}
	return a, nil
}

func userMeta(h http.Header) (map[string]string, error) {
	out := map[string]string{}
	size := 0
	for name, v := range h {
		if meta, ok := strings.CutPrefix(name, metaPrefix); ok {
			size += len(meta) + len(v[0])
			out[name] = v[0]
		}
	}
	if size > maxMeta {
		return nil, errorf(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size.", "0017-00000602")
	}
	return out, nil
}

var (
	allClasses = []string{standard, "IA", "Archive", "ColdArchive", "DeepColdArchive"}
	// An appendable object cannot be of the cold classes.
	appendClasses = allClasses[:3]
)

func storageClass(h http.Header, allowed []string) (string, error) {
	v := h.Get("X-Oss-Storage-Class")
	switch {
	case v == "" || slices.Contains(allowed, v):
		return v, nil
	case slices.Contains(allClasses, v):
		return "", errorf(400, "InvalidArgument", "The storage class is not supported by appendable objects.", "0016-00000503",
			[2]string{"ArgumentName", "x-oss-storage-class"}, [2]string{"ArgumentValue", v})
	}
	return "", errorf(400, "InvalidArgument", "The storage class you specified is invalid.", "0016-00000502",
		[2]string{"ArgumentName", "x-oss-storage-class"}, [2]string{"ArgumentValue", v})
}

// objectACLs are what an object can have; a bucket has no default.
var objectACLs = []string{aclDefault, "private", "public-read", "public-read-write"}

func objectACL(h http.Header) (string, error) {
	v := h.Get("X-Oss-Object-Acl")
	if v != "" && !slices.Contains(objectACLs, v) {
		return "", errorf(400, "InvalidArgument", "no such object access control exists", "0016-00000101",
			[2]string{"ArgumentName", "x-oss-object-acl"}, [2]string{"ArgumentValue", v})
	}
	return v, nil
}

func (a *attributes) encryption(h http.Header) error {
	a.SSE, a.SSEData, a.SSEKey = h.Get("X-Oss-Server-Side-Encryption"), h.Get("X-Oss-Server-Side-Data-Encryption"), h.Get("X-Oss-Server-Side-Encryption-Key-Id")
	switch a.SSE {
	case "", "AES256", kmsAlgorithm, "SM4":
	default:
		return invalidEncryption(a.SSE)
	}
	if a.SSEData != "" && (a.SSE != kmsAlgorithm || a.SSEData != "SM4") {
		return invalidEncryption(a.SSEData)
	}
	if a.SSEKey != "" && a.SSE != kmsAlgorithm {
		return errorf(400, "InvalidArgument", "The key id is only valid with the encryption method KMS.", "0016-00000302",
			[2]string{"ArgumentName", "x-oss-server-side-encryption-key-id"}, [2]string{"ArgumentValue", a.SSEKey})
	}
	return nil
}

// encryptionHeaders tells how the object is encrypted.
func (a *attributes) encryptionHeaders(h http.Header) {
	for name, v := range map[string]string{
		"X-Oss-Server-Side-Encryption":        a.SSE,
		"X-Oss-Server-Side-Data-Encryption":   a.SSEData,
		"X-Oss-Server-Side-Encryption-Key-Id": a.SSEKey,
	} {
		if v != "" {
			h.Set(name, v)
		}
	}
}

// headers is what head and get say about the object.
func (a *attributes) headers(h http.Header) {
	for name, v := range a.Header {
		h.Set(name, v)
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", defaultType)
	}
	h.Set("X-Oss-Storage-Class", a.class())
	a.encryptionHeaders(h)
	if len(a.Tags) > 0 {
		h.Set("X-Oss-Tagging-Count", strconv.Itoa(len(a.Tags)))
	}
}

func (a *attributes) class() string {
	if a.Class == "" {
		return standard
	}
	return a.Class
}

func invalidTag(message string) *apiError {
	return errorf(400, "InvalidTag", message, "0044-00000001")
}

// parseTagging reads the header x-oss-tagging: k1=v1&k2=v2, URL-encoded.
func parseTagging(text string) ([]tag, error) {
	var tags []tag
	for part := range strings.SplitSeq(text, "&") {
		k, v, _ := strings.Cut(part, "=")
		key, err := url.QueryUnescape(k)
		if err != nil {
			return nil, invalidTag("The tagging header is not URL-encoded.")
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			return nil, invalidTag("The tagging header is not URL-encoded.")
		}
		tags = append(tags, tag{key, value})
	}
	return tags, checkTags(tags)
}

func checkTags(tags []tag) error {
	if len(tags) > maxTags {
		return errorf(400, "BadRequest", "Object tags cannot be greater than 10.", "0044-00000002")
	}
	seen := map[string]bool{}
	for _, t := range tags {
		switch {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > maxTagKey:
			return invalidTag("The TagKey you have provided is invalid.")
		case utf8.RuneCountInString(t.Value) > maxTagValue:
			return invalidTag("The TagValue you have provided is invalid.")
		case !tagText(t.Key) || !tagText(t.Value):
			return invalidTag("A tag has a character that is not allowed.")
		case seen[t.Key]:
			return invalidTag("Cannot provide multiple Tags with the same key.")
		}
		seen[t.Key] = true
	}
	return nil
}

// tagText says whether the service takes these characters in a tag.
func tagText(s string) bool {
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("+-=._:/ ", c):
		default:
			return false
		}
	}
	return true
}
