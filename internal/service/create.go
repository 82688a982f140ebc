package service

import (
	"fmt"
	"maps"

	"ossuary/internal/config"
	"ossuary/internal/event"
	"ossuary/internal/object"
)

// createAll goes with every object of the archive, its control log and layouts
// included: who may read them and how they are encrypted is a rule of the house.
// Storage class and tags are not here, since lifecycle rules go by these, and a
// rule for segments must not touch the control log.
func createAll(cfg *config.Config) object.Create {
	o := cfg.Objects
	return object.Create{ACL: o.ACL, Encryption: o.ServerSideEncryption, DataEncryption: o.DataEncryption}
}

// creates makes what goes with the append that creates a segment, one for each
// kind of segment. It belongs to one goroutine.
type creates struct {
	archive string
	objects config.Objects
	routes  map[string]config.RouteObjects
	made    map[createKey]*object.Create
}

type createKey struct {
	route  string
	format event.Format
	codec  event.Codec
}

func newCreates(cfg *config.Config, source *config.Source) *creates {
	c := &creates{
		archive: cfg.Archive.Name, objects: cfg.Objects,
		routes: map[string]config.RouteObjects{}, made: map[createKey]*object.Create{},
	}
	for _, r := range source.Routes {
		c.routes[r.Name] = r.Objects
	}
	return c
}

// of is for segments of the route of that name, which may be one that the
// configuration does not have any more, or "" for dead letters.
func (c *creates) of(route string, format event.Format, codec event.Codec) *object.Create {
	key := createKey{route, format, codec}
	if _, ok := c.routes[route]; !ok {
		key.route = ""
	}
	create := c.made[key]
	if create == nil {
		create = c.make(c.routes[key.route], format, codec)
		c.made[key] = create
	}
	return create
}

func (c *creates) make(r config.RouteObjects, format event.Format, codec event.Codec) *object.Create {
	o := c.objects
	create := &object.Create{
		ContentType: o.ContentType, ContentDisposition: o.ContentDisposition, CacheControl: o.CacheControl, Expires: o.Expires.Time,
		StorageClass: o.StorageClass, ForbidOverwrite: o.ForbidOverwrite,
		Meta: both(o.Metadata, r.Metadata), Tags: both(o.Tagging, r.Tagging),
	}
	if r.StorageClass != "" {
		create.StorageClass = r.StorageClass
	}
	create.Meta["ossuary-archive"] = c.archive
	create.Meta["ossuary-format"] = fmt.Sprint(event.Version)
	// Off unless wanted: clients that see it unpack what they download, and then
	// its length and CRC are no longer the object's.
	if codec == event.Gzip && o.ContentEncoding == "gzip" {
		create.ContentEncoding = "gzip"
	}
	if create.ContentType == "" {
		create.ContentType = contentType(format, codec, create.ContentEncoding != "")
	}
	return create
}

// contentType says what the object holds, below the encoding if one is told.
func contentType(format event.Format, codec event.Codec, encoded bool) string {
	switch {
	case codec == event.Zstd:
		return "application/zstd"
	case codec == event.Gzip && !encoded:
		return "application/gzip"
	case format == event.Raw:
		return "text/plain"
	}
	return "application/x-ndjson"
}

func both(a, b map[string]string) map[string]string {
	out := make(map[string]string, len(a)+len(b)+2)
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}
