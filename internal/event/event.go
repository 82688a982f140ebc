// Package event holds the event and its durable form: the two line formats
// (envelope, raw), the codecs, and the frames in which batches of lines stand in
// a segment. docs/FORMAT.md specifies the same bytes in prose.
//
// Everything here is pure: no I/O beyond the readers it is handed, no clock, no
// import of another package of this module. Readers never panic, whatever the
// bytes.
package event

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// Event is one stream message.
type Event struct {
	Sequence uint64    // stream sequence
	Time     time.Time // stream timestamp, UTC, nanoseconds
	Subject  string
	Header   map[string][]string // without delivery-time headers; nil if none
	Data     []byte
}

// StreamID names one life of a stream.
type StreamID struct {
	Name        string    `json:"name"`
	Created     time.Time `json:"created"`
	Incarnation int       `json:"incarnation"` // from 0; rises when the stream is recreated or its sequences are reused
}

// Hash is a SHA-256 sum; in JSON, lower-case hex.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is the chain's start value.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) {
	return hex.AppendEncode(make([]byte, 0, 2*len(h)), h[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(p []byte) error {
	if len(p) != 2*len(h) {
		return fmt.Errorf("a SHA-256 is %d hex digits, got %d", 2*len(h), len(p))
	}
	_, err := hex.Decode(h[:], p)
	return err
}

// Format is the form of a line.
type Format uint8

// The line formats of docs/FORMAT.md.
const (
	Envelope Format = iota // JSON object per event, replayable
	Raw                    // payload and newline
)

// Codec is how a segment's bytes are compressed.
type Codec uint8

// The codecs of docs/FORMAT.md.
const (
	Gzip  Codec = iota // one member per frame
	Zstd               // a skippable frame and a data frame per frame
	Plain              // a header line, then the lines
)

// Payload is how an envelope carries the payload.
type Payload uint8

// Auto looks at each payload; the others are a route's promise about it.
const (
	Auto   Payload = iota // data where valid JSON, else text where UTF-8, else base64
	JSON                  // data, unchecked but for raw newlines
	Text                  // text; a payload that is not UTF-8 is a PoisonError
	Base64                // base64
)

// Newline is what the raw format does with a payload that holds a newline.
type Newline uint8

// The newline modes of a raw route.
const (
	RefuseNewline Newline = iota // a PoisonError
	EscapeNewline                // \ -> \\, LF -> \n, CR -> \r
)

// PoisonError says why an event cannot be encoded under its route. Such an event
// goes to the lane's dead letters, never to /dev/null.
type PoisonError struct{ Reason string }

func (e *PoisonError) Error() string { return e.Reason }
