package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Versions that a layout states. They rise when the same message would come out
// under another name or in other bytes, so that writers of both kinds never
// share a stretch of the stream.
const (
	LayoutVersion  = 1 // of the layout's form, and of what this package does with it
	EscapeVersion  = 1 // of the escaping of values in series names, see Escape
	EncoderVersion = 1 // of the lines that package event writes
)

// FirstLane is the name of the only lane of a source that is not split.
const FirstLane = "0"

// MaxLanes bounds how far a source is split.
const MaxLanes = 256

// Route sends the events of its subjects to series.
type Route struct {
	Name     string   `json:"name"`
	Subjects []string `json:"subjects"`         // NATS filters
	Series   string   `json:"series,omitempty"` // template, see Template
	Skip     bool     `json:"skip,omitempty"`   // leave its events out of the archive
	Format   string   `json:"format"`           // envelope, raw
	Codec    string   `json:"codec"`            // gzip, zstd, plain
	Payload  string   `json:"payload"`          // auto, json, text, base64
	Newline  string   `json:"newline"`          // refuse, escape
	Audit    bool     `json:"audit,omitempty"`  // Merkle root of the events in each frame
}

// Layout is everything that decides where and in which form an event of one
// source goes. When to flush and when to roll is no part of it.
type Layout struct {
	Version        int     `json:"v"`
	Archive        string  `json:"archive"`
	Source         string  `json:"source"` // stream name
	Prefix         string  `json:"prefix"` // of all keys: it counts against the length of names
	Lanes          int     `json:"lanes"`  // 1: not split; n: subjects start with a partition number 0..n-1, which routes do not see
	MaxEvent       int     `json:"max_event"`
	EscapeVersion  int     `json:"escape"`
	EncoderVersion int     `json:"encoder"`
	Routes         []Route `json:"routes"` // in order, first match wins
	// Shard is how many hexadecimal digits of its hash stand before each series'
	// name, see Sharded; 0: none. Not there in layouts that do without, which so
	// stay what they were.
	Shard int `json:"shard,omitempty"`
}

// Canonical is the layout as JSON: equal layouts make equal bytes, others do not.
func (l Layout) Canonical() []byte {
	l.Routes = slices.Clone(l.Routes)
	if l.Routes == nil {
		l.Routes = []Route{}
	}
	for i := range l.Routes {
		if l.Routes[i].Subjects == nil {
			l.Routes[i].Subjects = []string{}
		}
	}
	p, err := json.Marshal(l)
	if err != nil { // strings, integers and booleans only
		panic(fmt.Sprintf("router: encoding a layout: %v", err))
	}
	return append(p, '\n')
}

// ErrNewer is wrapped by ParseLayout's error for a layout of a higher version
// than this program knows.
var ErrNewer = errors.New("layout of a newer version")

// ParseLayout reads what Canonical wrote. A field it does not know is an error,
// since it might decide where events go.
func ParseLayout(p []byte) (Layout, error) {
	var v struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(p, &v); err != nil {
		return Layout{}, fmt.Errorf("parsing a layout: %w", err)
	}
	switch {
	case v.Version > LayoutVersion:
		return Layout{}, fmt.Errorf("%w: it has version %d, this program knows %d", ErrNewer, v.Version, LayoutVersion)
	case v.Version != LayoutVersion:
		return Layout{}, fmt.Errorf("parsing a layout: version %d is not %d", v.Version, LayoutVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(p))
	dec.DisallowUnknownFields()
	var l Layout
	if err := dec.Decode(&l); err != nil {
		return Layout{}, fmt.Errorf("parsing a layout: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Layout{}, errors.New("parsing a layout: bytes after its end")
	}
	return l, nil
}

// LaneNames are the names of the lanes: "0", and so on if the source is split.
func (l Layout) LaneNames() []string {
	names := make([]string, max(l.Lanes, 1))
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}
