package service

import (
	"strings"
	"testing"
	"time"

	"ossuary/internal/config"
	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/objectstore"
)

func TestCreates(t *testing.T) {
	cfg := config.Default()
	cfg.Archive.Name = "a"
	cfg.Objects = config.Objects{
		StorageClass: "IA", CacheControl: "no-cache", ContentDisposition: "attachment", ForbidOverwrite: true,
		Expires: config.Moment{Time: time.Unix(1_900_000_000, 0)}, ACL: "private", ServerSideEncryption: "KMS", DataEncryption: "SM4",
		Metadata: map[string]string{"team": "a", "k": "v"}, Tagging: map[string]string{"t": "1"},
	}
	source := &cfg.Sources[0]
	source.Routes[0].Name = "r"
	source.Routes[0].Objects = config.RouteObjects{StorageClass: "Standard", Metadata: map[string]string{"team": "b"}, Tagging: map[string]string{"u": "2"}}
	c := newCreates(cfg, source)

	own := c.of("r", event.Envelope, event.Gzip)
	if own.StorageClass != "Standard" || own.Meta["team"] != "b" || own.Meta["k"] != "v" || own.Meta["ossuary-archive"] != "a" || own.Meta["ossuary-format"] != "1" ||
		len(own.Meta) != 4 || own.Tags["t"] != "1" || own.Tags["u"] != "2" || own.CacheControl != "no-cache" || own.ContentDisposition != "attachment" ||
		!own.ForbidOverwrite || own.Expires.Unix() != 1_900_000_000 || own.ContentType != "application/gzip" || own.ContentEncoding != "" {
		t.Errorf("%+v", own)
	}
	if c.of("r", event.Envelope, event.Gzip) != own {
		t.Error("it is made anew for each series")
	}
	// Dead letters, and a route that is not there any more.
	for _, route := range []string{"", "gone"} {
		if other := c.of(route, event.Envelope, event.Gzip); other.StorageClass != "IA" || other.Meta["team"] != "a" || len(other.Tags) != 1 {
			t.Errorf("%s: %+v", route, other)
		}
	}
	if cfg.Objects.Metadata["ossuary-archive"] != "" || len(cfg.Objects.Tagging) != 1 {
		t.Error("the configuration has changed")
	}
	all := createAll(cfg)
	if all.ACL != "private" || all.Encryption != "KMS" || all.DataEncryption != "SM4" || all.StorageClass != "" || all.Tags != nil || own.ACL != "" {
		t.Errorf("of all objects: %+v", all)
	}
}

func TestContentTypes(t *testing.T) {
	for _, tc := range []struct {
		encoding string
		format   event.Format
		codec    event.Codec
		want     object.Create
	}{
		{"", event.Envelope, event.Gzip, object.Create{ContentType: "application/gzip"}},
		{"", event.Raw, event.Gzip, object.Create{ContentType: "application/gzip"}},
		{"", event.Envelope, event.Plain, object.Create{ContentType: "application/x-ndjson"}},
		{"gzip", event.Envelope, event.Gzip, object.Create{ContentType: "application/x-ndjson", ContentEncoding: "gzip"}},
		{"gzip", event.Raw, event.Gzip, object.Create{ContentType: "text/plain", ContentEncoding: "gzip"}},
		{"gzip", event.Envelope, event.Zstd, object.Create{ContentType: "application/zstd"}},
		{"gzip", event.Envelope, event.Plain, object.Create{ContentType: "application/x-ndjson"}},
	} {
		cfg := config.Default()
		cfg.Objects.ContentEncoding = tc.encoding
		got := newCreates(cfg, &cfg.Sources[0]).of("", tc.format, tc.codec)
		if got.ContentType != tc.want.ContentType || got.ContentEncoding != tc.want.ContentEncoding {
			t.Errorf("%+v: %q, %q", tc, got.ContentType, got.ContentEncoding)
		}
	}
}

// The settings arrive at the objects: segments have all of them, the control log
// and the layouts what is a rule for all objects, and tags decide nothing there.
func TestObjectsAreCreatedAsConfigured(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *config.Config) {
		cfg.OSS.ContentMD5, cfg.OSS.TrafficLimit = true, object.MaxTrafficLimit
		cfg.Objects = config.Objects{
			StorageClass: "IA", ContentEncoding: "gzip", CacheControl: "no-cache", ServerSideEncryption: "AES256", ACL: "private",
			ForbidOverwrite: true, Tagging: map[string]string{"team": "payments"}, Metadata: map[string]string{"owner": "me"},
		}
		cfg.Sources[0].Routes[0].Objects.Tagging = map[string]string{"kind": "event"}
		cfg.Sources[0].Routes[0].Roll.Idle = 0
	})
	stop := run(t, s)
	for want := uint64(1); want <= 3; want++ { // several appends to one segment
		publish(t, s.js, 1)
		eventually(t, "archived", func() bool { return s.Report().Lanes[0].Floor == want })
	}
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	segments, others := 0, 0
	err := s.store.List(t.Context(), "", func(e object.Entry) error {
		resp, err := s.store.(seen).bucket.(*objectstore.Client).Header(t.Context(), e.Key)
		if err != nil {
			return err
		}
		segment := strings.HasPrefix(e.Key, "events/")
		want := map[string]string{"X-Oss-Server-Side-Encryption": "AES256", "X-Oss-Storage-Class": "Standard", "X-Oss-Tagging-Count": ""}
		if segment {
			segments++
			want = map[string]string{
				"X-Oss-Server-Side-Encryption": "AES256", "X-Oss-Storage-Class": "IA", "X-Oss-Tagging-Count": "2", "Cache-Control": "no-cache",
				"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson", "X-Oss-Meta-Owner": "me", "X-Oss-Meta-Ossuary-Archive": "main",
			}
		} else {
			others++
		}
		for name, v := range want {
			if got := resp.Get(name); got != v {
				t.Errorf("%s: %s is %q, want %q", e.Key, name, got, v)
			}
		}
		return nil
	})
	if err != nil || segments < 1 || segments > 2 || others < 2 { // two if an hour began
		t.Errorf("%d segments, %d other objects, %v", segments, others, err)
	}
}
