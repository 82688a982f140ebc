package archive

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// Below <prefix>_ossuary/ lies what the service keeps for itself. Dead letters
// are series like any other; control logs and layouts are not.
const (
	controlDir = "_ossuary/control/"
	layoutDir  = "_ossuary/layout/"
	deadDir    = "_ossuary/dead/"
	checkDir   = "_ossuary/check/"   // what `consumer check` tried its permissions on
	redriveDir = "_ossuary/redrive/" // which dead letters were sent again, see package redrive
)

// overtakenDir, below a lane's dead letters, has a series for each event that was
// overtaken, named by its sequence.
const overtakenDir = "/overtaken/"

// Segment is one appendable object of a series, as the listing showed it.
type Segment struct {
	Key    string
	Number int // from 1
	Ext    string
	Size   int64 // bytes, when it was listed
}

// Series is the segments of one object name in ascending order.
type Series struct {
	Name     string
	Segments []Segment
}

// Dead reports whether the series holds a lane's dead letters.
func (s *Series) Dead() bool { return isDead(s.Name) }

func isDead(series string) bool { return strings.HasPrefix(series, deadDir) }

// Size is the listed size of all segments in bytes.
func (s *Series) Size() (n int64) {
	for i := range s.Segments {
		n += s.Segments[i].Size
	}
	return n
}

// Inventory is every object under a prefix, sorted by what it is.
type Inventory struct {
	Series  []Series // ascending by name
	Control []object.Entry
	Layouts []object.Entry
	Strange []object.Entry // objects that no rule of the format explains
}

// Walk lists the prefix. Its memory is proportional to the number of objects.
func Walk(ctx context.Context, st store, prefix string) (*Inventory, error) {
	return walkBelow(ctx, st, prefix, "")
}

// walkBelow lists the series whose names begin with below. A listing that breaks
// off is made again.
func walkBelow(ctx context.Context, st store, prefix, below string) (inv *Inventory, err error) {
	err = again(ctx, func() (err error) {
		inv, err = listBelow(ctx, st, prefix, below)
		return err
	})
	return inv, err
}

func listBelow(ctx context.Context, st store, prefix, below string) (*Inventory, error) {
	inv := &Inventory{}
	index := map[string]int{}
	err := st.List(ctx, prefix+below, func(e object.Entry) error {
		rest := strings.TrimPrefix(e.Key, prefix)
		switch {
		case strings.HasPrefix(rest, controlDir):
			inv.Control = append(inv.Control, e)
			return nil
		case strings.HasPrefix(rest, layoutDir):
			inv.Layouts = append(inv.Layouts, e)
			return nil
		case strings.HasPrefix(rest, checkDir), strings.HasPrefix(rest, redriveDir):
			return nil
		}
		name, number, ext, ok := event.ParseKey(prefix, e.Key)
		if ok {
			_, _, ok = event.ParseExt(ext)
		}
		if !ok {
			inv.Strange = append(inv.Strange, e)
			return nil
		}
		i, known := index[name]
		if !known {
			i = len(inv.Series)
			index[name] = i
			inv.Series = append(inv.Series, Series{Name: name})
		}
		s := &inv.Series[i]
		s.Segments = append(s.Segments, Segment{Key: e.Key, Number: number, Ext: ext, Size: e.Size})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %q: %w", prefix, err)
	}
	slices.SortFunc(inv.Series, func(a, b Series) int { return strings.Compare(a.Name, b.Name) })
	for i := range inv.Series {
		slices.SortFunc(inv.Series[i].Segments, func(a, b Segment) int {
			return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Ext, b.Ext))
		})
	}
	return inv, nil
}

// Bytes is the listed size of everything under the prefix.
func (inv *Inventory) Bytes() (n int64) {
	for i := range inv.Series {
		n += inv.Series[i].Size()
	}
	for _, group := range [][]object.Entry{inv.Control, inv.Layouts} {
		for i := range group {
			n += group[i].Size
		}
	}
	return n
}
