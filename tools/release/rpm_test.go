package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// The numbers of tags and types are those of rpm's rpmtag.h. A reader of our own,
// because the library for it wants a C compiler.
const (
	tagPreIn, tagPostIn, tagPreUn, tagPostUn              = 1023, 1024, 1025, 1026
	tagSizes, tagModes, tagTimes, tagFlags, tagGroupNames = 1028, 1030, 1034, 1037, 1040
	tagDirIndexes, tagBaseNames, tagDirNames              = 1116, 1117, 1118

	typeInt16, typeInt32 = 3, 4

	flagConfig, flagNoReplace = 1 << 0, 1 << 4
)

// header is the header of an rpm.
type header struct {
	t       *testing.T
	entries map[uint32]tag
	store   []byte
}

type tag struct{ kind, offset, count uint32 }

// readHeader reads the header behind the lead and the signature.
func readHeader(t *testing.T, data []byte) header {
	t.Helper()
	const lead, intro, entry = 96, 16, 16
	rest := data[lead:]
	for part := range 2 {
		if !bytes.HasPrefix(rest, []byte{0x8e, 0xad, 0xe8, 1}) {
			t.Fatalf("part %d of the rpm is no header", part)
		}
		n, size := int(binary.BigEndian.Uint32(rest[8:])), int(binary.BigEndian.Uint32(rest[12:]))
		length := intro + n*entry + size
		if part == 0 {
			rest = rest[(length+7)&^7:]
			continue
		}
		h := header{t, map[uint32]tag{}, rest[intro+n*entry : length]}
		for i := range n {
			at := rest[intro+i*entry:]
			h.entries[binary.BigEndian.Uint32(at)] = tag{binary.BigEndian.Uint32(at[4:]), binary.BigEndian.Uint32(at[8:]), binary.BigEndian.Uint32(at[12:])}
		}
		return h
	}
	panic("not reached")
}

func (h header) strings(id uint32) (all []string) {
	e := h.entries[id]
	rest := h.store[e.offset:]
	for range e.count {
		text, after, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			h.t.Fatalf("tag %d ends within a string", id)
		}
		all, rest = append(all, string(text)), after
	}
	return all
}

func (h header) numbers(id uint32) (all []uint32) {
	e := h.entries[id]
	for i := range e.count {
		switch e.kind {
		case typeInt16:
			all = append(all, uint32(binary.BigEndian.Uint16(h.store[e.offset+2*i:])))
		case typeInt32:
			all = append(all, binary.BigEndian.Uint32(h.store[e.offset+4*i:]))
		default:
			h.t.Fatalf("tag %d is of type %d", id, e.kind)
		}
	}
	return all
}

func rpm(t *testing.T, r *release, data []byte) {
	h := readHeader(t, data)
	dirs, indexes := h.strings(tagDirNames), h.numbers(tagDirIndexes)
	sizes, modes, times, flags, groups := h.numbers(tagSizes), h.numbers(tagModes), h.numbers(tagTimes), h.numbers(tagFlags), h.strings(tagGroupNames)
	files := map[string]entry{}
	for i, base := range h.strings(tagBaseNames) {
		name := dirs[indexes[i]] + base
		// What is in the files is compared in the deb; here the size stands for it.
		files[name] = entry{int64(modes[i] & 0o7777), groups[i], time.Unix(int64(times[i]), 0), make([]byte, sizes[i])}
		if name == "/etc/ossuary/ossuary.yaml" && flags[i]&(flagConfig|flagNoReplace) != flagConfig|flagNoReplace {
			t.Error("an upgrade overwrites the configuration")
		}
	}
	installed(t, r, files)
	for id, want := range map[uint32]string{tagPreIn: "useradd --system", tagPostIn: "try-restart", tagPreUn: "disable --now", tagPostUn: "daemon-reload"} {
		if script := strings.Join(h.strings(id), ""); !strings.Contains(script, want) {
			t.Errorf("script %d lacks %q:\n%s", id, want, script)
		}
	}
}
