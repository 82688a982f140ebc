package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // the formats register themselves
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// pack writes a package as deploy/packages/nfpm.yaml says.
func (r *release) pack(format string, t target, binary string) error {
	root, err := filepath.Abs(r.root)
	if err != nil {
		return err
	}
	values := map[string]string{
		"ARCH": t.arch, "VERSION": r.build.Version, "ROOT": root, "STAGE": r.stage, "BINARY": binary,
	}
	value := func(name string) string { return values[name] }
	all, err := nfpm.ParseFileWithEnvMapping(filepath.Join(r.root, "deploy", "packages", "nfpm.yaml"), value)
	if err != nil {
		return err
	}
	info, err := all.Get(format)
	if err != nil {
		return err
	}
	// nfpm does not expand these.
	for _, script := range []*string{&info.Scripts.PreInstall, &info.Scripts.PostInstall, &info.Scripts.PreRemove, &info.Scripts.PostRemove} {
		*script = os.Expand(*script, value)
	}
	info.MTime = r.build.Time
	nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	info.Target = packager.ConventionalFileName(info)
	var b bytes.Buffer
	if err := packager.Package(info, &b); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, info.Target), b.Bytes(), 0o644)
}

// bom writes the bill of materials of a binary, as CycloneDX: the modules that the
// Go tool has stamped into it.
func (r *release) bom(t target, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	purl := func(module, version string) string { return "pkg:golang/" + module + "@" + version }
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: r.build.Time.UTC().Format(time.RFC3339),
		Component: &cyclonedx.Component{BOMRef: "ossuary", Type: cyclonedx.ComponentTypeApplication, Name: "ossuary", Version: r.build.Version,
			Properties: &[]cyclonedx.Property{{Name: "commit", Value: r.build.Commit}, {Name: "system", Value: t.String()}}},
	}
	components := []cyclonedx.Component{{
		BOMRef: purl("std", info.GoVersion), Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion, PackageURL: purl("std", strings.TrimPrefix(info.GoVersion, "go")),
	}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		components = append(components, cyclonedx.Component{
			BOMRef: purl(m.Path, m.Version), Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: purl(m.Path, m.Version),
			Properties: &[]cyclonedx.Property{{Name: "go.sum", Value: m.Sum}},
		})
	}
	bom.Components = &components
	var refs []string
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: "ossuary", Dependencies: &refs}}
	var b bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&b, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return err
	}
	name := strings.Join([]string{"ossuary", r.build.name(), t.os, t.arch}, "-") + ".cdx.json"
	return os.WriteFile(filepath.Join(r.out, name), b.Bytes(), 0o644)
}
