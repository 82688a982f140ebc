package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

// ReadHeader reads the header of the frame that p starts with, so that a reader
// by ranges can pass over its body. io.ErrUnexpectedEOF says that p ends within
// it; MaxHead bytes always suffice. That the frame stands where it says, and its
// body, are left to the caller.
func ReadHeader(p []byte, c Codec) (*Frame, error) { return readHeader(p, c, -1) }

// readHeader reads the header of the frame that p starts with and that must stand
// at position (-1: not known, any will do).
//
// What does not fit its own hash or does not stand where it says is corrupt,
// whatever else it claims: only bytes that somebody wrote here as a frame can be
// unknown. Place.Position, Place.Content and Content.Version keep their meaning
// in every later version for the sake of that.
func readHeader(p []byte, c Codec, position int64) (*Frame, error) {
	at := max(position, 0)
	corrupt := func(format string, a ...any) (*Frame, error) {
		return nil, &CorruptError{at, fmt.Sprintf(format, a...)}
	}
	// Only a Plain break starts with a newline, see FrameWriter.Break.
	newline := 0
	if c == Plain && len(p) > 0 && p[0] == '\n' {
		newline = 1
	}
	js, size, more, what := openBlock(p[newline:], c, blockHeader)
	if more {
		return nil, io.ErrUnexpectedEOF
	}
	if what != "" {
		return corrupt("%s", what)
	}
	content, place, ok := splitHeader(js)
	if !ok {
		return corrupt("header is no JSON of content and place")
	}
	f := &Frame{Hash: sha256.Sum256(content), Head: int64(newline + size)}

	var fixed struct {
		Position *int64 `json:"position"`
		Content  Hash   `json:"content"`
	}
	if err := json.Unmarshal(place, &fixed); err != nil {
		return corrupt("place: %v", err)
	}
	if fixed.Position == nil || *fixed.Position < 0 || (position >= 0 && *fixed.Position != position) {
		return corrupt("its place is not here")
	}
	at = *fixed.Position
	if fixed.Content != f.Hash {
		return corrupt("its content does not have the hash that its place says")
	}
	if what, err := unknown(content, place); err != nil {
		return corrupt("%v", err)
	} else if what != "" {
		return nil, &UnknownError{at, what}
	}

	if err := json.Unmarshal(content, &f.Content); err != nil {
		return corrupt("content: %v", err)
	}
	if err := json.Unmarshal(place, &f.Place); err != nil {
		return corrupt("place: %v", err)
	}
	if what := f.wrong(c, newline > 0); what != "" {
		return corrupt("%s", what)
	}
	f.Size = f.Head + f.Place.Length + f.Place.Trailer
	return f, nil
}

// splitHeader takes {"content":C,"place":P} apart into the exact bytes of C and P.
// Members behind these are passed over.
func splitHeader(js []byte) (content, place []byte, ok bool) {
	if !utf8.Valid(js) || len(js) == 0 || js[0] != '{' || skipValue(js, 0) != len(js) {
		return nil, nil, false
	}
	content, rest, ok := cutMember(js, `{"content":`)
	if !ok {
		return nil, nil, false
	}
	place, rest, ok = cutMember(rest, `,"place":`)
	return content, place, ok && len(rest) > 0
}

func cutMember(js []byte, front string) (value, rest []byte, ok bool) {
	js, ok = bytes.CutPrefix(js, []byte(front))
	if !ok || len(js) == 0 || js[0] != '{' {
		return nil, nil, false
	}
	end := skipValue(js, 0)
	if end < 0 {
		return nil, nil, false
	}
	return js[:end], js[end:], true
}

// unknown says what in the header this package is too old for, "" if nothing. It
// looks at the version before anything that a later version may have changed.
func unknown(content, place []byte) (what string, err error) {
	var version struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(content, &version); err != nil {
		return "", fmt.Errorf("content: %w", err)
	}
	switch {
	case version.V > Version:
		return fmt.Sprintf("format version %d, known is %d", version.V, Version), nil
	case version.V < 1:
		return "", fmt.Errorf("format version %d", version.V)
	}
	var needs struct {
		Must []string `json:"must"`
		Kind string   `json:"kind"`
		Enc  string   `json:"enc"`
	}
	if err := json.Unmarshal(content, &needs); err != nil {
		return "", fmt.Errorf("content: %w", err)
	}
	if err := json.Unmarshal(place, &needs); err != nil {
		return "", fmt.Errorf("place: %w", err)
	}
	switch {
	case len(needs.Must) > 0:
		return fmt.Sprintf("it must be read with %q", needs.Must), nil
	case needs.Kind != KindData && needs.Kind != KindSeal && needs.Kind != KindBreak:
		return fmt.Sprintf("frame kind %q", needs.Kind), nil
	case needs.Enc != "":
		return fmt.Sprintf("encoding %q", needs.Enc), nil
	}
	return "", nil
}

// wrong says why a header that was read in an object of codec c cannot be; "" if
// it can.
func (f *Frame) wrong(c Codec, newline bool) string {
	p := &f.Place
	switch {
	case p.Codec != c:
		return fmt.Sprintf("codec is %v, the object's is %v", p.Codec, c)
	case p.Length < 0 || p.Length > maxStored || p.Trailer < 0 || p.Trailer > maxStored:
		return "its lengths are impossible"
	case (p.Trailer > 0) != (f.Content.Kind == KindSeal):
		return "a trailer follows a seal and nothing else"
	case newline != (c == Plain && f.Content.Kind == KindBreak):
		return "a newline precedes a break in a plain object and nothing else"
	}
	return f.Content.wrong(p.Position, nil)
}

// wrong says why a content cannot be, at its place and with the lines of its body
// (nil: not known yet); "" if it can.
func (n *Content) wrong(position int64, body *lines) string {
	switch {
	case n.Segment < 1 || n.Frame < 1:
		return "segments and frames count from 1"
	case position < 0:
		return "negative position"
	}
	for _, s := range []string{n.Archive, n.Source, n.Stream.Name, n.Lane, n.Series, n.Next, n.Reason} {
		if !utf8.ValidString(s) {
			return fmt.Sprintf("%q is not UTF-8", s)
		}
	}
	if n.Kind != KindData {
		switch {
		case n.Next == "":
			return "a " + n.Kind + " frame must name the next segment"
		case n.Count != 0 || n.First != 0 || (body != nil && body.bytes > 0):
			return "a " + n.Kind + " frame holds no events"
		case n.Valid < 0 || n.Valid > position:
			return "its valid length reaches beyond its position"
		}
		return ""
	}
	switch {
	case n.First < 1 || n.Last < n.First || n.Count < 1 || uint64(n.Count-1) > n.Last-n.First:
		return fmt.Sprintf("%d events do not fit into the sequences %d to %d", n.Count, n.First, n.Last)
	case n.MaxTime.Before(n.MinTime) || n.Greatest.Before(n.MaxTime):
		return "its timestamps are out of order"
	}
	if body != nil {
		if body.count != n.Count || !body.ended {
			return fmt.Sprintf("its body has %d lines for %d events, or no newline at its end", body.count, n.Count)
		}
	}
	return ""
}
