package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// IndexEntry is one data frame of a segment, as its seal lists it.
type IndexEntry struct {
	Position int64
	First    uint64
	MinTime  time.Time
}

// indexPiece is the JSON of a piece; pieces count from 1. frames holds one array
// [position, first sequence, smallest timestamp] per data frame.
type indexPiece struct {
	Piece  int         `json:"piece"`
	Of     int         `json:"of"`
	Frames []indexItem `json:"frames"`
}

type indexItem IndexEntry

func (e *indexItem) UnmarshalJSON(p []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(p, &parts); err != nil {
		return err
	}
	if len(parts) < 3 {
		return fmt.Errorf("index entry has %d parts, want 3", len(parts))
	}
	for i, v := range []any{&e.Position, &e.First, &e.MinTime} {
		if err := json.Unmarshal(parts[i], v); err != nil {
			return err
		}
	}
	return nil
}

func appendIndexItem(dst []byte, e IndexEntry) []byte {
	dst = append(dst, '[')
	dst = strconv.AppendInt(dst, e.Position, 10)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, e.First, 10)
	dst = append(dst, ',', '"')
	dst = e.MinTime.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"', ']')
}

// pieceFront is room for a piece's front, {"piece":…,"of":…,"frames":[, and its
// end within maxHeader.
const pieceFront = 64

// appendTrailer appends what follows a seal frame at position: the pieces of the
// index, at least one, and the locator.
func appendTrailer(dst []byte, c Codec, position int64, crc uint64, index []IndexEntry) []byte {
	var lists [][]byte
	var list []byte
	for _, e := range index {
		n := len(list)
		if n > 0 {
			list = append(list, ',')
		}
		list = appendIndexItem(list, e)
		if len(list) > maxHeader-pieceFront {
			lists = append(lists, slices.Clone(list[:n]))
			list = append(list[:0], list[n+1:]...)
		}
	}
	lists = append(lists, list)
	for i, list := range lists {
		js := fmt.Appendf(nil, `{"piece":%d,"of":%d,"frames":[`, i+1, len(lists))
		js = append(js, list...)
		dst = appendEmptyBlock(dst, c, blockIndex, append(js, ']', '}'))
	}
	return appendEmptyBlock(dst, c, blockLocator, locatorJSON(position, crc))
}

// locatorJSON has the same length whatever the numbers, so that the locator can
// be found from the object's end.
func locatorJSON(position int64, crc uint64) []byte {
	return fmt.Appendf(nil, `{"seal":"%016x","crc64":"%016x"}`, position, crc)
}

// LocatorSize is the number of bytes of a locator, with which a sealed segment
// ends.
func LocatorSize(c Codec) int {
	n := blockLocator.overhead(c) + len(locatorJSON(0, 0))
	if c == Gzip {
		n += len(gzipEmpty)
	}
	return n
}

// ReadLocator reads the last LocatorSize(c) bytes of an object: where its seal
// starts and the CRC-64 of the bytes before it. Not ok: the object does not end
// in a seal. Bytes can look like a locator by accident or intent; what it says is
// true only if a seal frame is found there.
func ReadLocator(tail []byte, c Codec) (seal int64, crc uint64, ok bool) {
	js, size, ok := openEmptyBlock(tail, c, blockLocator)
	if !ok || size != len(tail) {
		return 0, 0, false
	}
	var v struct{ Seal, CRC64 string }
	if json.Unmarshal(js, &v) != nil {
		return 0, 0, false
	}
	position, err := strconv.ParseInt(v.Seal, 16, 64)
	if err != nil {
		return 0, 0, false
	}
	if crc, err = strconv.ParseUint(v.CRC64, 16, 64); err != nil {
		return 0, 0, false
	}
	if position < 0 || string(js) != string(locatorJSON(position, crc)) {
		return 0, 0, false
	}
	return position, crc, true
}

// readTrailer reads the whole of what follows a seal frame at position.
func readTrailer(p []byte, c Codec, position int64) (index []IndexEntry, crc uint64, what string) {
	for number, of := 1, 1; number <= of; number++ {
		js, size, ok := openEmptyBlock(p, c, blockIndex)
		if !ok {
			return nil, 0, fmt.Sprintf("piece %d of the index is missing", number)
		}
		var piece indexPiece
		if err := json.Unmarshal(js, &piece); err != nil {
			return nil, 0, fmt.Sprintf("piece %d of the index: %v", number, err)
		}
		if number == 1 {
			of = piece.Of
		}
		if piece.Piece != number || piece.Of != of || of < 1 {
			return nil, 0, fmt.Sprintf("index pieces are out of order at piece %d", number)
		}
		for _, e := range piece.Frames {
			before := int64(-1)
			if n := len(index); n > 0 {
				before = index[n-1].Position
			}
			if e.Position <= before || e.Position >= position {
				return nil, 0, fmt.Sprintf("index has position %d out of order", e.Position)
			}
			index = append(index, IndexEntry(e))
		}
		p = p[size:]
	}
	seal, crc, ok := ReadLocator(p, c)
	switch {
	case !ok:
		return nil, 0, "seal does not end in a locator"
	case seal != position:
		return nil, 0, fmt.Sprintf("locator says that the seal starts at %d", seal)
	}
	return index, crc, ""
}
