package ledger

import (
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// FuzzEntry reads what anybody may have put into the bucket. What is accepted
// comes back when it is written again; a newer version is never taken for ours,
// nor for garbage.
func FuzzEntry(f *testing.F) {
	for _, s := range []string{
		`{"v":1,"owner":"i","counter":5,"epoch":2,"incarnation":1,"floor":9,"floor_time":"2026-11-22T10:00:00Z","tally":{"from":1,"floor":9,"events":8},"updated":"2026-11-22T10:00:00Z"}`,
		`{"v":1,"key":"p/s.000001.ndjson.gz","segment":1,"position":5,"crc64":"18446744073709551615","frames":1,"last":7,"hash":"` + strings.Repeat("0a", 32) + `"}`,
		`{"v":2,"key":[]}`, `{"v":1}`, `null`, `{"v":1,"V":2,"key":"x","segment":1}`, `{"v":1,"key":"x","segment":1,"position":-1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var version struct {
			V int `json:"v"`
		}
		newer := json.Unmarshal(p, &version) == nil && version.V > Version
		lane, laneErr := parseLane(p)
		tail, tailErr := parseTail(p)
		if errors.Is(laneErr, ErrNewer) != newer || errors.Is(tailErr, ErrNewer) != newer {
			t.Fatalf("version %d: %v, %v", version.V, laneErr, tailErr)
		}
		if laneErr == nil {
			again(t, lane, parseLane)
		} else if !reflect.DeepEqual(lane, Lane{}) {
			t.Fatalf("%v, but %+v", laneErr, lane)
		}
		if tailErr == nil {
			if tail.Key == "" || tail.Segment < 1 || tail.Position < 0 || tail.Version != Version {
				t.Fatalf("%+v", tail)
			}
			again(t, tail, parseTail)
		} else if !reflect.DeepEqual(tail, Tail{}) {
			t.Fatalf("%v, but %+v", tailErr, tail)
		}
	})
}

func again[T any](t *testing.T, v T, parse func([]byte) (T, error)) {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%+v was read and cannot be written: %v", v, err)
	}
	w, err := parse(p)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	if q, err := json.Marshal(w); err != nil || string(p) != string(q) {
		t.Fatalf("%s comes back as %s: %v", p, q, err)
	}
}

// FuzzKey: any names make a key that the server takes, and come back from it; a
// key has one form.
func FuzzKey(f *testing.F) {
	f.Add("ORDERS", "0", "orders/eu", "tail.ORDERS.0.orders/eu")
	f.Add("", "=", ".", "lane.=.0")
	f.Add("ä", "a b", "\x00*>", "tail.=2E.=3D.=41")
	valid := regexp.MustCompile(`^[-/_=.a-zA-Z0-9]+$`) // as NATS has it for KV keys
	f.Fuzz(func(t *testing.T, source, lane, series, key string) {
		for _, k := range []string{laneKey(source, lane), tailKey(source, lane, series)} {
			if !valid.MatchString(k) || strings.HasPrefix(k, ".") || strings.HasSuffix(k, ".") || strings.Contains(k, "..") {
				t.Fatalf("%q is no key", k)
			}
		}
		if s, l, x, tail, ok := parseKey(laneKey(source, lane)); !ok || tail || s != source || l != lane || x != "" {
			t.Fatalf("lane %q of %q comes back as %q of %q", lane, source, l, s)
		}
		if s, l, x, tail, ok := parseKey(tailKey(source, lane, series)); !ok || !tail || s != source || l != lane || x != series {
			t.Fatalf("tail %q, %q, %q comes back as %q, %q, %q", source, lane, series, s, l, x)
		}
		if s, l, x, tail, ok := parseKey(key); ok {
			made := laneKey(s, l)
			if tail {
				made = tailKey(s, l, x)
			}
			if made != key {
				t.Fatalf("%q is taken for %q", key, made)
			}
		}
	})
}
