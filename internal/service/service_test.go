package service

import (
	"strings"
	"testing"

	"ossuary/internal/config"
)

func TestNewEnough(t *testing.T) {
	for v, want := range map[string]bool{
		"2.9.25": false, "1.4.0": false, "2.10.0": true, "2.10.27-RC.1": true, "2.15.2": true, "3.0.0": true, "dev": true, "2": true,
	} {
		if got := newEnough(v); got != want {
			t.Errorf("%s: %v", v, got)
		}
	}
}

func TestURLsAreShownWithoutSecrets(t *testing.T) {
	got := redact([]string{"nats://user:secret@host:4222", "host:4222", "tls://token@host", "user:secret@host"})
	if s := strings.Join(got, " "); strings.Contains(s, "secret") || strings.Contains(s, "token") || !strings.Contains(s, "nats://***@host:4222") {
		t.Errorf("got %s", s)
	}
}

func TestEmbeddedServersKeepToLoopback(t *testing.T) {
	for raw, want := range map[string]string{
		"nats://127.0.0.1:4222": "127.0.0.1:4222", "nats://localhost": "127.0.0.1:4222", "http://[::1]:9000": "[::1]:9000",
		"nats://0.0.0.0:4222": "", "nats://10.0.0.1:4222": "", "nats://example.com": "",
	} {
		got, err := loopback(raw, "4222")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", raw, got, err)
		}
	}
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	first, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := lockDir(dir); err == nil {
		f.Close()
		t.Error("two processes may use the directory at once")
	} else if !strings.Contains(err.Error(), "embedded.data_dir") {
		t.Errorf("message: %v", err)
	}
	first.Close()
	again, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// Without a lease an instance must find its own horizon again after a restart,
// and never another's.
func TestOwnerID(t *testing.T) {
	cfg := config.Default()
	if once, again := ownerID(cfg), ownerID(cfg); once == again {
		t.Error("two runs share an owner id")
	}
	cfg.Lease.Disabled = true
	cfg.NATS.Name = "a"
	a := ownerID(cfg)
	if a != ownerID(cfg) {
		t.Error("the id does not survive a restart")
	}
	cfg.NATS.Name = "b"
	if a == ownerID(cfg) {
		t.Error("two instances share an id")
	}
}
