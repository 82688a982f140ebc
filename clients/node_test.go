package clients

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The Node SDK, as npm installs it, in a cache directory of its own.
func TestNodeSDK(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: the Node SDK is not tested here")
	}
	modules := nodeModules(t)
	for name, r := range ways(t) {
		t.Run(name, func(t *testing.T) {
			endpoint := r.endpoint
			if !strings.Contains(endpoint, "127.0.0.1") {
				// Node resolves names, not ports, to the emulator.
				endpoint += ":" + r.port()
			}
			way, err := json.Marshal(map[string]any{
				"endpoint": endpoint, "region": r.region, "bucket": r.bucket, "id": r.id, "secret": r.secret, "token": r.token, "cname": r.cname, "v1": r.v1,
			})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), node, filepath.Join("testdata", "node", "contract.cjs"))
			cmd.Env = append(os.Environ(), "WAY="+string(way), "NODE_PATH="+modules)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// nodeModules installs what testdata/node/package.json names, once per version.
func nodeModules(t *testing.T) string {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("npm is not installed: the Node SDK is not tested here")
	}
	lock, err := os.ReadFile(filepath.Join("testdata", "node", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	dir := filepath.Join(cache, "ossuary-clients-node")
	if have, err := os.ReadFile(filepath.Join(dir, "installed")); err == nil && string(have) == string(lock) {
		return filepath.Join(dir, "node_modules")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		p, err := os.ReadFile(filepath.Join("testdata", "node", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), p, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("npm cannot install the Node SDK, which is not tested here: %v\n%s", err, out)
	}
	// Last, so that an installation that was broken off is done again.
	if err := os.WriteFile(filepath.Join(dir, "installed"), lock, 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "node_modules")
}
