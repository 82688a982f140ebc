package service

import (
	"errors"
	"os"

	"ossuary/internal/config"
	"ossuary/internal/objectstore"
)

var (
	errNoKey   = errors.New("no access key: set oss.access_key_id and oss.access_key_secret (or their _file settings), or OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET in the environment")
	errHalfKey = errors.New("half an access key: set both oss.access_key_id and oss.access_key_secret")
)

// credentialsOf asks for the keys anew with every request, so that rotated ones
// need no restart: from the configuration and its files, else the environment.
func credentialsOf(o config.OSS) func() (objectstore.Credentials, error) {
	return func() (objectstore.Credentials, error) {
		id, secret, token, err := o.Keys()
		if err != nil {
			return objectstore.Credentials{}, err
		}
		if id == "" && secret == "" {
			id, secret, token = os.Getenv("OSS_ACCESS_KEY_ID"), os.Getenv("OSS_ACCESS_KEY_SECRET"), os.Getenv("OSS_SESSION_TOKEN")
		}
		switch {
		case id != "" && secret != "":
			return objectstore.Credentials{AccessKeyID: id, AccessKeySecret: secret, SecurityToken: token}, nil
		case id != "" || secret != "":
			return objectstore.Credentials{}, errHalfKey
		}
		return objectstore.Credentials{}, errNoKey
	}
}
