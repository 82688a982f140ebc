package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ossuary/internal/object"
)

// Dir is a read-only store over a local directory: an object is the file whose
// path below the directory is its key. It serves downloaded and moved copies, so
// that an archive can be proven without the store that it came from. The CRC is
// computed from the bytes: it can only prove what is compared with it.
type Dir struct{ root *os.Root }

// OpenDir opens the directory. Keys cannot lead out of it, not even by links.
func OpenDir(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("opening the archive's directory: %w", err)
	}
	return &Dir{root}, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

func dirError(op, key string, err error) error {
	kind := object.InDoubt
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = object.NotFound
	case errors.Is(err, fs.ErrPermission):
		kind = object.Refused
	}
	return &object.Error{Op: op, Key: key, Kind: kind, Err: err}
}

func (d *Dir) open(op, key string) (*os.File, int64, error) {
	f, err := d.root.Open(filepath.FromSlash(key))
	if err != nil {
		return nil, 0, dirError(op, key, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, 0, dirError(op, key, err)
	}
	return f, info.Size(), nil
}

// Head implements the store. It reads the whole file for its CRC.
func (d *Dir) Head(ctx context.Context, key string) (object.Info, error) {
	f, size, err := d.open("head", key)
	if err != nil {
		return object.Info{}, err
	}
	defer f.Close()
	info := object.Info{Appendable: true}
	if st, err := f.Stat(); err == nil {
		info.Modified = st.ModTime().UTC()
	}
	buf := make([]byte, 256<<10)
	// Not past the size seen first: the file may be an emulator's and grow.
	for r := io.LimitReader(f, size); ; {
		if err := ctx.Err(); err != nil {
			return object.Info{}, dirError("head", key, err)
		}
		n, err := r.Read(buf)
		info.CRC64 = object.CRC64(info.CRC64, buf[:n])
		info.Length += int64(n)
		if errors.Is(err, io.EOF) {
			return info, nil
		}
		if err != nil {
			return object.Info{}, dirError("head", key, err)
		}
	}
}

// Stat is Head without the CRC, and so without reading the file.
func (d *Dir) Stat(_ context.Context, key string) (object.Info, error) {
	f, size, err := d.open("stat", key)
	if err != nil {
		return object.Info{}, err
	}
	defer f.Close()
	return object.Info{Length: size, Appendable: true}, nil
}

// Read implements the store.
func (d *Dir) Read(_ context.Context, key string, from, to int64) (io.ReadCloser, error) {
	f, size, err := d.open("read", key)
	if err != nil {
		return nil, err
	}
	if to < 0 || to > size {
		to = size
	}
	section := io.NewSectionReader(f, from, max(0, to-from))
	return struct {
		io.Reader
		io.Closer
	}{bufio.NewReaderSize(section, 256<<10), f}, nil
}

// List implements the store.
func (d *Dir) List(ctx context.Context, prefix string, fn func(object.Entry) error) error {
	var found []object.Entry
	err := fs.WalkDir(d.root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.IsDir() {
			// A directory that can hold no key of the prefix is left out.
			if dir := path + "/"; path != "." && !strings.HasPrefix(dir, prefix) && !strings.HasPrefix(prefix, dir) {
				return fs.SkipDir
			}
			return nil
		}
		if !e.Type().IsRegular() || !strings.HasPrefix(path, prefix) {
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since the directory was read
		}
		if err != nil {
			return err
		}
		found = append(found, object.Entry{Key: path, Size: info.Size(), Modified: info.ModTime().UTC()})
		return nil
	})
	if err != nil {
		return dirError("list", prefix, err)
	}
	// Directories are walked name by name, which is not the order of whole keys.
	slices.SortFunc(found, func(a, b object.Entry) int { return strings.Compare(a.Key, b.Key) })
	for _, e := range found {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}
