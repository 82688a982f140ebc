package objectstore

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"ossuary/internal/object"
)

// Bucket is what the service says about the bucket.
type Bucket struct {
	Name, Location, ExtranetEndpoint, IntranetEndpoint string
	StorageClass, ACL                                  string
	Versioning                                         string // Enabled, Suspended or ""
	Created                                            time.Time
}

// ask reads a property of the bucket into res. It is not the SDK's method of that
// name, because those drop the context.
func (c *Client) ask(ctx context.Context, op, resource string, res any) error {
	ctx, cancel, a := c.withTimeout(ctx, 0)
	defer cancel()
	resp, err := c.bucket.Do("GET", "", map[string]any{resource: nil}, []oss.Option{oss.WithContext(ctx)}, nil, nil)
	if err != nil {
		return c.fail(op, c.opt.Bucket, -1, a, err)
	}
	defer resp.Body.Close()
	if err := xml.NewDecoder(resp.Body).Decode(res); err != nil {
		return c.fail(op, c.opt.Bucket, -1, a, fmt.Errorf("reading the answer: %w", err))
	}
	return nil
}

// BucketInfo asks for the bucket; it needs oss:GetBucketInfo, which writing and
// reading do not.
func (c *Client) BucketInfo(ctx context.Context) (Bucket, error) {
	var res oss.GetBucketInfoResult
	if err := c.ask(ctx, "bucket info", "bucketInfo", &res); err != nil {
		return Bucket{}, err
	}
	b := res.BucketInfo
	return Bucket{
		Name: b.Name, Location: b.Location, ExtranetEndpoint: b.ExtranetEndpoint, IntranetEndpoint: b.IntranetEndpoint,
		StorageClass: b.StorageClass, ACL: b.ACL, Versioning: b.Versioning, Created: b.CreationDate,
	}, nil
}

// Versioning is Enabled, Suspended or "" if it was never turned on; it needs
// oss:GetBucketVersioning.
func (c *Client) Versioning(ctx context.Context) (string, error) {
	var res struct {
		XMLName xml.Name `xml:"VersioningConfiguration"`
		Status  string
	}
	err := c.ask(ctx, "bucket versioning", "versioning", &res)
	return res.Status, err
}

// Retention is the bucket's retention policy (WORM).
type Retention struct {
	State string // "" if there is none; InProgress (not locked yet, but in force), Locked, Expired
	Days  int
}

// Retention needs oss:GetBucketWorm.
func (c *Client) Retention(ctx context.Context) (Retention, error) {
	var res struct {
		XMLName xml.Name `xml:"WormConfiguration"`
		State   string
		Days    int `xml:"RetentionPeriodInDays"`
	}
	err := c.ask(ctx, "bucket retention", "worm", &res)
	if none(err, "NoSuchWORMConfiguration") {
		return Retention{}, nil
	}
	return Retention{res.State, res.Days}, err
}

// ReadsArchived reports whether objects of the Archive class can be read without
// being restored first; it needs oss:GetBucketArchiveDirectRead.
func (c *Client) ReadsArchived(ctx context.Context) (bool, error) {
	var res struct {
		XMLName xml.Name `xml:"ArchiveDirectReadConfiguration"`
		Enabled bool
	}
	err := c.ask(ctx, "bucket direct read", "bucketArchiveDirectRead", &res)
	return res.Enabled, err
}

// Tag is one of an object's.
type Tag struct{ Key, Value string }

// LifecycleRule is one rule by which the service deletes objects or moves them to
// another storage class.
type LifecycleRule struct {
	ID     string
	Prefix string
	Status string // Enabled, Disabled
	Tags   []Tag  `xml:"Tag"`
	// Not are the exceptions: objects whose names begin so, and which have the tag
	// if there is one, are left alone.
	Not []struct {
		Prefix string
		Tags   []Tag `xml:"Tag"`
	} `xml:"Filter>Not"`
	Expiration *struct {
		Days              int
		Date              string
		CreatedBeforeDate string
	}
	Transitions []struct {
		Days              int
		CreatedBeforeDate string
		StorageClass      string
	} `xml:"Transition"`
}

// Lifecycle needs oss:GetBucketLifecycle.
func (c *Client) Lifecycle(ctx context.Context) ([]LifecycleRule, error) {
	var res struct {
		XMLName xml.Name        `xml:"LifecycleConfiguration"`
		Rules   []LifecycleRule `xml:"Rule"`
	}
	err := c.ask(ctx, "bucket lifecycle", "lifecycle", &res)
	if none(err, "NoSuchLifecycle") {
		return nil, nil
	}
	return res.Rules, err
}

func none(err error, code string) bool {
	var e *object.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Code == code
}

// Skew lists one object below prefix to hear the time: how far the service's
// clock is ahead of ours, to a second or two. It is told wherever the service
// answers at all, if only with an error, which is then returned too; ok says
// whether it is.
func (c *Client) Skew(ctx context.Context, prefix string) (skew time.Duration, ok bool, err error) {
	ctx, cancel, a := c.withTimeout(ctx, 0)
	defer cancel()
	sent := time.Now()
	_, err = c.bucket.ListObjectsV2(oss.WithContext(ctx), oss.MaxKeys(1), oss.Prefix(prefix))
	got := time.Now()
	if err != nil {
		err = c.fail("list", prefix, -1, a, err)
	}
	skew, ok = a.skew(sent.Add(got.Sub(sent) / 2))
	return skew, ok, err
}

// skew compares the answer's date, which is in whole seconds, with now.
func (a *answer) skew(now time.Time) (time.Duration, bool) {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil || a.header.Get(oss.HTTPHeaderOssRequestID) == "" {
		return 0, false // no answer, or somebody else's
	}
	return date.Add(500 * time.Millisecond).Sub(now).Round(time.Second), true
}

// CreateBucket creates the bucket, private and of the standard class. One that
// is there already and is ours is no error; somebody else's is Refused.
func (c *Client) CreateBucket(ctx context.Context) error {
	ctx, cancel, a := c.withTimeout(ctx, 0)
	defer cancel()
	body := []byte(`<?xml version="1.0" encoding="UTF-8"?><CreateBucketConfiguration><StorageClass>Standard</StorageClass></CreateBucketConfiguration>`)
	resp, err := c.bucket.Do("PUT", "", map[string]any{}, []oss.Option{oss.WithContext(ctx), oss.ContentType("application/xml")}, bytes.NewReader(body), nil)
	if err != nil {
		return c.fail("create bucket", c.opt.Bucket, -1, a, err)
	}
	return resp.Body.Close()
}
