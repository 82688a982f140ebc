// Package archive reads what was written: it walks the series of an archive,
// verifies them, gives out their events (series by series, or merged in the order
// of their stream), and makes the ledger again from them.
//
// What it guarantees: one reader (segmentReader) decides for verify, cat and
// rebuild alike what belongs to a series, by the same rules as the writer
// (event.Scanner and event.Chain); nothing is read past the length that an
// object had when it was first looked at, so that an archive being written can
// be read at any moment; and verify says "ok" only of what it has proven. What
// could not be proven is named in the report, as a problem where something is
// wrong and as a note where nothing need be.
//
// What it does not do: it never writes to the store. A rebuilt ledger is handed
// to an interface of the caller's, events to package replay.
package archive

import (
	"context"
	"io"

	"ossuary/internal/object"
)

// store is what reading needs of an object store. Reads must be strongly
// consistent: what an append confirmed, a later Head and Read show.
type store interface {
	Head(ctx context.Context, key string) (object.Info, error)
	// Read yields the bytes [from,to); to < 0 means to the end.
	Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error)
	// List calls fn for every key with the prefix, ascending.
	List(ctx context.Context, prefix string, fn func(object.Entry) error) error
}

// Store is the exported name of the interface for callers that build readers
// over several stores.
type Store = store
