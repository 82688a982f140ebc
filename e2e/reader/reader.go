// Package reader is the independent reader: it reads the objects of an archive
// and compares them with what should be there. It knows docs/FORMAT.md, the
// standard library and a decoder of zstd, and nothing of the product: no package
// of this module may be imported here.
package reader

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Line is one event as it stands in an object. A raw line has no time, subject
// and headers.
type Line struct {
	Key     string
	Seq     uint64
	Time    time.Time
	Subject string
	Headers map[string][]string
	Payload [sha256.Size]byte // its hash
	Raw     bool
	Reason  string // of a dead letter
}

// Archive is what lies in a bucket's directory: every line of every object, by
// series, in the order of segments and bytes.
type Archive struct {
	Series   map[string][]Line
	Segments int
	Lines    int
}

var segmentName = regexp.MustCompile(`^(.+)\.(\d{6,})\.(ndjson\.gz|ndjson\.zst|ndjson|log\.gz|log\.zst)$`)

// Read reads all objects below dir, the prefix's directory. It stops at
// nothing: what follows a seal is read too, so an event that stands twice
// anywhere is seen twice.
func Read(dir string) (*Archive, error) {
	type segment struct {
		file, key, ext string
		number         int
	}
	found := map[string][]segment{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		key = filepath.ToSlash(key)
		if strings.HasPrefix(key, "_ossuary/control/") || strings.HasPrefix(key, "_ossuary/layout/") {
			return nil
		}
		m := segmentName.FindStringSubmatch(key)
		if m == nil {
			return fmt.Errorf("%s is no segment", key)
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			return err
		}
		found[m[1]] = append(found[m[1]], segment{file, key, m[3], n})
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	a := &Archive{Series: map[string][]Line{}}
	for series, segments := range found {
		sort.Slice(segments, func(i, j int) bool { return segments[i].number < segments[j].number })
		for i, s := range segments {
			if s.number != i+1 {
				return nil, fmt.Errorf("series %s: segment %d stands where %d should", series, s.number, i+1)
			}
			lines, err := ReadSegment(s.file, s.ext)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.key, err)
			}
			for j := range lines {
				lines[j].Key = s.key
			}
			a.Series[series] = append(a.Series[series], lines...)
			a.Segments++
			a.Lines += len(lines)
		}
	}
	return a, nil
}

// ReadSegment reads the lines of one object, whose key ends in ext.
func ReadSegment(file, ext string) ([]Line, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	switch ext {
	case "log.gz":
		return readRawGzip(b)
	case "ndjson.gz":
		zr, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		if b, err = io.ReadAll(zr); err != nil {
			return nil, err
		}
	case "ndjson.zst":
		zr, err := zstd.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		defer zr.Close()
		if b, err = io.ReadAll(zr); err != nil {
			return nil, err
		}
	case "ndjson":
	default:
		return nil, fmt.Errorf("this reader does not read %s", ext)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return nil, errors.New("the last line is not ended")
	}
	var out []Line
	for text := range bytes.Lines(b) {
		text = text[:len(text)-1]
		if len(text) == 0 || bytes.HasPrefix(text, []byte(`{"_ossuary`)) {
			continue
		}
		l, err := parseLine(text)
		if err != nil {
			return nil, fmt.Errorf("%w in %.200q", err, text)
		}
		out = append(out, l)
	}
	return out, nil
}

