//go:build unix

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ossuary/e2e/reader"
	"ossuary/e2e/rig"
	"ossuary/internal/object"
	"ossuary/internal/objectstore"
)

// foreignAppend appends to an object as anybody with the keys can.
func (w *world) foreignAppend(key string, b []byte) {
	w.t.Helper()
	c, err := objectstore.New(objectstore.Options{Endpoint: "http://" + w.store.Addr, Region: "cn-hangzhou", Bucket: rig.BucketName,
		AccessKeyID: rig.AccessKey, AccessKeySecret: rig.SecretKey})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	info, err := c.Head(w.t.Context(), rig.KeyPrefix+key)
	if err == nil {
		_, err = c.Append(w.t.Context(), rig.KeyPrefix+key, info.Length, object.Body{b}, nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// Somebody else writes into open segments and deletes one while the archive
// runs. It goes on in the next segments and says so in readiness, log and verify;
// nothing but what the deleted object held is missing, also after the ledger is
// gone and a new process has to find its way by the objects.
func TestForeignBytesAndDeletedSegment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.instance("a", settings{})
	p := w.publish(sized(t, size{events: 3000}, size{events: 20000}, size{events: 100000}).events)
	a.Start()
	p.Release(p.Total / 3)
	rig.Eventually(t, patience, "a third is published", func() (bool, string) { return p.Acked() == p.Total/3, fmt.Sprint(p.Acked()) })
	a.WaitFloor(p.Last())

	// notes/N has one segment, which stays open.
	const byHand, signed, deleted = "notes/0.000001.ndjson.gz", "notes/1.000001.ndjson.gz", "notes/2.000001.ndjson.gz"
	file := func(key string) string { return filepath.Join(w.objects(), filepath.FromSlash(key)) }
	length := func(key string) int64 { return rig.Must(os.Stat(file(key))).Size() }
	junk := []byte("these bytes are nobody's\n")
	var member bytes.Buffer
	zw := gzip.NewWriter(&member)
	fmt.Fprintln(zw, "a gzip member of somebody else")
	zw.Close()
	foreign := map[string][2]int64{ // first and behind the last byte
		byHand: {length(byHand), length(byHand) + int64(len(junk))},
		signed: {length(signed), length(signed) + int64(member.Len())},
	}
	f := rig.Must(os.OpenFile(file(byHand), os.O_APPEND|os.O_WRONLY, 0))
	rig.Must(f.Write(junk))
	f.Close()
	w.foreignAppend(signed, member.Bytes())

	p.Release(2 * p.Total / 3)
	rig.Eventually(t, patience, "two thirds are published", func() (bool, string) { return p.Acked() == 2*p.Total/3, fmt.Sprint(p.Acked()) })
	a.WaitFloor(p.Last())
	for key := range foreign {
		next := strings.Replace(key, ".000001.", ".000002.", 1)
		if _, err := os.Stat(file(next)); err != nil {
			t.Errorf("the series did not go on: %v", err)
		}
		if r := a.readyz(); !r.warns(key) {
			t.Errorf("readiness does not name %s: %+v", key, r)
		}
		if !slices.ContainsFunc(strings.Split(a.LogText(), "\n"), func(l string) bool {
			return strings.Contains(l, "segment left by a break frame") && strings.Contains(l, key)
		}) {
			t.Errorf("the log does not name %s", key)
		}
	}
	archivedEvents := func() (want map[uint64]reader.Expected) {
		want = w.contents()
		for seq, e := range want {
			if e.Series == "" {
				delete(want, seq)
			}
		}
		return want
	}
	r := a.clean(len(archivedEvents()))
	for key, at := range foreign {
		if !says(r.Notes, rig.KeyPrefix+key, fmt.Sprintf("foreign bytes %d-%d", at[0], at[1]-1)) {
			t.Errorf("verify does not name %s %v: %+v", key, at, r.Notes)
		}
	}

	lost := rig.Must(reader.ReadSegment(file(deleted), "ndjson.gz"))
	if len(lost) == 0 {
		t.Fatal("nothing to lose")
	}
	if err := os.Remove(file(deleted)); err != nil {
		t.Fatal(err)
	}
	p.Release(p.Total - 50)
	rig.Eventually(t, patience, "nearly all is published", func() (bool, string) { return p.Acked() == p.Total-50, fmt.Sprint(p.Acked()) })
	a.WaitFloor(p.Last())
	if r := a.readyz(); !r.warns(deleted) {
		t.Errorf("readiness does not name %s: %+v", deleted, r)
	}

	check := func() {
		t.Helper()
		want := archivedEvents()
		for _, l := range lost {
			delete(want, l.Seq)
		}
		code, r := a.Verify()
		if code != 1 || r.Result != "damaged" || r.Missing != uint64(len(lost)) || r.Events != uint64(len(want)) || r.Duplicates != 0 {
			t.Errorf("verify: exit %d with %d events and %d lost: %+v", code, len(want), len(lost), r)
		}
		if !says(r.Problems, rig.KeyPrefix+deleted, "the segment was deleted", "restore the segment from a version or a copy") {
			t.Errorf("verify does not name the deleted segment: %+v", r.Problems)
		}
		if !says(r.Problems, "", fmt.Sprintf("%d events are missing that the stream still has: sequences", len(lost)), "restore") {
			t.Errorf("verify does not name the events: %+v", r.Problems)
		}
		if len(r.Problems) != 2 {
			t.Errorf("more problems than two: %+v", r.Problems)
		}
		// Without the bytes that verify named, the objects are what they should be.
		dir := t.TempDir()
		copyTree(t, dir, w.objects(), func(path string, b []byte) []byte {
			if at, ok := foreign[path]; ok {
				return slices.Delete(b, int(at[0]), int(at[1]))
			}
			return b
		})
		w.same("without the foreign bytes", w.read(dir), want)
	}
	check()

	a.Stop()
	w.deleteLedger()
	a.Start()
	a.WaitFloor(w.published())
	a.Stop()
	check()
}
