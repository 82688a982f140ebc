package clients

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// npmTime is how long the registry may take before it counts as not reachable.
const npmTime = 2 * time.Minute

// nodeModules installs what testdata/node/package.json names, once per machine and
// version.
func nodeModules(t *testing.T) string {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("npm is not installed: the Node SDK is not tested here")
	}
	cache, err := os.UserCacheDir()
	if err == nil {
		err = os.MkdirAll(cache, 0o755)
	}
	if err != nil {
		cache = t.TempDir()
	}
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json"} {
		if files[name], err = os.ReadFile(filepath.Join("testdata", "node", name)); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(cache, fmt.Sprintf("ossuary-clients-node-%x", sha256.Sum256(files["package-lock.json"])))
	modules := filepath.Join(dir, "node_modules")
	if exists(modules) {
		return modules
	}
	// Elsewhere first: what is broken off, or done twice at once, must not be used.
	work, err := os.MkdirTemp(cache, "ossuary-clients-node-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	for name, p := range files {
		if err := os.WriteFile(filepath.Join(work, name), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), npmTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1")
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("npm cannot install the Node SDK, which is not tested here: %v\n%s", err, out)
	}
	if err := os.Rename(work, dir); err != nil && !exists(modules) {
		t.Fatal(err)
	}
	return modules
}
