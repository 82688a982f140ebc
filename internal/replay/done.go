package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// done is which events of the origin stand, or stood, in the target.
type done struct {
	lives   map[int]*roaring64.Bitmap // sequences by incarnation
	scanned uint64                    // the target's messages up to here are all considered
}

func newDone() *done { return &done{lives: map[int]*roaring64.Bitmap{}} }

func (d *done) has(p place) bool {
	l := d.lives[p.incarnation]
	return l != nil && l.Contains(p.sequence)
}

func (d *done) add(p place) {
	l := d.lives[p.incarnation]
	if l == nil {
		l = roaring64.New()
		d.lives[p.incarnation] = l
	}
	l.Add(p.sequence)
}

// readOn considers the target's messages that were not yet.
func (d *done) readOn(ctx context.Context, t *target, o origin, progress func(at, last uint64)) error {
	last, err := t.read(ctx, d.scanned+1, true, func(s *stored) error {
		if p, ok := o.placeOf(s.header); ok {
			d.add(p)
		}
		if progress != nil {
			progress(s.sequence, t.info.State.LastSeq)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.scanned = max(d.scanned, last)
	return nil
}

const stateVersion = 1

// state is done in a file. It remembers what the target may forget, and saves
// reading the target from its start.
type state struct {
	Version int            `json:"v"`
	Archive string         `json:"archive"`
	Source  string         `json:"source"`
	Target  string         `json:"target"`
	Created time.Time      `json:"target_created"`
	Scanned uint64         `json:"scanned"` // of the target's sequences
	Bitmaps map[int][]byte `json:"done"`    // by incarnation
}

// loadDone reads a state file; without one it is empty.
func loadDone(file string, t *target, o origin) (*done, error) {
	d := newDone()
	if file == "" {
		return d, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("state file %s: %w; it is none of a replay, or damaged: name another file", file, err)
	}
	created := t.info.Created
	switch {
	case s.Version != stateVersion:
		return nil, fmt.Errorf("state file %s: version %d, known is %d; use the program that wrote it", file, s.Version, stateVersion)
	case s.Archive != o.archive || s.Source != o.stream || s.Target != t.name:
		return nil, fmt.Errorf("state file %s is of a replay of archive %s, stream %s into %s; name another file", file, s.Archive, s.Source, s.Target)
	case !s.Created.Equal(created):
		return nil, fmt.Errorf("state file %s is of a stream %s that was created at %s, this one at %s: what it says is done is not here; remove the file to replay everything",
			file, t.name, s.Created.Format(time.RFC3339), created.Format(time.RFC3339))
	case s.Scanned > t.info.State.LastSeq:
		return nil, fmt.Errorf("state file %s knows stream %s up to sequence %d, it ends at %d: it was set back; remove the file to replay what is not there",
			file, t.name, s.Scanned, t.info.State.LastSeq)
	}
	for incarnation, p := range s.Bitmaps {
		l := roaring64.New()
		if err := l.UnmarshalBinary(p); err != nil {
			return nil, fmt.Errorf("state file %s: %w; it is damaged: name another file", file, err)
		}
		d.lives[incarnation] = l
	}
	d.scanned = s.Scanned
	return d, nil
}

// save replaces the state file.
func (d *done) save(file string, t *target, o origin) (err error) {
	if file == "" {
		return nil
	}
	s := state{Version: stateVersion, Archive: o.archive, Source: o.stream, Target: t.name, Created: t.info.Created, Scanned: d.scanned, Bitmaps: map[int][]byte{}}
	for incarnation, l := range d.lives {
		if s.Bitmaps[incarnation], err = l.MarshalBinary(); err != nil {
			return fmt.Errorf("state file: %w", err)
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}
