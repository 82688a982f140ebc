package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/blakesmith/ar"
)

const checkout = "../.."

// program is the product as `go build` makes it, once for all tests: static ones
// take minutes from a cold cache.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ossuary-release-test")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "consumer")
	if out, err := exec.Command("go", "build", "-C", checkout, "-ldflags=-s -w", "-o", file, "./cmd/consumer").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
})

var linux = target{"linux", "amd64"}

// made is what a run has written, by file name.
func made(t *testing.T) (*release, map[string][]byte) {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	r := &release{root: checkout, out: t.TempDir(), stage: t.TempDir(),
		build: build{Version: "v1.2.3", Commit: "c0ffee", Time: committed, Go: runtime.Version()}}
	r.compile = func(_ context.Context, _ target, to string) error {
		data, err := os.ReadFile(file)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o755))
		}
		return err
	}
	for _, step := range []func() error{
		func() error { return r.compile(t.Context(), linux, r.host()) },
		func() error { return r.documents(t.Context()) },
		func() error { return r.system(t.Context(), linux) },
		func() error { return r.archive(target{"windows", "amd64"}, r.host()) },
		r.checksums,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return r, contents(t, r.out)
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

var committed = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func TestRelease(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it packs the program of this machine for Linux")
	}
	r, first := made(t)
	want := []string{"SHA256SUMS", "ossuary-1.2.3-1.x86_64.rpm", "ossuary-1.2.3-linux-amd64.cdx.json", "ossuary-1.2.3-linux-amd64.tar.gz",
		"ossuary-1.2.3-windows-amd64.zip", "ossuary_1.2.3_amd64.deb"}
	if got := slices.Sorted(maps.Keys(first)); !slices.Equal(got, want) {
		t.Fatalf("made %q, not %q", got, want)
	}

	t.Run("the same bytes again", func(t *testing.T) {
		umask := syscall.Umask(0o077) // as the next one's may be
		defer syscall.Umask(umask)
		_, second := made(t)
		for name := range first {
			if !bytes.Equal(first[name], second[name]) {
				t.Errorf("%s comes out otherwise the second time", name)
			}
		}
	})
	t.Run("checksums", func(t *testing.T) {
		check := exec.Command("sha256sum", "--strict", "-c", "SHA256SUMS")
		check.Dir = r.out
		if out, err := check.CombinedOutput(); err != nil || bytes.Count(out, []byte(": OK")) != len(want)-1 {
			t.Errorf("sha256sum -c: %v\n%s", err, out)
		}
	})
	t.Run("archive", func(t *testing.T) {
		files := untar(t, bytes.NewReader(first["ossuary-1.2.3-linux-amd64.tar.gz"]))
		for _, name := range []string{"consumer", "LICENSE", "THIRD-PARTY-LICENSES", "ossuary.yaml", "ossuary.service", "man/consumer-run.1", "completions/consumer.bash", "docs/UPGRADE.md"} {
			h, ok := files["ossuary-1.2.3-linux-amd64/"+name]
			if !ok {
				t.Errorf("%s is not in the archive", name)
				continue
			}
			if wantMode := map[bool]int64{true: 0o755, false: 0o644}[name == "consumer"]; h.mode != wantMode || !h.time.Equal(committed) {
				t.Errorf("%s has mode %o and time %s", name, h.mode, h.time)
			}
		}
	})
	t.Run("deb", func(t *testing.T) { deb(t, r, first["ossuary_1.2.3_amd64.deb"]) })
	t.Run("rpm", func(t *testing.T) { rpm(t, r, first["ossuary-1.2.3-1.x86_64.rpm"]) })
	t.Run("bill of materials", func(t *testing.T) {
		var bom cyclonedx.BOM
		if err := cyclonedx.NewBOMDecoder(bytes.NewReader(first["ossuary-1.2.3-linux-amd64.cdx.json"]), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
			t.Fatal(err)
		}
		has := func(name string) bool {
			return slices.ContainsFunc(*bom.Components, func(c cyclonedx.Component) bool { return c.Name == name && c.Version != "" })
		}
		if !has("std") || !has("github.com/nats-io/nats-server/v2") || has("github.com/cpuguy83/go-md2man/v2") {
			t.Errorf("it lists %+v", bom.Components)
		}
	})
	t.Run("man pages", func(t *testing.T) { manPages(t, r) })
	t.Run("completions", func(t *testing.T) {
		for _, shell := range []struct{ name, file string }{{"bash", "consumer.bash"}, {"zsh", "_consumer"}, {"fish", "consumer.fish"}} {
			path, err := exec.LookPath(shell.name)
			if err != nil {
				t.Logf("%s is not here: its completions were not parsed", shell.name)
				continue
			}
			if out, err := exec.Command(path, "-n", filepath.Join(r.stage, "completions", shell.file)).CombinedOutput(); err != nil {
				t.Errorf("%s -n: %v\n%s", shell.name, err, out)
			}
		}
	})
}

