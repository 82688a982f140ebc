package service

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ossuary/internal/config"
	"ossuary/internal/event"
	"ossuary/internal/object"
	"ossuary/internal/objectstore"
)

const (
	// The service refuses requests of clocks that are a quarter of an hour off. One
	// that is a minute off is not kept by anybody, and will get there.
	skewWorth = time.Minute
	skewMost  = 15 * time.Minute
)

// store looks at the bucket from the outside in: does it answer and know us, what
// is set at it, and does what the archive does work there.
func (c *checker) store(ctx context.Context) {
	st, err := OpenStore(c.cfg, c.log)
	if err != nil {
		c.problem("oss", err.Error(), "")
		return
	}
	defer st.Close()
	if !c.reachable(ctx, st) {
		return
	}
	if !c.cfg.Embedded.Enabled { // an emulator of ours has nothing to find fault with
		c.bucket(ctx, st)
	}
	for _, k := range c.kinds() {
		if !c.appends(ctx, st, k) {
			return
		}
	}
}

// refused says what kept a request from being served, and what mends it.
func (c *checker) refused(what string, err error) {
	var e *object.Error
	if !errors.As(err, &e) {
		c.problem(what, err.Error(), "")
		return
	}
	bare := *e
	bare.Hint = ""
	o := c.cfg.OSS
	mend := e.Hint
	if m := storeMend(o, e); m != "" && m != e.Hint {
		mend = strings.TrimPrefix(mend+"; "+m, "; ")
	}
	c.problem(what, fmt.Sprintf("oss.endpoint %s, oss.bucket %s: %s", o.Endpoint, o.Bucket, bare.Error()), mend)
}

// reachable makes the first request. False: it makes no sense to go on.
func (c *checker) reachable(ctx context.Context, st *objectstore.Client) bool {
	o := c.cfg.OSS
	if o.AuthVersion == "v1" {
		c.warn("oss", "oss.auth_version is v1: signatures of this version are refused for new accounts and buckets", "leave it out, and give oss.region if the endpoint does not say it")
	}
	var skew time.Duration
	var told bool
	err := unhurried(ctx, func() (err error) {
		skew, told, err = st.Skew(ctx, o.Prefix+"_ossuary/")
		return err
	})
	if noSuchBucket(err) && o.CreateBucket {
		c.ok("oss", "bucket "+o.Bucket+" is not there yet; `consumer run` creates it")
		return false
	}
	if err != nil {
		c.refused("oss", err)
		var e *object.Error
		if !errors.As(err, &e) || e.Code != "AccessDenied" || e.Endpoint != "" || o.AuthVersion == "v1" {
			return false
		}
		// It may be the right to list alone that is missing.
	} else {
		c.ok("oss", fmt.Sprintf("%s, bucket %s, signed for %s: answers, and may be listed", o.Endpoint, o.Bucket, st.Region()))
	}
	text := fmt.Sprintf("%s off the service's", skew.Abs())
	switch {
	case !told:
		c.unknown("oss clock", "the answer has no date", "")
	case skew.Abs() >= skewMost:
		c.problem("oss clock", text, "set this machine's clock")
	case skew.Abs() >= skewWorth:
		c.warn("oss clock", text+"; from 15 minutes on every request is refused", "set this machine's clock, and keep it by NTP")
	default:
		c.ok("oss clock", text)
	}
	return true
}

// kind is one kind of object that the archive creates.
type kind struct {
	name   string
	create *object.Create
}

// kinds are those that the settings make, each once.
func (c *checker) kinds() []kind {
	var out []kind
	add := func(name string, create *object.Create) {
		same := func(k kind) bool { return string(fingerprint(k.create)) == string(fingerprint(create)) }
		if !slices.ContainsFunc(out, same) {
			out = append(out, kind{name, create})
		}
	}
	add("the archive's own objects", &object.Create{ContentType: "text/plain"})
	for i := range c.cfg.Sources {
		s := &c.cfg.Sources[i]
		creates := newCreates(c.cfg, s)
		for _, r := range s.Routes {
			format, err1 := event.ParseFormat(r.Format)
			codec, err2 := event.ParseCodec(r.Codec)
			if r.Skip || err1 != nil || err2 != nil {
				continue
			}
			add("route "+r.Name, creates.of(r.Name, format, codec))
		}
	}
	return out
}

func fingerprint(create *object.Create) []byte {
	p, _ := json.Marshal(create) // texts, maps of texts and a time
	return p
}

