package service

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"ossuary/internal/config"
	"ossuary/internal/credentials/credentialstest"
	"ossuary/internal/ossemu"
)

// Keys change under load, and the old ones are bad from that moment on: nothing is
// lost or doubled, and no restart is needed. This is so wherever the keys come from.
func TestRotation(t *testing.T) {
	const each = 100
	rotations := 1
	if os.Getenv("OSSUARY_LONG") != "" {
		rotations = 5
	}
	before := renewEvery
	renewEvery = 20 * time.Millisecond
	t.Cleanup(func() { renewEvery = before })

	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		// As editors and Kubernetes do it: the file is there whole or not at all.
		if err := os.WriteFile(file("new"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file("new"), file(name)); err != nil {
			t.Fatal(err)
		}
	}
	// The n-th keys, in the ways of those that are no services.
	id := func(n int) string { return fmt.Sprintf("STS.%d", n) }
	secret := func(n int) string { return fmt.Sprintf("secret-%d", n) }
	token := func(n int) string { return fmt.Sprintf("token-%d", n) }
	jsonFile := func(n int) {
		write("keys.json", fmt.Sprintf(`{"AccessKeyId":%q,"AccessKeySecret":%q,"SecurityToken":%q}`, id(n), secret(n), token(n)))
	}
	threeFiles := func(n int) {
		write("id", id(n))
		write("secret", secret(n))
		write("token", token(n))
	}
	environment := func(n int) {
		t.Setenv("OSS_ACCESS_KEY_ID", id(n))
		t.Setenv("OSS_ACCESS_KEY_SECRET", secret(n))
		t.Setenv("OSS_SESSION_TOKEN", token(n))
	}
	write("oidc", credentialstest.OIDCToken)

	for _, tc := range []struct {
		name string
		keys func(*config.OSS)
		set  func(n int) // nil: the services give them out
	}{
		{"file", func(o *config.OSS) { o.Credentials.From, o.Credentials.File = "file", file("keys.json") }, jsonFile},
		{"three files", func(o *config.OSS) {
			o.AccessKeyIDFile, o.AccessKeySecretFile, o.SecurityTokenFile = file("id"), file("secret"), file("token")
		}, threeFiles},
		{"environment", func(*config.OSS) {}, environment},
		{"instance role", func(o *config.OSS) { o.Credentials.From = "ecs" }, nil},
		{"AssumeRole", func(o *config.OSS) {
			o.AccessKeyID, o.AccessKeySecret, o.Credentials.RoleARN = "base", "s", credentialstest.RoleARN
		}, nil},
		{"AssumeRole by an instance", func(o *config.OSS) { o.Credentials.From, o.Credentials.RoleARN = "ecs", credentialstest.RoleARN }, nil},
		{"OIDC", func(o *config.OSS) {
			o.Credentials.From, o.Credentials.RoleARN = "oidc", credentialstest.RoleARN
			o.Credentials.OIDCProviderARN, o.Credentials.OIDCTokenFile = credentialstest.ProviderARN, file("oidc")
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cloud := credentialstest.Start(t, "base")
			if tc.name == "AssumeRole by an instance" {
				cloud.TrustAll()
			}
			cfg, _ := remote(t, ossemu.Options{Keys: credentialstest.Keys()}, cloud.Gate)
			cfg.OSS.AccessKeyID, cfg.OSS.AccessKeySecret = "", ""
			tc.keys(&cfg.OSS)
			cfg.OSS.Credentials.STSEndpoint = cloud.STS

			n := 1
			if tc.set != nil {
				tc.set(n)
				cloud.Skip(1)
			}
			s, stop := start(t, cfg)
			archived := func() int { return int(s.Report().Lanes[0].Floor) }
			published, end := load(t, s.js, archived)
			for range rotations {
				before := archived()
				eventually(t, "the keys are in use", func() bool { return archived() >= before+each })
				cloud.Revoke()
				gap := published()
				eventually(t, "events come into the gap", func() bool { return published() >= gap+each })
				if tc.set != nil {
					n++
					tc.set(n)
					cloud.Skip(1)
				}
				eventually(t, "what came into the gap is archived", func() bool { return archived() >= gap+each })
			}
			total := end()
			eventually(t, "all is archived", func() bool { return archived() == total })
			stop()
			wantWhole(t, cfg, total)
			t.Logf("%d events, %d temporary keys", total, cloud.Issued())
		})
	}
}

// load publishes one event after the other until end is called, which returns how
// many there were; it is at most some hundred ahead of what is archived.
func load(t *testing.T, js jetstream.JetStream, archived func() int) (published, end func() int) {
	t.Helper()
	const ahead = 500
	var n atomic.Int64
	published = func() int { return int(n.Load()) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if published()-archived() >= ahead {
				time.Sleep(time.Millisecond)
				continue
			}
			if _, err := js.Publish(t.Context(), "events.x", []byte(`{"a":1}`)); err != nil {
				done <- err
				return
			}
			n.Add(1)
		}
		done <- nil
	}()
	return published, func() int {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return published()
	}
}
