package archive

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ossuary/internal/event"
	"ossuary/internal/object"
)

// counter is a directory that counts the bytes that are asked for.
type counter struct {
	*Dir
	asked, requests int64
}

func (c *counter) Read(ctx context.Context, key string, from, to int64) (io.ReadCloser, error) {
	info, err := c.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if to < 0 || to > info.Length {
		to = info.Length
	}
	c.asked += max(0, to-from)
	c.requests++
	return c.Dir.Read(ctx, key, from, to)
}

func (c *counter) Head(context.Context, string) (object.Info, error) {
	panic("it reads the whole object")
}

// segmentFile writes a segment of about size bytes with frames of about frame
// bytes, over two hours of events whose sequences go up in twos, and returns the
// number of its events.
func segmentFile(t testing.TB, dir string, codec event.Codec, size, frame int64, sealed bool) (events uint64) {
	t.Helper()
	ext := event.Ext(event.Envelope, codec)
	f, err := os.Create(filepath.Join(dir, event.Key("", "big", 1, ext)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	fw := event.NewFrameWriter(1)
	const each = 2048 // bytes of payload: as many random ones in base64 need
	count := int(max(1, frame/each))
	total := uint64(size/each) / uint64(count) * uint64(count)
	var step time.Duration
	if total > 0 {
		step = 2 * time.Hour / time.Duration(total)
	}
	noise := rand.NewChaCha8([32]byte{1})
	chain := event.Chain{}
	var position int64
	var crc uint64
	var index []event.IndexEntry
	var body, stored []byte
	data := make([]byte, each)
	content := func(kind string) event.Content {
		return event.Content{Kind: kind, Archive: "arch", Source: "ORDERS", Lane: "0", Stream: event.StreamID{Name: "ORDERS", Created: epoch},
			Layout: 1, Series: "big", Segment: 1, Frame: chain.Frame + 1, Prev: chain.Prev, Last: chain.Last, Greatest: chain.Greatest}
	}
	write := func(c *event.Content, p []byte, hash event.Hash) {
		if _, err := out.Write(p); err != nil {
			t.Fatal(err)
		}
		crc = object.CRC64(crc, p)
		chain.Advance(&event.Frame{Content: *c, Hash: hash})
		position += int64(len(p))
	}
	for events < total {
		c := content(event.KindData)
		body = body[:0]
		for range count {
			events++
			_, _ = noise.Read(data)
			e := event.Event{Sequence: 2 * events, Time: epoch.Add(time.Duration(events) * step), Subject: "orders.x", Data: data}
			if body, err = (event.Encoder{Payload: event.Base64}).Append(body, &e); err != nil {
				t.Fatal(err)
			}
			if c.First == 0 {
				c.First, c.MinTime = e.Sequence, e.Time
			}
			c.Last, c.MaxTime, c.Greatest = e.Sequence, e.Time, e.Time
		}
		c.Count = count
		p, hash, err := fw.Data(stored[:0], codec, &c, position, body)
		if err != nil {
			t.Fatal(err)
		}
		stored = p
		index = append(index, event.IndexEntry{Position: position, First: c.First, MinTime: c.MinTime})
		write(&c, p, hash)
	}
	if sealed {
		c := content(event.KindSeal)
		c.Next = event.Key("", "big", 2, ext)
		p, hash, err := fw.Seal(nil, codec, &c, position, crc, index)
		if err != nil {
			t.Fatal(err)
		}
		write(&c, p, hash)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	return events
}

// Whoever asks for the last hundredth must not pay for the segment, whether it is
// sealed or still grows.
func TestCatReadsWhatItMust(t *testing.T) {
	for _, codec := range codecs {
		for _, sealed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v/sealed=%v", codec, sealed), func(t *testing.T) {
				readsLittle(t, codec, 16<<20, 8<<10, sealed)
			})
		}
	}
}

// The same at the size at which segments roll by default, with frames as a busy
// and as a very busy route write them.
func TestCatReadsWhatItMustOfAGibibyte(t *testing.T) {
	if os.Getenv("OSSUARY_LONG") == "" {
		t.Skip("set OSSUARY_LONG=1: it writes several GiB")
	}
	for _, frame := range []int64{64 << 10, 4 << 20} {
		for _, sealed := range []bool{true, false} {
			t.Run(fmt.Sprintf("frames of %d KiB/sealed=%v", frame>>10, sealed), func(t *testing.T) {
				readsLittle(t, event.Gzip, 1<<30, frame, sealed)
			})
		}
	}
}

func readsLittle(t *testing.T, codec event.Codec, size, frame int64, sealed bool) {
	dir := t.TempDir()
	events := segmentFile(t, dir, codec, size, frame, sealed)
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	info, err := d.Stat(t.Context(), event.Key("", "big", 1, event.Ext(event.Envelope, codec)))
	if err != nil {
		t.Fatal(err)
	}
	step := 2 * time.Hour / time.Duration(events)
	from := events - events/100
	for _, tc := range []struct {
		name        string
		sel         Selection
		first, last uint64
		part        float64 // of the bytes
	}{
		{"since", Selection{Since: epoch.Add(time.Duration(from) * step)}, from, events, 0.05},
		{"since within a frame's time", Selection{Since: epoch.Add(time.Duration(from)*step - 1)}, from, events, 0.05},
		{"seq", Selection{From: 2*from - 1}, from, events, 0.05},
		{"one in the middle", Selection{From: events, To: events + 1}, events/2 + events%2, events / 2, 0.05},
		{"tail", Selection{Tail: int(events / 100)}, events - events/100 + 1, events, 0.05},
		{"nothing", Selection{Since: epoch.Add(3 * time.Hour)}, 1, 0, 0.01},
		{"nothing either", Selection{From: 2*events + 1}, 1, 0, 0.02},
	} {
		st := &counter{Dir: d}
		var got []uint64
		for r, err := range (&Reader{Store: st}).Cat(t.Context(), tc.sel) {
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			got = append(got, r.Sequence/2)
		}
		var want []uint64
		for n := tc.first; n <= tc.last; n++ {
			want = append(want, n)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %d events, want %d (%d to %d)", tc.name, len(got), len(want), tc.first, tc.last)
		}
		t.Logf("%-28s %6d events, %8d of %d bytes asked for: %.2f %%, %d requests", tc.name, len(got), st.asked, info.Length,
			100*float64(st.asked)/float64(info.Length), st.requests)
		if float64(st.asked) > tc.part*float64(info.Length) {
			t.Errorf("%s: asked for %d of %d bytes", tc.name, st.asked, info.Length)
		}
	}
}
