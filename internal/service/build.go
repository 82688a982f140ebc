package service

import (
	"fmt"
	"runtime/debug"
)

// Build says which program this is.
type Build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"time,omitempty"` // of the commit
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// ReadBuild reads what the Go tool has stamped into the binary.
func ReadBuild() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Build{Version: "unknown"}
	}
	b := Build{Version: info.Main.Version, Go: info.GoVersion}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (b Build) String() string {
	s := "ossuary " + b.Version
	if b.Commit != "" {
		s += fmt.Sprintf(" commit %.12s", b.Commit)
		if b.Modified {
			s += "+modified"
		}
	}
	if b.Time != "" {
		s += " of " + b.Time
	}
	return s + " " + b.Go
}