func parseLine(text []byte) (Line, error) {
	var e struct {
		Seq       uint64              `json:"seq"`
		TS        time.Time           `json:"ts"`
		Subject   string              `json:"subject"`
		Reason    string              `json:"reason"`
		Route     *string             `json:"route"`
		Headers   map[string][]string `json:"headers"`
		Headers64 map[string][]string `json:"headers64"`
		Data      json.RawMessage     `json:"data"`
		Text      *string             `json:"text"`
		Base64    *string             `json:"base64"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Line{}, err
	}
	if d.More() {
		return Line{}, errors.New("more than one value in a line")
	}
	l := Line{Seq: e.Seq, Time: e.TS, Subject: e.Subject, Headers: e.Headers, Reason: e.Reason}
	for name, values := range e.Headers64 {
		plain := make([]string, len(values))
		for i, v := range values {
			b, err := base64.StdEncoding.DecodeString(v)
			if err != nil {
				return Line{}, err
			}
			plain[i] = string(b)
		}
		b, err := base64.StdEncoding.DecodeString(name)
		if err != nil {
			return Line{}, err
		}
		if l.Headers == nil {
			l.Headers = map[string][]string{}
		}
		l.Headers[string(b)] = plain
	}
	var payload []byte
	switch {
	case e.Data != nil && e.Text == nil && e.Base64 == nil:
		payload = e.Data
	case e.Data == nil && e.Text != nil && e.Base64 == nil:
		payload = []byte(*e.Text)
	case e.Data == nil && e.Text == nil && e.Base64 != nil:
		var err error
		if payload, err = base64.StdEncoding.DecodeString(*e.Base64); err != nil {
			return Line{}, err
		}
	default:
		return Line{}, errors.New("not exactly one of data, text and base64")
	}
	l.Payload = sha256.Sum256(payload)
	return l, nil
}

// readRawGzip reads payloads, and their sequences from the headers of the gzip
// members that they stand in.
func readRawGzip(b []byte) ([]Line, error) {
	in := bufio.NewReader(bytes.NewReader(b))
	var out []Line
	for {
		if _, err := in.Peek(1); err == io.EOF {
			return out, nil
		}
		zr, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		zr.Multistream(false)
		extra := zr.Extra
		body, err := io.ReadAll(zr)
		if err != nil {
			return nil, err
		}
		if len(body) == 0 {
			continue // a seal, an index, a locator
		}
		seqs, err := sequences(extra)
		if err != nil {
			return nil, err
		}
		texts := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
		if len(texts) != len(seqs) {
			return nil, fmt.Errorf("%d lines for %d sequences", len(texts), len(seqs))
		}
		for i, text := range texts {
			out = append(out, Line{Seq: seqs[i], Payload: sha256.Sum256(text), Raw: true})
		}
	}
}

func sequences(extra []byte) ([]uint64, error) {
	if len(extra) < 4 || extra[0] != 'O' || extra[1] != 'S' {
		return nil, errors.New("a member with lines has no header")
	}
	n := int(binary.LittleEndian.Uint16(extra[2:]))
	if len(extra) != 4+n {
		return nil, errors.New("a header that does not fit its field")
	}
	var h struct {
		Content struct {
			First uint64 `json:"first"`
			Last  uint64 `json:"last"`
			Count uint64 `json:"count"`
			Seqs  []byte `json:"seqs"`
		} `json:"content"`
	}
	if err := json.Unmarshal(extra[4:], &h); err != nil {
		return nil, err
	}
	c := h.Content
	out := []uint64{c.First}
	if c.Seqs == nil {
		for s := c.First + 1; s <= c.Last; s++ {
			out = append(out, s)
		}
	}
	for rest := c.Seqs; len(rest) > 0; {
		d, n := binary.Uvarint(rest)
		if n <= 0 {
			return nil, errors.New("seqs is no list of numbers")
		}
		out = append(out, out[len(out)-1]+d)
		rest = rest[n:]
	}
	if out[len(out)-1] != c.Last || uint64(len(out)) != c.Count {
		return nil, fmt.Errorf("%d sequences up to %d, the header says %d up to %d", len(out), out[len(out)-1], c.Count, c.Last)
	}
	return out, nil
}

// Expected is an event that must be in the archive, and where.
type Expected struct {
	Series  string
	Subject string
	Time    time.Time
	Headers map[string][]string
	Payload [sha256.Size]byte
}

// Differences are what Compare has found, counted, and a few of each kind in words.
type Differences struct {
	Missing int // events that are nowhere
	Twice   int // lines of an event that stands elsewhere already
	Order   int // lines that stand behind one of a higher sequence
	Unknown int // lines of events that should not be there
	Other   int // lines in the wrong series, or with other bytes than they should have
	Words   []string
}

// Compare returns what is wrong with a: an event that is missing, twice, unknown,
// in the wrong series, out of order, or other in its bytes.
func (a *Archive) Compare(want map[uint64]Expected) Differences {
	var d Differences
	count := map[string]int{}
	report := func(n *int, kind, format string, args ...any) {
		*n++
		if count[kind]++; count[kind] <= 5 {
			d.Words = append(d.Words, kind+": "+fmt.Sprintf(format, args...))
		}
	}
	seen := make(map[uint64]string, len(want))
	names := make([]string, 0, len(a.Series))
	for name := range a.Series {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		last := uint64(0)
		for _, l := range a.Series[name] {
			if l.Seq <= last {
				report(&d.Order, "order", "%s: %d stands behind %d", l.Key, l.Seq, last)
			}
			last = l.Seq
			if other, twice := seen[l.Seq]; twice {
				report(&d.Twice, "twice", "%d in %s and in %s", l.Seq, other, l.Key)
			}
			seen[l.Seq] = l.Key
			e, known := want[l.Seq]
			switch {
			case !known:
				report(&d.Unknown, "unknown", "%s: %d", l.Key, l.Seq)
			case e.Series != name:
				report(&d.Other, "series", "%s: %d belongs to %s%s", l.Key, l.Seq, e.Series, dead(l))
			case e.Payload != l.Payload:
				report(&d.Other, "payload", "%s: %d", l.Key, l.Seq)
			case l.Raw:
			case e.Subject != l.Subject:
				report(&d.Other, "subject", "%s: %d: %q, published was %q", l.Key, l.Seq, l.Subject, e.Subject)
			case !e.Time.Equal(l.Time):
				report(&d.Other, "time", "%s: %d: %s, in the stream %s", l.Key, l.Seq, l.Time, e.Time)
			case !sameHeaders(e.Headers, l.Headers):
				report(&d.Other, "headers", "%s: %d: %v, published were %v", l.Key, l.Seq, l.Headers, e.Headers)
			}
		}
	}
	missing := []uint64{}
	for seq := range want {
		if _, ok := seen[seq]; !ok {
			missing = append(missing, seq)
		}
	}
	slices.Sort(missing)
	for _, seq := range missing {
		report(&d.Missing, "missing", "%d, %s, of %s", seq, want[seq].Subject, want[seq].Series)
	}
	for kind, n := range count {
		if n > 5 {
			d.Words = append(d.Words, fmt.Sprintf("%s: %d in all", kind, n))
		}
	}
	return d
}

func dead(l Line) string {
	if l.Reason == "" {
		return ""
	}
	return " (a dead letter: " + l.Reason + ")"
}

func sameHeaders(a, b map[string][]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, values := range a {
		if !slices.Equal(values, b[name]) {
			return false
		}
	}
	return true
}
