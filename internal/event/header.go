package event

import (
	"errors"
	"fmt"
	"time"
)

// Version is the format version that this package writes, and the highest that
// it reads.
const Version = 1

// The kinds of a frame. A seal or a break is the last frame of its segment.
const (
	KindData  = "data"
	KindSeal  = "seal"
	KindBreak = "break"
)

const (
	// maxHeader bounds the header's JSON and every index piece, in bytes, for
	// all codecs: a gzip extra field holds less than 64 KiB.
	maxHeader = 60 << 10

	// MaxHead bounds the bytes from a frame's start to its body, so that a reader
	// who asks for this many has the whole header (Frame.Head).
	MaxHead = maxHeader + 32

	// maxStored bounds what a header may claim as its stored length: an OSS object
	// ends at 5 GB, more is a lie.
	maxStored = 8 << 30

	// MaxBody bounds the uncompressed body of a frame; a reader refuses more.
	MaxBody = 1 << 30
)

// ErrHeaderTooLarge is returned by FrameWriter when the header passes 60 KiB,
// which only a long list of sequences (Content.Seqs) can make it: write fewer
// events.
var ErrHeaderTooLarge = errors.New("frame header is larger than 60 KiB")

// Content is the part of a frame's header that says what the frame holds. The
// chain hashes its exact bytes, so a copy or recompression must keep them.
type Content struct {
	Version  int       `json:"v"`
	Must     []string  `json:"must,omitempty"` // features that a reader needs; none is defined in version 1
	Kind     string    `json:"kind"`
	Archive  string    `json:"archive"`
	Source   string    `json:"source"`
	Stream   StreamID  `json:"stream"`
	Layout   int       `json:"layout"`
	Lane     string    `json:"lane"`
	Series   string    `json:"series"`
	Segment  int       `json:"segment"` // from 1
	Frame    int       `json:"frame"`   // from 1, within the segment
	Format   Format    `json:"format"`
	First    uint64    `json:"first,omitempty"`   // stream sequence; data only
	Last     uint64    `json:"last,omitempty"`    // data: of this frame; seal, break: of the series so far
	MinTime  time.Time `json:"min_time,omitzero"` // data only
	MaxTime  time.Time `json:"max_time,omitzero"` // data only
	Greatest time.Time `json:"greatest,omitzero"` // greatest timestamp in the whole series so far, this frame included
	Count    int       `json:"count,omitempty"`   // events, which is lines of the body
	SHA256   Hash      `json:"sha256"`            // of the uncompressed body
	Prev     Hash      `json:"prev"`              // hash of the content before, over segments; zeros at the start of a series
	// EventsRoot is the RFC 6962 root over the body's lines without their newlines.
	EventsRoot *Hash `json:"events,omitempty"`
	// Seqs holds a raw frame's sequences, see AppendSeqs.
	Seqs   string `json:"seqs,omitempty"`
	Next   string `json:"next,omitempty"`   // seal, break: full key of the next segment
	Reason string `json:"reason,omitempty"` // seal, break: why
	Valid  int64  `json:"valid,omitempty"`  // break: length of the valid bytes; what follows up to the break is not ours
	// SegmentRoot is a seal's RFC 6962 root over the content hashes (32 bytes each)
	// of the segment's frames before it, in order.
	SegmentRoot *Hash `json:"segment_root,omitempty"`
}

// Place is the part of the header that says how the frame lies in this object.
type Place struct {
	Position int64  `json:"position"`          // where the frame starts
	Length   int64  `json:"length"`            // stored bytes behind the header: the body, with a gzip member's trailer
	Trailer  int64  `json:"trailer,omitempty"` // seal: bytes of index and locator behind that
	Codec    Codec  `json:"codec"`
	Enc      string `json:"enc,omitempty"` // reserved
	Content  Hash   `json:"content"`       // SHA-256 of the content's bytes: the next frame's prev
}

// Frame is a frame as it was read.
type Frame struct {
	Content Content
	Place   Place
	Hash    Hash  // SHA-256 of the exact bytes of the content
	Head    int64 // bytes from the frame's start to its body
	Size    int64 // Head + Place.Length + Place.Trailer

	Index  []IndexEntry // seal, from the Scanner only
	Before uint64       // seal, from the Scanner only: CRC-64 of the object before the seal, as its locator says
}

// End is the position behind the frame.
func (f *Frame) End() int64 { return f.Place.Position + f.Size }

// CorruptError says that the bytes at Position are no well-formed frame, or not
// the one that must stand there.
type CorruptError struct {
	Position int64
	Reason   string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("no valid frame at position %d: %s", e.Position, e.Reason)
}

// UnknownError says that a well-formed frame needs a newer reader. Nobody may
// write over or around it.
type UnknownError struct {
	Position int64
	What     string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("the frame at position %d needs a newer version: %s", e.Position, e.What)
}

// ForeignError says that a well-formed frame belongs to another archive, source
// or lane.
type ForeignError struct {
	Position int64
	What     string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the frame at position %d is not this writer's: %s", e.Position, e.What)
}
