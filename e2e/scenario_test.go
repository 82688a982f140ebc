//go:build unix

package e2e

// What the scenarios share.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ossuary/e2e/reader"
	"ossuary/e2e/rig"
	"ossuary/internal/embedded/embeddedtest"
)

// put publishes n messages to subjects that subject names, and returns what the
// stream holds of them once all are stored. Without a server it fails.
func (w *world) put(n int, message func(i int) *nats.Msg) map[uint64]rig.Entry {
	w.t.Helper()
	js, err := jetstream.New(w.js.Conn(), jetstream.WithPublishAsyncMaxPending(rig.PublishWindow+1))
	if err != nil {
		w.t.Fatal(err)
	}
	out := make(map[uint64]rig.Entry, n)
	acks := make([]jetstream.PubAckFuture, n)
	settle := func(i int) {
		select {
		case a := <-acks[i].Ok():
			m := acks[i].Msg()
			out[a.Sequence] = rig.Entry{Index: i, Subject: m.Subject, Payload: sha256.Sum256(m.Data)}
			acks[i] = nil
		case err := <-acks[i].Err():
			w.t.Fatalf("publishing: %v", err)
		case <-time.After(patience):
			w.t.Fatal("publishing: no acknowledgement")
		}
	}
	for i := range n {
		if i >= rig.PublishWindow {
			settle(i - rig.PublishWindow)
		}
		if acks[i], err = js.PublishMsgAsync(message(i)); err != nil {
			w.t.Fatalf("publishing: %v", err)
		}
	}
	for i := max(0, n-rig.PublishWindow); i < n; i++ {
		settle(i)
	}
	return out
}

// numbered makes messages that say their number, on n subjects below prefix.
func numbered(prefix, text string, n int) func(int) *nats.Msg {
	return func(i int) *nats.Msg {
		m := nats.NewMsg(fmt.Sprintf("%s.%d", prefix, i%n))
		m.Data = fmt.Appendf(nil, `{"i":%d,"text":%q}`, i, text)
		return m
	}
}

func (w *world) stream(name string) jetstream.Stream {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	s, err := w.js.Stream(ctx, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) createStream(cfg jetstream.StreamConfig) {
	w.t.Helper()
	embeddedtest.CreateStream(w.t, w.js, cfg)
}

// lanes are what /status says of all lanes, by source.
func (i *instance) lanes() (map[string]rig.Status, error) {
	all, err := i.Lanes()
	out := map[string]rig.Status{}
	for _, l := range all {
		out[l.Source] = l
	}
	return out, err
}

// waitLanes waits for all lanes to be as wanted.
func (i *instance) waitLanes(what string, ok func(map[string]rig.Status) bool) {
	i.t.Helper()
	rig.Eventually(i.t, patience, i.Name+": "+what, func() (bool, string) {
		if !i.Alive() {
			i.t.Fatalf("%s ended: %s\n%s", i.Name, i.Ended(), i.LogTail(20))
		}
		l, err := i.lanes()
		return err == nil && ok(l), fmt.Sprintf("%+v %v", l, err)
	})
}

// startAll starts an instance of several sources and waits until all lanes run.
func (i *instance) startAll() {
	i.t.Helper()
	i.Process.Start()
	i.waitLanes("all lanes run", func(lanes map[string]rig.Status) bool {
		for _, l := range lanes {
			if l.State != "running" {
				return false
			}
		}
		return len(lanes) > 0
	})
}

// readiness is what /readyz says.
type readiness struct {
	code     int
	Status   string
	Reasons  []struct{ What, Name, Reason string }
	Warnings []struct{ What, Name, Reason string }
}

func (i *instance) readyz() (r readiness) {
	i.t.Helper()
	code, b, err := i.Ask("/readyz")
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	r.code = code
	return r
}

func (r readiness) warns(key string) bool {
	return r.code == http.StatusOK && slices.ContainsFunc(r.Warnings, func(x struct{ What, Name, Reason string }) bool {
		return x.What == "segment" && x.Name == rig.KeyPrefix+key
	})
}

// clean wants a verification without any problem.
func (i *instance) clean(events int) rig.Report {
	i.t.Helper()
	code, r := i.Verify()
	if code != 0 || r.Result != "ok" || len(r.Problems) > 0 || r.Events != uint64(events) || r.DeadLetters != 0 || r.Duplicates != 0 || r.Missing != 0 {
		i.t.Errorf("verify: exit %d for %d events: %+v", code, events, r)
	}
	return r
}

// says reports whether a finding speaks of key and has all words in it.
func says(findings []rig.Finding, key string, words ...string) bool {
	return slices.ContainsFunc(findings, func(f rig.Finding) bool {
		text := f.What + "; " + f.Mend
		return f.Key == key && !slices.ContainsFunc(words, func(s string) bool { return !strings.Contains(text, s) })
	})
}

// read reads the archive as it lies in dir.
func (w *world) read(dir string) *reader.Archive {
	w.t.Helper()
	a, err := reader.Read(dir)
	if err != nil {
		w.t.Fatalf("the independent reader: %v", err)
	}
	return a
}

// same lets the independent reader compare.
func (w *world) same(what string, a *reader.Archive, want map[uint64]reader.Expected) {
	w.t.Helper()
	for _, s := range a.Compare(want).Words {
		w.t.Errorf("the independent reader, %s: %s", what, s)
	}
}

// only are the lines that keep lets through.
func only(a *reader.Archive, keep func(reader.Line) bool) *reader.Archive {
	out := &reader.Archive{Series: map[string][]reader.Line{}, Segments: a.Segments}
	for name, lines := range a.Series {
		for _, l := range lines {
			if keep(l) {
				out.Series[name] = append(out.Series[name], l)
				out.Lines++
			}
		}
	}
	return out
}

// messages reads what a stream holds now; series says where each belongs.
func (w *world) messages(stream string, series func(subject string, seq uint64) string) map[uint64]reader.Expected {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	want, err := rig.Messages(ctx, w.js, stream, func(subject string, _ map[string][]string, _ time.Time, seq uint64) string {
		return series(subject, seq)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return want
}

// controlState is the last line of a source's control log.
type controlState struct {
	Stream  struct{ Incarnation int }
	Layouts []struct {
		Layout int
		Since  uint64
	}
}

func (w *world) control(source string) (s controlState) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.objects(), "_ossuary", "control", source+".000001.jsonl"))
	if err != nil {
		w.t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// copyTree copies a directory; change, if not nil, may change files' bytes.
func copyTree(t testing.TB, to, from string, change func(path string, b []byte) []byte) {
	t.Helper()
	err := filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := rig.Must(filepath.Rel(from, file))
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if change != nil {
			b = change(filepath.ToSlash(rel), b)
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
