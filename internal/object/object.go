// Package object holds the words in which the rest of Ossuary speaks of an
// object store with appendable objects: results, facts about an object, and
// errors classified by what a writer has to do about them.
//
// It does no I/O. internal/objectstore implements the operations over the OSS
// SDK, objecttest in memory for tests; the packages that call them declare the
// small interfaces they need.
package object

import (
	"errors"
	"fmt"
	"time"
)

// MaxSize is the size in bytes past which OSS takes no append (5 GB).
const MaxSize = 5_000_000_000

// What OSS takes as the limit of a request's traffic: 30 KiB/s to 100 MiB/s, in
// bits a second.
const (
	MinTrafficLimit = 245_760
	MaxTrafficLimit = 838_860_800
)

// Appended is what the store said of an append that it confirmed.
type Appended struct {
	Next      int64  // where the next append must start: the object's new length in bytes
	CRC64     uint64 // of the whole object
	RequestID string
}

// Info is what the store knows of an object.
type Info struct {
	Length     int64 // bytes
	CRC64      uint64
	Appendable bool // false for an object that was put, not appended
	Modified   time.Time
	ETag       string // unquoted
}

// Entry is one object of a listing.
type Entry struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Create holds what is sent with the append that creates an object (position 0)
// and with no other. What is empty is not sent; the store then does as it does by
// itself, or as the bucket says.
type Create struct {
	ContentType        string
	ContentEncoding    string
	ContentDisposition string
	CacheControl       string
	Expires            time.Time // of copies in caches, not of the object

	StorageClass   string // Standard, IA, Archive
	ACL            string // default, private, public-read, public-read-write
	Encryption     string // AES256, KMS, SM4
	DataEncryption string // with KMS: SM4 instead of AES-256
	// ForbidOverwrite is no guard where versioning is on; position 0 is one anywhere.
	ForbidOverwrite bool

	Meta map[string]string // x-oss-meta-*
	Tags map[string]string
}

// Kind says what a failed operation means to its caller.
type Kind uint8

const (
	// InDoubt: the request may or may not have been applied, now or later
	// (timeout, connection lost, 5xx). The zero value, so that an error nobody
	// classified is never taken for a clear "no".
	InDoubt Kind = iota
	// Throttled is InDoubt with the store's wish to be left alone for RetryAfter.
	Throttled
	// Mismatch: not applied, position is not the object's length (409
	// PositionNotEqualToLength); Length carries the length, -1 if not told.
	Mismatch
	// NotFound: the object does not exist (404 NoSuchKey).
	NotFound
	// Unappendable: the store will take no append to this object, whatever the
	// position (409 ObjectNotAppendable, FileImmutable).
	Unappendable
	// Refused: the store refuses the caller, not the data (403s, NoSuchBucket,
	// bad signature, expired token, clock skew). Somebody has to mend
	// something; the same request may then succeed.
	Refused
	// Invalid: the request is malformed for this store (other 4xx). Repeating
	// it does not help; nothing was applied.
	Invalid
)

func (k Kind) String() string {
	switch k {
	case InDoubt:
		return "in doubt"
	case Throttled:
		return "throttled"
	case Mismatch:
		return "position mismatch"
	case NotFound:
		return "not found"
	case Unappendable:
		return "unappendable"
	case Refused:
		return "refused"
	case Invalid:
		return "invalid"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is the error of every operation on the store.
type Error struct {
	Op         string // append, head, read, list
	Key        string
	Kind       Kind
	Status     int    // HTTP status, 0 if no response came
	Code       string // the store's error code, "" if none
	Message    string // the store's words
	RequestID  string
	Length     int64         // for Mismatch: the object's true length, -1 if not told
	RetryAfter time.Duration // for Throttled, 0 if not told
	Endpoint   string        // where to ask instead, "" if not told: the bucket lies in another region
	Hint       string        // what to do about it, for a person; may be ""
	Err        error         // the cause, may be nil
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: %s", e.Op, e.Key, e.Kind)
	if e.Status != 0 {
		s += fmt.Sprintf(" (%d %s)", e.Status, e.Code)
	}
	switch {
	case e.Message != "":
		s += ": " + e.Message
	case e.Err != nil:
		s += ": " + e.Err.Error()
	}
	if e.RequestID != "" {
		s += " [request " + e.RequestID + "]"
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf classifies any error of a store operation; an error that is no *Error
// is InDoubt.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return InDoubt
}
