package service

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/credentials"
	"ossuary/internal/objectstore"
)

var (
	errNoKey   = errors.New("no access key: set oss.access_key_id and oss.access_key_secret (or their _file settings), or OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET in the environment, or oss.credentials")
	errHalfKey = errors.New("half an access key: set both oss.access_key_id and oss.access_key_secret")
)

// renewEvery is a variable for tests, which cannot wait so long.
var renewEvery = credentials.RenewEvery

// credentialsOf says where the keys come from. They are asked for with every
// request, so that rotated ones need no restart.
func credentialsOf(o config.OSS, log zerolog.Logger) (func() (objectstore.Credentials, error), error) {
	c := o.Credentials
	role := credentials.Role{
		ARN: c.RoleARN, SessionName: c.RoleSessionName, SessionDuration: c.RoleSessionDuration,
		ExternalID: c.ExternalID, Policy: c.Policy, STSEndpoint: c.STSEndpoint,
	}
	if o.Proxy != objectstore.ProxyFromEnvironment {
		role.Proxy = o.Proxy
	}
	var get credentials.Get
	var err error
	temporary := c.RoleARN != ""
	switch c.From {
	case "file":
		get = credentials.File(c.File, log)
	case "ecs":
		get, err = credentials.Instance(c.RoleName)
		temporary = true
	case "oidc":
		get, err = credentials.OIDC(c.OIDCProviderARN, c.OIDCTokenFile, role)
		temporary = true
	default:
		get = func() (credentials.Keys, error) { return written(o) }
	}
	if err == nil && c.RoleARN != "" && c.From != "oidc" {
		get, err = credentials.Assume(get, role)
	}
	if err != nil {
		return nil, fmt.Errorf("oss.credentials: %w; set oss.credentials.role_arn and what it needs, or correct the environment (ALIBABA_CLOUD_...)", err)
	}
	if temporary {
		get = credentials.Fresh(get, renewEvery, log)
	}
	return func() (objectstore.Credentials, error) {
		k, err := get()
		if err != nil && c.From != "auto" {
			err = fmt.Errorf("oss.credentials: %w", err)
		}
		return objectstore.Credentials{AccessKeyID: k.ID, AccessKeySecret: k.Secret, SecurityToken: k.Token}, err
	}, nil
}

// written are the keys of the configuration and its files, else of the environment.
func written(o config.OSS) (credentials.Keys, error) {
	id, secret, token, err := o.Keys()
	k := credentials.Keys{ID: id, Secret: secret, Token: token}
	if err == nil && id == "" && secret == "" {
		k = credentials.Environment()
	}
	switch {
	case err != nil:
	case k.ID == "" && k.Secret == "":
		err = errNoKey
	case k.ID == "" || k.Secret == "":
		err = errHalfKey
	}
	return k, err
}
