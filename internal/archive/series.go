package archive

import (
	"context"
	"fmt"
	"strings"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// walk reads the series from its first listed segment to its last, following the
// next keys of seals and breaks rather than names.
func (w *walker) walk(ctx context.Context) error {
	segs := w.series.Segments
	seen := make([]bool, len(segs))
	if !w.resumed {
		w.chain = event.Chain{Archive: w.archive, Series: w.series.Name, Segment: segs[0].Number, Anchored: segs[0].Number == 1 && !w.midway}
	}
	if segs[0].Number > 1 && !w.midway {
		w.note(segs[0].Key, 0, "the series starts with segment %d: the segments before it were removed, what they held and whether they were whole cannot be proven", segs[0].Number)
	}
	at := 0
	seg := &segs[0]
	for seg != nil {
		if at >= 0 {
			seen[at] = true
		}
		end, err := w.segment(ctx, seg)
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		seg, at, err = w.next(ctx, seg, end, seen)
		if err != nil {
			return err
		}
	}
	for i := range segs {
		if !seen[i] {
			w.problem(segs[i].Key, 0, "compare its events with those of the segment of the same number; nothing that reads the archive looks at it",
				"no seal or break names this segment")
		}
	}
	return nil
}

// next finds the segment after seg; nil if there is none. at is its place in the
// listing, -1 if it is not listed.
func (w *walker) next(ctx context.Context, seg *Segment, end segmentEnd, seen []bool) (*Segment, int, error) {
	segs := w.series.Segments
	if end.frame != nil {
		key := end.frame.Content.Next
		name, number, ext, ok := parseNext(key, w.series.Name)
		if !ok || number != seg.Number+1 {
			w.problem(seg.Key, end.frame.Place.Position, "", "the %s names %q as the next segment, which is not segment %d of %s",
				end.frame.Content.Kind, key, seg.Number+1, w.series.Name)
		} else {
			// A copy may lie under another prefix than the names in it.
			here := event.Key(w.prefix, name, number, ext)
			for i := range segs {
				if (segs[i].Key == key || segs[i].Key == here) && !seen[i] {
					return &segs[i], i, nil
				}
			}
			// Not listed: it is created by the first append to it, maybe since.
			for _, k := range []string{key, here} {
				if w.frozen {
					break
				}
				info, err := w.look(ctx, k)
				if err == nil {
					return &Segment{Key: k, Number: number, Ext: ext, Size: info.Length}, -1, nil
				}
				if ctx.Err() != nil {
					return nil, 0, ctx.Err()
				}
				if object.KindOf(err) != object.NotFound {
					w.problem(k, 0, "make it readable, then verify again", "the next segment cannot be read: %v", err)
				}
			}
		}
	}
	// The chain of names ends here. Later segments in the listing are either
	// behind a gap, or the store took no append to this one, not even a seal.
	for i := range segs {
		if seen[i] || segs[i].Number <= seg.Number {
			continue
		}
		next := &segs[i]
		if next.Number == seg.Number+1 && end.frame == nil && !end.gone {
			how := "it has neither seal nor break"
			if !end.info.Appendable {
				how = "the store takes no appends to it"
			}
			w.note(seg.Key, end.info.Length, "the series goes on in %s although %s: legal if the store refused to seal it; the chain of hashes shows whether anything lies between", next.Key, how)
			return next, i, nil
		}
		if end.gone {
			w.chain.Anchored = false
			return next, i, nil
		}
		gap := fmt.Sprintf("segment %d", seg.Number+1)
		if next.Number > seg.Number+2 {
			gap = fmt.Sprintf("segments %d-%d", seg.Number+1, next.Number-1)
		}
		if next.Number == seg.Number+1 {
			gap = "the segment that the last one names"
		}
		w.problem(next.Key, 0, "restore what is missing from versions or a copy", "%s of %s: not there, but later ones are; the events after sequence %d are affected",
			gap, w.series.Name, w.chain.Last)
		w.chain.Anchored = false
		return next, i, nil
	}
	return nil, 0, nil
}

// parseNext takes the key in a seal or break apart without knowing the prefix
// under which it was written.
func parseNext(key, series string) (name string, number int, ext string, ok bool) {
	i := strings.LastIndex(key, series+".")
	if i < 0 {
		return "", 0, "", false
	}
	name, number, ext, ok = event.ParseKey(key[:i], key)
	return name, number, ext, ok && name == series
}
