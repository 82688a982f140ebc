package credentials_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ossuary/internal/credentials"
	"ossuary/internal/credentials/credentialstest"
)

func role(c *credentialstest.Cloud) credentials.Role {
	return credentials.Role{ARN: credentialstest.RoleARN, SessionName: "s", SessionDuration: 20 * time.Minute, STSEndpoint: c.STS}
}

func must(t *testing.T) func(credentials.Get, error) credentials.Get {
	return func(get credentials.Get, err error) credentials.Get {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return get
	}
}

// wantTwo asks twice, for keys that expire so soon that they are renewed at once.
func wantTwo(t *testing.T, c *credentialstest.Cloud, get credentials.Get, asked string) {
	t.Helper()
	for _, want := range []credentials.Keys{{"STS.1", "secret-1", "token-1"}, {"STS.2", "secret-2", "token-2"}} {
		if k, err := get(); err != nil || k != want {
			t.Fatalf("got %+v, %v, want %+v", k, err, want)
		}
	}
	if got := c.Asked(); !slices.Equal(got, []string{asked, asked}) {
		t.Errorf("asked for %q, want %q", got, asked)
	}
	c.Away(true)
	if _, err := get(); err == nil {
		t.Error("the service is away, and nobody says so")
	}
	c.Away(false)
	if k, err := get(); err != nil || k.ID != "STS.3" {
		t.Errorf("it is back: %+v, %v", k, err)
	}
}

func TestInstance(t *testing.T) {
	for _, name := range []string{"", credentialstest.InstanceRole} {
		c := credentialstest.Start(t)
		wantTwo(t, c, must(t)(credentials.Instance(name)), "instance role")
	}
	credentialstest.Start(t)
	if _, err := must(t)(credentials.Instance("another"))(); err == nil || !strings.Contains(err.Error(), "the instance's role") {
		t.Errorf("%v", err)
	}
}

func TestAssume(t *testing.T) {
	c := credentialstest.Start(t, "id")
	base := credentials.Keys{ID: "id", Secret: "secret"}
	get := must(t)(credentials.Assume(func() (credentials.Keys, error) { return base, nil }, role(c)))
	wantTwo(t, c, get, "AssumeRole by id as s for 1200")
	// The keys that the role is taken on with may change too.
	base.ID = "unknown"
	if _, err := get(); err == nil || !strings.Contains(err.Error(), "no such key") {
		t.Errorf("%v", err)
	}
	// What a failed request was asked with is not told.
	base.Token = "hunter2"
	r := role(c)
	r.STSEndpoint = "127.0.0.1:1"
	_, err := must(t)(credentials.Assume(func() (credentials.Keys, error) { return base, nil }, r))()
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
	if _, err := credentials.Assume(nil, credentials.Role{SessionDuration: time.Minute, ARN: "r"}); err == nil {
		t.Error("a session of a minute is taken")
	}
}

func TestOIDC(t *testing.T) {
	c := credentialstest.Start(t)
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(credentialstest.OIDCToken)
	get := must(t)(credentials.OIDC(credentialstest.ProviderARN, file, role(c)))
	wantTwo(t, c, get, "AssumeRoleWithOIDC by  as s for 1200")
	// The pod's token is read each time.
	write("old")
	if _, err := get(); err == nil || !strings.Contains(err.Error(), "bad token") {
		t.Errorf("%v", err)
	}
	write(credentialstest.OIDCToken)
	if _, err := get(); err != nil {
		t.Error(err)
	}
	// As the cluster says it.
	if _, err := credentials.OIDC("", "", credentials.Role{SessionDuration: time.Hour}); err == nil {
		t.Error("there is nothing to go by, and nobody says so")
	}
	t.Setenv("ALIBABA_CLOUD_ROLE_ARN", credentialstest.RoleARN)
	t.Setenv("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", credentialstest.ProviderARN)
	t.Setenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file)
	get = must(t)(credentials.OIDC("", "", credentials.Role{SessionDuration: time.Hour, STSEndpoint: c.STS}))
	if _, err := get(); err != nil {
		t.Error(err)
	}
}