// entry is a file in an archive or package.
type entry struct {
	mode  int64
	group string
	time  time.Time
	data  []byte
}

func untar(t *testing.T, packed io.Reader) map[string]entry {
	t.Helper()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]entry{}
	for a := tar.NewReader(z); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(a)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, ".")] = entry{h.Mode & 0o7777, h.Gname, h.ModTime, data}
	}
}

// installed is what both packages bring.
func installed(t *testing.T, r *release, files map[string]entry) {
	t.Helper()
	want := map[string]int64{
		"/usr/bin/consumer": 0o755, "/usr/lib/systemd/system/ossuary.service": 0o644, "/etc/ossuary/ossuary.yaml": 0o640,
		"/usr/share/doc/ossuary/ossuary.yaml": 0o644, "/usr/share/doc/ossuary/copyright": 0o644, "/usr/share/doc/ossuary/THIRD-PARTY-LICENSES": 0o644,
		"/usr/share/doc/ossuary/docs/UPGRADE.md":             0o644,
		"/usr/share/bash-completion/completions/consumer":    0o644,
		"/usr/share/zsh/site-functions/_consumer":            0o644,
		"/usr/share/fish/vendor_completions.d/consumer.fish": 0o644,
	}
	pages, err := filepath.Glob(filepath.Join(r.stage, "man", "*.1"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("there are %d man pages: %v", len(pages), err)
	}
	for _, p := range pages {
		want["/usr/share/man/man1/"+filepath.Base(p)+".gz"] = 0o644
	}
	for name, mode := range want {
		f, ok := files[name]
		if !ok {
			t.Errorf("it does not bring %s", name)
			continue
		}
		if f.mode != mode || len(f.data) == 0 || !f.time.Equal(committed) {
			t.Errorf("%s has mode %o, %d bytes and time %s", name, f.mode, len(f.data), f.time)
		}
	}
	// The service may read its configuration, and nobody else.
	if f := files["/etc/ossuary/ossuary.yaml"]; f.group != "ossuary" {
		t.Errorf("the configuration belongs to group %q", f.group)
	}
}

func deb(t *testing.T, r *release, data []byte) {
	parts := map[string][]byte{}
	for a := ar.NewReader(bytes.NewReader(data)); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if parts[strings.TrimSuffix(h.Name, "/")], err = io.ReadAll(a); err != nil {
			t.Fatal(err)
		}
	}
	installed(t, r, untar(t, bytes.NewReader(parts["data.tar.gz"])))
	control := untar(t, bytes.NewReader(parts["control.tar.gz"]))
	for name, want := range map[string]string{
		"/control":   "\nArchitecture: amd64\n",
		"/conffiles": "/etc/ossuary/ossuary.yaml\n",
		"/preinst":   "useradd --system",
		"/postinst":  "try-restart ossuary.service",
		"/prerm":     "disable --now ossuary.service",
		"/postrm":    "daemon-reload",
	} {
		if !bytes.Contains(control[name].data, []byte(want)) {
			t.Errorf("%s lacks %q:\n%s", name, want, control[name].data)
		}
	}
	if dpkg, err := exec.LookPath("dpkg-deb"); err == nil {
		if out, err := exec.Command(dpkg, "--contents", filepath.Join(r.out, "ossuary_1.2.3_amd64.deb")).CombinedOutput(); err != nil {
			t.Errorf("dpkg-deb: %v\n%s", err, out)
		}
	}
}

