package control

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"ossuary/internal/object"
)

// maxLayout is the largest layout that is read, in bytes.
const maxLayout = 16 << 20

func layoutPrefix(prefix string) string { return prefix + "_ossuary/layout/" }

func layoutKey(prefix string, n int) string {
	return layoutPrefix(prefix) + strconv.Itoa(n) + ".json"
}

// SaveLayout stores a layout and returns its number: that of an equal layout
// numbered current or higher, else a new one higher than all. current is the
// number that holds now, 0 for none; so numbers only ever rise, and going back
// to an older configuration is a new layout of the old content.
//
// Layouts are written once. Numbers are shared by all sources of an archive.
func SaveLayout(ctx context.Context, s store, prefix string, canonical []byte, current int) (int, error) {
	if len(canonical) == 0 || len(canonical) > maxLayout {
		return 0, fmt.Errorf("control: a layout has 1 to %d bytes, not %d", maxLayout, len(canonical))
	}
	var n int
	err := retry(ctx, zerolog.Nop(), func() (err error) {
		n, err = saveLayout(ctx, s, prefix, canonical, current)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("saving the layout: %w", err)
	}
	return n, nil
}

func saveLayout(ctx context.Context, s store, prefix string, canonical []byte, current int) (int, error) {
	numbers, err := listLayouts(ctx, s, prefix)
	if err != nil {
		return 0, err
	}
	highest := max(current, 0)
	for _, n := range numbers {
		highest = max(highest, n)
		if n < current {
			continue
		}
		if p, err := loadLayout(ctx, s, prefix, n); err != nil {
			return 0, err
		} else if bytes.Equal(p, canonical) {
			return n, nil
		}
	}
	for n := highest + 1; ; n++ {
		done, err := s.Append(ctx, layoutKey(prefix, n), 0, object.Body{canonical}, &object.Create{ContentType: "application/json"})
		if err == nil && done.Next == int64(len(canonical)) && done.CRC64 == object.CRC64(0, canonical) {
			return n, nil
		}
		if k := object.KindOf(err); err != nil && k != object.Mismatch && k != object.Unappendable {
			return 0, err // if it was applied all the same, the next attempt finds it
		}
		// Taken, perhaps by another instance with the same layout.
		if p, err := loadLayout(ctx, s, prefix, n); err != nil {
			return 0, err
		} else if bytes.Equal(p, canonical) {
			return n, nil
		}
	}
}

// LoadLayout reads the layout numbered n.
func LoadLayout(ctx context.Context, s store, prefix string, n int) ([]byte, error) {
	var p []byte
	err := retry(ctx, zerolog.Nop(), func() (err error) {
		p, err = loadLayout(ctx, s, prefix, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading layout %d: %w", n, err)
	}
	return p, nil
}

func loadLayout(ctx context.Context, s store, prefix string, n int) ([]byte, error) {
	key := layoutKey(prefix, n)
	for range rereads {
		info, err := s.Head(ctx, key)
		if err != nil {
			return nil, err
		}
		if info.Length > maxLayout {
			break
		}
		p, err := readAll(ctx, s, key, info.Length)
		if err != nil {
			return nil, err
		}
		if int64(len(p)) == info.Length && object.CRC64(0, p) == info.CRC64 {
			return p, nil
		}
	}
	return nil, &BlockedError{Key: key, What: "no layout, or not the bytes that its checksum speaks of", Mend: "restore the object"}
}

func readAll(ctx context.Context, s store, key string, length int64) ([]byte, error) {
	r, err := s.Read(ctx, key, 0, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := io.ReadAll(io.LimitReader(r, length))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	return p, nil
}

// Layouts lists the numbers of the layouts that exist, ascending.
func Layouts(ctx context.Context, s store, prefix string) ([]int, error) {
	var numbers []int
	err := retry(ctx, zerolog.Nop(), func() (err error) {
		numbers, err = listLayouts(ctx, s, prefix)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing layouts: %w", err)
	}
	return numbers, nil
}

func listLayouts(ctx context.Context, s store, prefix string) ([]int, error) {
	var numbers []int
	err := s.List(ctx, layoutPrefix(prefix), func(e object.Entry) error {
		digits, ok := strings.CutSuffix(strings.TrimPrefix(e.Key, layoutPrefix(prefix)), ".json")
		if n, err := strconv.Atoi(digits); ok && err == nil && n > 0 && layoutKey(prefix, n) == e.Key {
			numbers = append(numbers, n)
		}
		return nil
	})
	slices.Sort(numbers)
	return numbers, err
}
