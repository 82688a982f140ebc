package service

import (
	"strings"
	"testing"
	"time"

	"ossuary/internal/config"
	"ossuary/internal/object"
	"ossuary/internal/ossemu"
)

// Where documents of the store disagree the archive is right under either
// reading, with every property of objects that can be set, across a restart, and
// where somebody deletes a segment under its writer in a versioned bucket.
func TestBothSidesOfWhatIsDisputed(t *testing.T) {
	t.Parallel()
	names := append([]string{"none"}, ossemu.VariantNames()...)
	for _, name := range append(names, "all") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wanted []string
			switch name {
			case "none":
			case "all":
				wanted = ossemu.VariantNames()
			default:
				wanted = []string{name}
			}
			variants, err := ossemu.ParseVariants(wanted)
			if err != nil {
				t.Fatal(err)
			}
			cfg, emu := remote(t, ossemu.Options{Credentials: map[string]string{}, Variants: variants}, nil)
			property(t, emu, "PUT", "versioning", versioning)
			cfg.OSS.ContentMD5, cfg.OSS.TrafficLimit = true, object.MaxTrafficLimit
			cfg.Objects = config.Objects{
				StorageClass: "IA", ServerSideEncryption: "KMS", DataEncryption: "SM4", ACL: "private", ContentEncoding: "gzip",
				ContentDisposition: "attachment", CacheControl: "no-cache", Expires: config.Moment{Time: time.Unix(1_900_000_000, 0)},
				ForbidOverwrite: true, Metadata: map[string]string{"a": "b"}, Tagging: map[string]string{"c": "d"},
			}
			cfg.Sources[0].Routes[0].Series = "events/all"
			total := 0
			more := func(s *Service, n int) {
				for range n { // an append each, or nearly
					publish(t, s.js, 1)
				}
				total += n
				eventually(t, "all is archived", func() bool { return s.Report().Lanes[0].Floor == uint64(total) })
			}
			for range 2 {
				s, stop := start(t, cfg)
				more(s, 20)
				stop()
			}
			wantWhole(t, cfg, total)

			s, stop := start(t, cfg)
			more(s, 5)
			change(t, emu, "DELETE", cfg.OSS.Bucket+"/events/all.000001.ndjson.gz", "")
			more(s, 5)
			keys := map[string]bool{}
			if err := s.store.List(t.Context(), "events/", func(e object.Entry) error { keys[e.Key] = true; return nil }); err != nil {
				t.Fatal(err)
			}
			if !keys["events/all.000002.ndjson.gz"] {
				t.Errorf("the series goes on in %v", keys)
			}
			stop()
			if got := Check(t.Context(), cfg, s.log); Worst(got) == CheckProblem {
				for _, c := range got {
					if c.Level == CheckProblem && !strings.HasPrefix(c.What, "stream") {
						t.Errorf("%s: %s", c.What, c)
					}
				}
			}
		})
	}
}