// manPages has one page for each command that the help shows, and groff takes them.
func manPages(t *testing.T, r *release) {
	var tree command
	if err := r.ask(t.Context(), &tree, "commands"); err != nil {
		t.Fatal(err)
	}
	groff, _ := exec.LookPath("groff")
	n := 0
	var walk func(path string, c command)
	walk = func(path string, c command) {
		n++
		name, _, _ := strings.Cut(c.Use, " ")
		path = strings.TrimPrefix(path+"-"+name, "-")
		file := filepath.Join(r.stage, "man", path+".1")
		page, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			return
		}
		for _, want := range []string{".TH", "NAME", "SYNOPSIS", strings.ToUpper(strings.ReplaceAll(path, "-", "\\-"))[:4]} {
			if !bytes.Contains(bytes.ToUpper(page), []byte(want)) {
				t.Errorf("%s lacks %s", file, want)
			}
		}
		for _, f := range slices.Concat(c.Flags, c.Global) {
			if !bytes.Contains(page, []byte(strings.ReplaceAll("--"+f.Name, "-", `\-`))) && !bytes.Contains(page, []byte("--"+f.Name)) {
				t.Errorf("%s does not mention --%s", file, f.Name)
			}
		}
		if groff != "" {
			// As man does it: a default may be so many µs.
			if out, err := exec.Command(groff, "-Kutf8", "-man", "-Tutf8", "-z", "-wall", file).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("groff: %v\n%s", err, out)
			}
		}
		for _, sub := range c.Commands {
			walk(path, sub)
		}
	}
	walk("", tree)
	pages, err := filepath.Glob(filepath.Join(r.stage, "man", "*"))
	if err != nil || len(pages) != n {
		t.Errorf("%d commands, %d pages: %v", n, len(pages), err)
	}
}

// The commit is in the program whichever way it was made.
func TestVersion(t *testing.T) {
	// Go finds no commit in a worktree, whose .git is a file.
	if info, err := os.Stat(filepath.Join(checkout, ".git")); err != nil || !info.IsDir() {
		t.Skip("this is no checkout by git with a .git of its own")
	}
	head, err := exec.Command("git", "-C", checkout, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Skipf("this is no checkout by git: %v", err)
	}
	ways := map[string]func(to string) error{
		"go install": func(to string) error {
			cmd := exec.Command("go", "install", "-C", checkout, "./cmd/consumer")
			cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=auto", "GOBIN="+filepath.Dir(to))
			return cmd.Run()
		},
	}
	if os.Getenv("OSSUARY_LONG") != "" {
		ways["release"] = func(to string) error {
			return (&release{root: checkout}).static(t.Context(), target{runtime.GOOS, runtime.GOARCH}, to)
		}
	}
	for way, make := range ways {
		file := filepath.Join(t.TempDir(), target{os: runtime.GOOS}.binary())
		if err := make(file); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		out, err := exec.Command(file, "version", "--json").Output()
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		var b build
		if err := json.Unmarshal(out, &b); err != nil || b.Commit != strings.TrimSpace(string(head)) || b.Version == "" || b.Time.IsZero() {
			t.Errorf("by %s it says %s: %v", way, out, err)
		}
	}
}

// Two checkouts in different places with caches of their own give the same bytes.
// Minutes, since everything is compiled twice.
func TestReproducible(t *testing.T) {
	if os.Getenv("OSSUARY_LONG") == "" {
		t.Skip("compiles everything twice; OSSUARY_LONG=1")
	}
	var runs []map[string][]byte
	for _, name := range []string{"a", "another/place"} {
		dir := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command("git", "clone", "--quiet", "--no-hardlinks", checkout, dir).CombinedOutput(); err != nil {
			t.Fatalf("git clone: %v\n%s", err, out)
		}
		t.Setenv("GOCACHE", t.TempDir())
		out := filepath.Join(t.TempDir(), "dist")
		if err := run(t.Context(), []string{"-root", dir, "-out", out, "-targets", "linux/amd64,windows/amd64"}); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, contents(t, out))
	}
	if len(runs[0]) < 7 || len(runs[0]) != len(runs[1]) {
		t.Fatalf("%d and %d files", len(runs[0]), len(runs[1]))
	}
	for name := range runs[0] {
		if !bytes.Equal(runs[0][name], runs[1][name]) {
			t.Errorf("%s differs", name)
		}
	}
}
