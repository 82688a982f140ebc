//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// lostAnswer is the append whose answer is lost: of the 20 MiB of the stream, and
// batches of 4 MiB, neither the first nor the last.
const lostAnswer = `{"op":"append","key":"*/events/*","nth":3,"action":"cut","when":"after"}`

// adoption loses the answer to one append, whose bytes the store has taken, and
// counts what is read from the object to find that out, in terms of the frame.
func adoption(b *bench, t *trial, out *round) {
	l := load{Series: 1, Payload: 1024, Events: 20_000, For: "-adoption"}
	b.fill(t, l)
	log := filepath.Join(t.dir(), "requests.jsonl")
	e := b.emulator(t, "", "--request-log", log, "--admin", "--fault", lostAnswer)
	a := b.archive(l, "plain")
	a.Store = e.addr
	defer b.dropLedger(t, a)
	b.archiveAll(t, a, e.Process)
	e.Stop() // or the log may lack its end

	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	frame, read := int64(0), int64(0)
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var r struct {
			Op, Key, Fault string
			In, Out        int64
		}
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("reading the emulator's log: %v", err)
		}
		switch {
		case !strings.Contains(r.Key, "/events/"):
		case r.Fault != "":
			frame = r.In
		case r.Op == "get":
			read += r.Out
		}
	}
	if frame == 0 || read == 0 {
		t.Fatalf("of a frame of %d bytes whose answer was lost, %d were read: nothing was adopted", frame, read)
	}
	out.Values["frame, bytes"] = float64(frame)
	out.Values["bytes read per byte of the frame"] = float64(read) / float64(frame)
	b.say("  a frame of %d bytes, %d read", frame, read)
}
