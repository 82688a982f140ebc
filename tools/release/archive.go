package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is a file of an archive.
type file struct {
	name string // with slashes
	mode int64
	data []byte
}

// archive writes the archive for a system: the program and everything beside it,
// in one directory.
func (r *release) archive(t target, binary string) error {
	name := strings.Join([]string{"ossuary", r.build.name(), t.os, t.arch}, "-")
	files, err := r.files(t, binary)
	if err != nil {
		return err
	}
	for i := range files {
		files[i].name = path.Join(name, files[i].name)
	}
	var b bytes.Buffer
	if t.os == "windows" {
		err = writeZip(&b, files, r.build.Time)
		name += ".zip"
	} else {
		err = writeTar(&b, files, r.build.Time)
		name += ".tar.gz"
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, name), b.Bytes(), 0o644)
}

// files are what goes into each archive, sorted by name.
func (r *release) files(t target, binary string) ([]file, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	files := []file{{t.binary(), 0o755, program}}
	from := map[string]string{ // by name
		"LICENSE": "LICENSE", "README.md": "README.md", "CHANGELOG.md": "CHANGELOG.md", "ossuary.yaml": "examples/ossuary.yaml",
	}
	docs, err := filepath.Glob(filepath.Join(r.root, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	for _, d := range docs {
		from["docs/"+filepath.Base(d)] = "docs/" + filepath.Base(d)
	}
	if t.os == "linux" {
		from["ossuary.service"] = "deploy/systemd/ossuary.service"
	}
	for name, source := range from {
		data, err := os.ReadFile(filepath.Join(r.root, source))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, 0o644, data})
	}
	for _, pattern := range []string{"THIRD-PARTY-LICENSES", "completions/*", "man/*"} {
		found, err := filepath.Glob(filepath.Join(r.stage, pattern))
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			data, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(r.stage, f)
			if err != nil {
				return nil, err
			}
			files = append(files, file{filepath.ToSlash(name), 0o644, data})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

func writeTar(w io.Writer, files []file, when time.Time) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	a := tar.NewWriter(z)
	for _, f := range files {
		err := a.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: when, Uname: "root", Gname: "root", Format: tar.FormatUSTAR})
		if err != nil {
			return err
		}
		if _, err := a.Write(f.data); err != nil {
			return err
		}
	}
	if err := a.Close(); err != nil {
		return err
	}
	return z.Close()
}

func writeZip(w io.Writer, files []file, when time.Time) error {
	a := zip.NewWriter(w)
	a.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: when.UTC()}
		h.SetMode(os.FileMode(f.mode))
		e, err := a.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := e.Write(f.data); err != nil {
			return err
		}
	}
	return a.Close()
}
