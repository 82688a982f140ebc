//go:build unix

package main

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// verify has `consumer verify` prove an archive from a directory, and compares it
// with what a shell does to the same objects: unpack them and hash what comes out.
// Both may use all cores.
func verify(b *bench, t *trial, out *round) {
	l := load{Series: 16, Payload: 1024, Events: b.events / 2}
	b.fill(t, l)
	dir := t.dir()
	e := b.emulator(t, dir)
	a := b.archive(l, "gzip")
	a.Store = e.addr
	defer b.dropLedger(t, a)
	b.archiveAll(t, a, e.Process)
	e.Stop()
	objects := filepath.Join(dir, bucketName)
	var files []string
	if err := filepath.WalkDir(objects, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(name, ".gz") {
			files = append(files, name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no object lies in %s", objects)
	}
	timed := func(name string, args ...string) float64 {
		began := time.Now()
		if text, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		return time.Since(began).Seconds()
	}
	shell := timed("sh", append([]string{"-ec", `zcat "$@" | sha256sum`, "sh"}, files...)...)
	ours := timed(b.consumer, "verify", "--dir", objects, "--prefix", a.Prefix(), "--json")
	out.Values["zcat | sha256sum, s"], out.Values["verify, s"] = shell, ours
	out.Values["pace in terms of zcat | sha256sum"] = shell / ours
	b.say("  zcat | sha256sum %.2f s, verify %.2f s", shell, ours)
}
