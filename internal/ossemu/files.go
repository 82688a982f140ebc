package ossemu

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	metaDir    = ".ossuary"
	tmpDir     = metaDir + "/tmp"
	escapedDir = metaDir + "/escaped"
	// Versions of objects, other than each key's first.
	versionsDir = metaDir + "/versions"
	lockName    = metaDir + "/lock"
)

// files holds the bytes of objects by path. It knows nothing of what is
// committed. Calls for one path do not overlap, except that opened files are
// read while others write behind what they read.
type files interface {
	size(path string) (int64, time.Time, error)       // fs.ErrNotExist if there is no such plain file
	create(path string) error                         // empty; errNoPlace if the path cannot be
	write(path string, at int64, b *body) error       // may leave part of it behind when it fails
	truncate(path string, n int64) error              // no longer than n
	install(path string, b *body) error               // b's bytes are the file's from now on
	remove(path string) error                         // no error if it is not there
	open(path string) (io.ReadSeekCloser, error)      // sees what is there now, whatever install and remove do later
	temp() (w io.WriteCloser, name string, err error) // nil where bodies stay in memory
	openTemp(name string) (io.ReadSeekCloser, error)
	removeTemp(name string)
}

// errNoPlace says that this path cannot be a file, because part of it is one
// already, or because it is a directory.
var errNoPlace = errors.New("no place in the file system")

// place returns the path for a key's file, and whether it is the plain one.
// Keys that make no safe or possible file name get a name of their own among
// the escaped.
func place(bucket, key string) (string, bool) {
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 || strings.ContainsAny(part, "\x00\\") {
			return escaped(bucket, key), false
		}
	}
	return bucket + "/" + key, true
}

// versionPlace returns a path that no other version's file has or has had.
func versionPlace(bucket, key string) string {
	sum := sha256.Sum256([]byte(key))
	return versionsDir + "/" + bucket + "/" + hex.EncodeToString(sum[:]) + "-" + newID()
}

func escaped(bucket, key string) string {
	sum := sha256.Sum256([]byte(key))
	return escapedDir + "/" + bucket + "/" + hex.EncodeToString(sum[:])
}

// diskFiles are files below a directory, which os.Root keeps them from leaving,
// by symbolic links too.
type diskFiles struct {
	root  *os.Root
	fsync bool
	n     atomic.Uint64 // of temporary files
}

func (d *diskFiles) size(p string) (int64, time.Time, error) {
	info, err := d.root.Lstat(p)
	switch {
	case err != nil && noPath(err):
		return 0, time.Time{}, fs.ErrNotExist
	case err != nil:
		return 0, time.Time{}, err
	case !info.Mode().IsRegular():
		return 0, time.Time{}, fs.ErrNotExist
	}
	return info.Size(), info.ModTime(), nil
}

// noPath says whether nothing can be at a path.
func noPath(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || isNotDir(err)
}

func (d *diskFiles) create(p string) error {
	for range 10 {
		if err := d.root.MkdirAll(path.Dir(p), 0o755); err != nil {
			if isNotDir(err) || errors.Is(err, fs.ErrExist) || isTooLong(err) {
				return errNoPlace
			}
			return err
		}
		f, err := d.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		switch {
		case err == nil:
			err = f.Close()
			if err == nil && d.fsync {
				err = d.syncParents(p)
			}
			return err
		case errors.Is(err, fs.ErrExist):
			if strings.HasPrefix(p, escapedDir+"/") {
				return d.truncate(p, 0) // nobody else's; left by an earlier try
			}
			return errNoPlace
		case isNotDir(err), isTooLong(err):
			return errNoPlace
		case errors.Is(err, fs.ErrNotExist):
			continue // a delete has just tidied the directory away
		default:
			return err
		}
	}
	return fmt.Errorf("creating %s: its directory keeps vanishing", p)
}

func (d *diskFiles) syncParents(p string) error {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		if err := syncDir(d.root, dir); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

func (d *diskFiles) write(p string, at int64, b *body) error {
	f, err := d.root.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = b.writeTo(d, io.NewOffsetWriter(f, at))
	if err == nil && d.fsync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (d *diskFiles) truncate(p string, n int64) error {
	f, err := d.root.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(n), f.Close())
}

func (d *diskFiles) install(p string, b *body) error {
	err := d.root.Rename(tmpDir+"/"+b.tmp, p)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.root.MkdirAll(path.Dir(p), 0o755); err != nil {
			return err
		}
		err = d.root.Rename(tmpDir+"/"+b.tmp, p)
	}
	if err != nil {
		return err
	}
	if d.fsync {
		return d.syncParents(p)
	}
	return nil
}

func (d *diskFiles) remove(p string) error {
	if err := d.root.Remove(p); err != nil && !noPath(err) {
		return err
	}
	// Empty directories go too, down to the bucket's own, so that their names
	// are free for objects again. The first that is not empty ends it.
	for dir := path.Dir(p); strings.Count(dir, "/") > 0; dir = path.Dir(dir) {
		if d.root.Remove(dir) != nil {
			break
		}
	}
	return nil //nolint:nilerr // what is not there is removed
}

func (d *diskFiles) open(p string) (io.ReadSeekCloser, error) { return d.root.Open(p) }

func (d *diskFiles) temp() (io.WriteCloser, string, error) {
	name := fmt.Sprintf("%d-%d", time.Now().UnixNano(), d.n.Add(1))
	f, err := d.root.OpenFile(tmpDir+"/"+name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, "", err
	}
	if d.fsync {
		return syncCloser{f}, name, nil
	}
	return f, name, nil
}

type syncCloser struct{ *os.File }

func (f syncCloser) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

func (d *diskFiles) openTemp(name string) (io.ReadSeekCloser, error) {
	return d.root.Open(tmpDir + "/" + name)
}

// removeTemp leaves it to the next opening of the store what it cannot remove.
func (d *diskFiles) removeTemp(name string) { _ = d.root.Remove(tmpDir + "/" + name) }

// memFiles are files in memory.
type memFiles struct {
	mu sync.Mutex
	m  map[string][]byte // bytes below a length never change, see write
}

func (f *memFiles) size(p string) (int64, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.m[p]
	if !ok {
		return 0, time.Time{}, fs.ErrNotExist
	}
	return int64(len(data)), time.Time{}, nil
}

func (f *memFiles) create(p string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[p] = []byte{}
	return nil
}

// write appends: at is always the length, since nothing here is left half done.
func (f *memFiles) write(p string, at int64, b *body) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[p] = append(f.m[p][:at], b.mem...)
	return nil
}

// truncate makes the next write copy what is left: readers may still have the rest.
func (f *memFiles) truncate(p string, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[p] = slices.Clip(f.m[p][:n])
	return nil
}

func (f *memFiles) install(p string, b *body) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[p] = b.mem
	return nil
}

func (f *memFiles) remove(p string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.m, p)
	return nil
}

type memReader struct{ *bytes.Reader }

func (memReader) Close() error { return nil }

func (f *memFiles) open(p string) (io.ReadSeekCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.m[p]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return memReader{bytes.NewReader(data)}, nil
}

func (f *memFiles) temp() (io.WriteCloser, string, error)      { return nil, "", nil }
func (f *memFiles) openTemp(string) (io.ReadSeekCloser, error) { return nil, fs.ErrNotExist }
func (f *memFiles) removeTemp(string)                          {}
