package service

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"ossuary/internal/config"
	"ossuary/internal/objectstore"
)

func TestWhereKeysComeFrom(t *testing.T) {
	t.Setenv("OSS_ACCESS_KEY_ID", "env-id")
	t.Setenv("OSS_ACCESS_KEY_SECRET", "env-secret")
	t.Setenv("OSS_SESSION_TOKEN", "env-token")
	credentialsOf := func(o config.OSS) (objectstore.Credentials, error) {
		o.Credentials.From = "auto"
		get, err := credentialsOf(o, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		return get()
	}
	c, err := credentialsOf(config.OSS{AccessKeyID: "id", AccessKeySecret: "secret"})
	if err != nil || c.AccessKeyID != "id" || c.SecurityToken != "" {
		t.Errorf("configured: %+v, %v", c, err)
	}
	c, err = credentialsOf(config.OSS{})
	if err != nil || c.AccessKeyID != "env-id" || c.SecurityToken != "env-token" {
		t.Errorf("environment: %+v, %v", c, err)
	}
	t.Setenv("OSS_ACCESS_KEY_ID", "")
	if _, err = credentialsOf(config.OSS{}); err == nil || !strings.Contains(err.Error(), "half an access key") {
		t.Errorf("half: %v", err)
	}
	t.Setenv("OSS_ACCESS_KEY_SECRET", "")
	if _, err = credentialsOf(config.OSS{}); err == nil || !strings.Contains(err.Error(), "oss.access_key_id") {
		t.Errorf("none: %v", err)
	}
}
