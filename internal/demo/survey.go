package demo

import (
	"context"
	"fmt"
	"io"
	"time"

	"ossuary/internal/archive"
	"ossuary/internal/event"
	"ossuary/internal/service"
)

// Object is one object of the archive.
type Object struct {
	Key    string
	Source string
	Stored int64 // bytes
	Plain  int64 // bytes of its lines
	Events int
	Frames int
	Sealed bool
}

// survey reads every object of the archive, and counts by source the events with
// a sequence above the one in after.
func survey(ctx context.Context, arch *service.Archive, after, counts map[string]uint64) ([]Object, error) {
	inv, err := archive.Walk(ctx, arch.Store, arch.Prefix)
	if err != nil {
		return nil, err
	}
	var out []Object
	for i := range inv.Series {
		for _, seg := range inv.Series[i].Segments {
			o, err := read(ctx, arch, seg, after, counts)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", seg.Key, err)
			}
			out = append(out, o)
		}
	}
	return out, nil
}

func read(ctx context.Context, arch *service.Archive, seg archive.Segment, after, counts map[string]uint64) (Object, error) {
	o := Object{Key: seg.Key, Stored: seg.Size}
	_, codec, ok := event.ParseExt(seg.Ext)
	if !ok {
		return o, fmt.Errorf("unknown extension %q", seg.Ext)
	}
	r, err := arch.Store.Read(ctx, seg.Key, 0, seg.Size)
	if err != nil {
		return o, err
	}
	defer r.Close()
	sc := event.NewScanner(r, codec, 0, 0)
	for {
		f, body, err := sc.Next()
		if err == io.EOF { //nolint:errorlint // the end is io.EOF itself; a lost connection may wrap one
			return o, nil
		}
		if err != nil {
			return o, err
		}
		c := &f.Content
		o.Source = c.Source
		o.Sealed = o.Sealed || c.Kind == event.KindSeal
		if c.Kind != event.KindData {
			continue
		}
		o.Frames++
		o.Events += c.Count
		o.Plain += int64(len(body))
		err = event.Sequences(f, body, func(seq uint64, _ time.Time) bool {
			if seq > after[c.Source] {
				counts[c.Source]++
			}
			return true
		})
		if err != nil {
			return o, err
		}
	}
}
