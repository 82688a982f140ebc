package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"ossuary/internal/backoff"
	"ossuary/internal/config"
	"ossuary/internal/object"
	"ossuary/internal/objectstore"
)

// OpenStore makes the client of the bucket; nothing is sent yet.
func OpenStore(cfg *config.Config, log zerolog.Logger) (*objectstore.Client, error) {
	o := cfg.OSS
	b := ReadBuild()
	keys, err := credentialsOf(o, log)
	if err != nil {
		return nil, err
	}
	c, err := objectstore.New(objectstore.Options{
		Endpoint: o.Endpoint, Region: o.Region, Bucket: o.Bucket,
		Credentials:    keys,
		PathStyle:      o.PathStyle,
		CNAME:          o.CNAME,
		AuthVersion:    o.AuthVersion,
		ConnectTimeout: o.ConnectTimeout,
		Timeout:        o.Timeout,
		MaxConns:       max(64, cfg.Limits.ParallelAppends+16), // reads and control appends beside the appends
		CA:             o.TLS.CA,
		Proxy:          o.Proxy,
		ContentMD5:     o.ContentMD5,
		TrafficLimit:   o.TrafficLimit,
		Create:         createAll(cfg),
		UserAgent:      "ossuary/" + b.Version,
	})
	if errors.Is(err, objectstore.ErrAuthorities) {
		return nil, fmt.Errorf("oss: %w; correct oss.tls.ca", err)
	}
	if err != nil {
		return nil, fmt.Errorf("oss: %w", err)
	}
	return c, nil
}

func noSuchBucket(err error) bool {
	var e *object.Error
	return errors.As(err, &e) && e.Code == "NoSuchBucket"
}

// reachStore makes one small request, so that a wrong endpoint, bucket or key is
// told before anything is read from a stream.
func reachStore(ctx context.Context, cfg *config.Config, c *objectstore.Client) error {
	stop := errors.New("one is enough")
	err := unhurried(ctx, func() error {
		return c.List(ctx, cfg.OSS.Prefix+"_ossuary/", func(object.Entry) error { return stop })
	})
	if err == nil || errors.Is(err, stop) {
		return nil
	}
	return explainStore(cfg, err)
}

// throttledAttempts bounds how often a first request is made to a store that wants
// to be left alone: a process that ends for it is started again by somebody, and
// asks all the sooner.
const throttledAttempts = 5

// unhurried asks the store again while it says that it is asked too much, and no
// sooner than it says.
func unhurried(ctx context.Context, ask func() error) error {
	pauses := backoff.New(time.Second, 10*time.Second, 2)
	for attempt := 1; ; attempt++ {
		err := ask()
		var e *object.Error
		if attempt == throttledAttempts || !errors.As(err, &e) || e.Kind != object.Throttled {
			return err
		}
		t := time.NewTimer(max(pauses.Next(), e.RetryAfter))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// explainStore says which setting keeps the store from serving us.
func explainStore(cfg *config.Config, err error) error {
	o := cfg.OSS
	where := fmt.Sprintf("oss.endpoint %s, oss.bucket %s", o.Endpoint, o.Bucket)
	var e *object.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", where, err)
	}
	if mend := storeMend(o, e); mend != "" && mend != e.Hint {
		return fmt.Errorf("%s: %w; %s", where, err, mend)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// storeMend says which setting to look at, "" where the error's own hint does.
func storeMend(o config.OSS, e *object.Error) string {
	switch {
	case e.Kind == object.InDoubt && e.Status == 0 && errors.Is(e, http.ErrSchemeMismatch):
		return "what listens there has no TLS: write oss.endpoint with http://, or correct it"
	case e.Kind == object.InDoubt && e.Status == 0 && strings.Contains(e.Error(), "malformed HTTP"):
		return "what listens there does not speak HTTP: correct oss.endpoint"
	case e.Kind == object.InDoubt && e.Status == 0:
		return "nothing answers there: correct oss.endpoint, or start what should listen"
	case e.Code == "NoSuchBucket":
		return "create the bucket, or correct oss.bucket and oss.endpoint"
	case e.Code == "InvalidAccessKeyId", e.Code == "SignatureDoesNotMatch", e.Code == "InvalidSecurityToken", e.Code == "SecurityTokenExpired":
		return "correct " + keySetting(o)
	case e.Kind == object.Throttled:
		return "the account or the bucket makes too many requests: try again later, or have its limits raised"
	case e.Code == "RequestTimeTooSkewed":
		return "set this machine's clock"
	case e.Kind == object.Refused && e.Status == 0: // nothing was sent: there are no keys
		return "correct " + keySetting(o)
	case e.Kind == object.Refused && e.Hint == "":
		return "grant the user oss:PutObject, oss:GetObject and oss:ListObjects on the bucket, or correct " + keySetting(o)
	}
	return ""
}

// keySetting names where the key came from.
func keySetting(o config.OSS) string {
	switch c := o.Credentials; {
	case c.From == "file":
		return "oss.credentials.file (" + c.File + ")"
	case c.From == "ecs", c.From == "oidc", c.RoleARN != "":
		return "oss.credentials, or what the role may"
	case o.AccessKeyIDFile != "" || o.AccessKeySecretFile != "":
		return "oss.access_key_id_file and oss.access_key_secret_file"
	case o.AccessKeyID == "" && os.Getenv("OSS_ACCESS_KEY_ID") != "":
		return "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET in the environment (oss.access_key_id is not set)"
	}
	return "oss.access_key_id and oss.access_key_secret"
}
