package service

import (
	"fmt"
	"io"
	"testing"

	"ossuary/internal/object"
	"ossuary/internal/ossemu"
)

// What the store itself ended stays part of the archive, and its series goes on
// in the next segment: an appendable object that was sealed at the store, so that
// it may be moved to a colder class, and one that came back as a normal object,
// as from a copy.
func TestSegmentsThatTheStoreEnded(t *testing.T) {
	t.Parallel()
	const key = "events/all.000001.ndjson.gz"
	for _, tc := range []struct {
		name string
		end  func(t *testing.T, s *Service, url string, size int64) (method, resource, body string)
	}{
		{"sealed", func(_ *testing.T, _ *Service, url string, size int64) (string, string, string) {
			return "POST", fmt.Sprintf("%s?seal&position=%d", url, size), ""
		}},
		{"put", func(t *testing.T, s *Service, url string, size int64) (string, string, string) {
			r, err := s.store.Read(t.Context(), key, 0, size)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			p, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return "PUT", url, string(p)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg, emu := remote(t, ossemu.Options{Credentials: map[string]string{}}, nil)
			r := &cfg.Sources[0].Routes[0]
			r.Series, r.Roll.Idle = "events/all", 0
			total := 0
			more := func(s *Service) {
				publish(t, s.js, 5)
				total += 5
				eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == uint64(total) })
			}
			end := func(s *Service) {
				info, err := s.store.Head(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				method, resource, body := tc.end(t, s, cfg.OSS.Bucket+"/"+key, info.Length)
				change(t, emu, method, resource, body)
			}
			s, stop := start(t, cfg)
			more(s)
			end(s) // under its writer
			more(s)
			stop()
			wantWhole(t, cfg, total)
			s, stop = start(t, cfg)
			more(s)
			var keys []string
			if err := s.store.List(t.Context(), "events/", func(e object.Entry) error { keys = append(keys, e.Key); return nil }); err != nil {
				t.Fatal(err)
			}
			if len(keys) != 2 || keys[0] != key || keys[1] != "events/all.000002.ndjson.gz" {
				t.Errorf("the series lies in %v", keys)
			}
			stop()
			wantWhole(t, cfg, total)
		})
	}
}