// appends does what the archive does: creates an object, appends, asks for it and
// reads back. False: the next kind of object would not fare better.
func (c *checker) appends(ctx context.Context, st *objectstore.Client, k kind) bool {
	what := "oss append, " + k.name
	sum := sha256.Sum256(append(fingerprint(k.create), fingerprint(pointer(createAll(c.cfg)))...))
	key := fmt.Sprintf("%s%s%x.txt", c.cfg.OSS.Prefix, checkDir, sum[:6])
	line := fmt.Appendf(nil, "%s consumer check\n", time.Now().UTC().Format(time.RFC3339Nano))

	// At position 0 also where the object is there: the request is judged by what
	// it asks for before the position is.
	var position int64
	var err error
	for attempt := 0; ; attempt++ {
		err = unhurried(ctx, func() error {
			_, err := st.Append(ctx, key, position, object.Body{line}, k.create)
			return err
		})
		var e *object.Error
		if attempt < 5 && errors.As(err, &e) && e.Kind == object.Mismatch && e.Length >= 0 {
			position = e.Length // of an earlier check, or of one that runs now
			continue
		}
		break
	}
	if object.KindOf(err) == object.Unappendable {
		c.problem(what, fmt.Sprintf("%s: %s", key, err), "archive into a bucket without a retention policy: under one each object takes a single append; what is sealed may be copied into a bucket that has one")
		return false
	}
	if err != nil {
		c.refused(what, err)
		return true // what one kind of object needs another may not
	}
	info, err := st.Head(ctx, key)
	if err != nil {
		c.refused("oss head, "+k.name, err)
		return false
	}
	if !info.Appendable || info.Length < position+int64(len(line)) {
		c.problem("oss head, "+k.name, fmt.Sprintf("%s: %d bytes were appended at %d, and it has %d (appendable: %t)", key, len(line), position, info.Length, info.Appendable),
			"find out who else writes there, or what stands between us and OSS")
		return false
	}
	got, err := readBack(ctx, st, key, position, len(line))
	var e *object.Error
	switch {
	case errors.As(err, &e) && e.Code == "InvalidObjectState":
		c.problem("oss read, "+k.name, "objects of this storage class cannot be read before they are restored; a writer has to read its segments after a lost answer and after a restart",
			"turn on the bucket's real-time access of Archive objects, or use another storage_class")
		return true
	case err != nil:
		c.refused("oss read, "+k.name, err)
		return false
	case got != string(line):
		c.problem("oss read, "+k.name, fmt.Sprintf("what was appended to %s at %d reads back as %q", key, position, got), "find out what changes bytes between us and OSS")
		return false
	}
	c.ok(what, "append, head and read work")
	return true
}

func readBack(ctx context.Context, st *objectstore.Client, key string, position int64, n int) (string, error) {
	r, err := st.Read(ctx, key, position, position+int64(n))
	if err != nil {
		return "", err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	return string(got), err
}

func pointer[T any](v T) *T { return &v }

// bucket looks at what is set at the bucket. None of it is needed for running, so
// that what may not be looked at is unknown.
func (c *checker) bucket(ctx context.Context, st *objectstore.Client) {
	c.bucketInfo(ctx, st)
	versioned, err := st.Versioning(ctx)
	never := err == nil && versioned == ""
	switch {
	case c.hidden("oss versioning", "oss:GetBucketVersioning", err):
	case versioned == "Enabled":
		c.ok("oss versioning", "on")
	default:
		c.warn("oss versioning", "off: whoever may append may overwrite too, and that would be for good",
			"turn it on, and deny the archive's user oss:DeleteObject and oss:DeleteObjectVersion")
	}
	retention, err := st.Retention(ctx)
	switch {
	case c.hidden("oss retention", "oss:GetBucketWorm", err):
	case retention.State == "InProgress" || retention.State == "Locked":
		c.problem("oss retention", fmt.Sprintf("the bucket keeps every object as it is for %d days (%s): a segment takes its first append and no other", retention.Days, retention.State),
			"archive into a bucket without a retention policy; what is sealed may be copied into one that has it")
	default:
		c.ok("oss retention", "none")
	}
	rules, err := st.Lifecycle(ctx)
	if c.hidden("oss lifecycle", "oss:GetBucketLifecycle", err) {
		return
	}
	c.lifecycle(ctx, st, rules, !never)
}

// hidden reports whether err kept a property of the bucket from being seen.
func (c *checker) hidden(what, permission string, err error) bool {
	if err == nil {
		return false
	}
	var e *object.Error
	if errors.As(err, &e) && e.Kind == object.Refused {
		c.unknown(what, "we may not look at it", "grant "+permission+" to have it checked")
	} else {
		c.unknown(what, err.Error(), "")
	}
	return true
}

func (c *checker) bucketInfo(ctx context.Context, st *objectstore.Client) {
	b, err := st.BucketInfo(ctx)
	if c.hidden("oss bucket", "oss:GetBucketInfo", err) {
		return
	}
	const what = "oss bucket"
	if region := strings.TrimPrefix(b.Location, "oss-"); region != "" && st.Region() != "" && region != st.Region() {
		c.problem(what, fmt.Sprintf("it lies in %s, oss.region is %s", region, st.Region()), "correct oss.region, and use an endpoint of that region: "+b.ExtranetEndpoint)
		return
	}
	if b.ACL == "public-read-write" {
		c.warn(what, "anybody may write to it (ACL public-read-write)", "make it private")
	}
	switch b.StorageClass { // which the archive's own objects are of in any case
	case "ColdArchive", "DeepColdArchive":
		c.problem(what, "its objects are of the class "+b.StorageClass+", which takes no appends", "archive into a bucket of the class Standard or IA")
		return
	case "Archive":
		c.warn(what, "its objects are of the class Archive, and so is the control log, which is read at every start", "archive into a bucket of the class Standard or IA")
	}
	c.ok(what, fmt.Sprintf("in %s, class %s, ACL %s", b.Location, b.StorageClass, b.ACL))
}

// segmentTags are the tags of all kinds of segments, by kind.
func segmentTags(cfg *config.Config) []map[string]string {
	var out []map[string]string
	for _, s := range cfg.Sources {
		for _, r := range s.Routes {
			if !r.Skip {
				out = append(out, both(cfg.Objects.Tagging, r.Objects.Tagging))
			}
		}
	}
	return append(out, cfg.Objects.Tagging) // dead letters
}
