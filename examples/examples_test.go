// Package examples checks that the configurations that a reader is shown are
// accepted as they stand, and that they fit what they are shown with.
package examples

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"ossuary/internal/config"
)

// getenv has a value for every secret; what else the examples take from the
// environment has a default.
func getenv(name string) (string, bool) {
	switch name {
	case "OSS_ENDPOINT", "OSS_REGION", "OSS_BUCKET":
		return "", false
	}
	return "value-of-" + name, true
}

func TestExamplesAreAccepted(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"compose.yaml", "ossuary.yaml"} {
		if !slices.Contains(files, want) {
			t.Errorf("README.md sends readers to %s; there are %q", want, files)
		}
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Parse(file, data, getenv)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		for _, w := range cfg.Warnings {
			t.Errorf("%s:%d: %s: %s; %s", file, w.Line, w.Path, w.What, w.Mend)
		}
	}
}

func TestReadmeConfigurationIsAccepted(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```yaml\n")
	block, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("README.md shows no configuration in a yaml block")
	}
	cfg, err := config.Parse("README.md", []byte(block), getenv)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Archive.Name != "shop" || len(cfg.Sources) != 1 {
		t.Fatalf("read archive %q with %d sources", cfg.Archive.Name, len(cfg.Sources))
	}
	for _, w := range cfg.Warnings {
		t.Errorf("README.md: %s: %s; %s", w.Path, w.What, w.Mend)
	}
}

// compose.yaml must reach the services of docker-compose.yml, whose own shape is
// checked in tools/compose.
func TestComposeConfigurationFitsItsServices(t *testing.T) {
	data, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("compose.yaml", data, getenv)
	if err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Command     []string          `yaml:"command"`
			Environment map[string]string `yaml:"environment"`
			Ports       []string          `yaml:"ports"`
			Volumes     []string          `yaml:"volumes"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal(data, &compose); err != nil {
		t.Fatal(err)
	}

	if !slices.Contains(compose.Services["ossuary"].Volumes, "./examples/compose.yaml:/etc/ossuary/ossuary.yaml:ro") {
		t.Error("the service does not read examples/compose.yaml")
	}
	for _, address := range append([]string{cfg.OSS.Endpoint}, cfg.NATS.URLs...) {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := compose.Services[u.Hostname()]; !ok {
			t.Errorf("%s is no service of docker-compose.yml", address)
		}
	}
	if store := compose.Services["store"].Command; !slices.Contains(store, "--bucket="+cfg.OSS.Bucket) {
		t.Errorf("the archive's bucket is %q, the store is started with %q", cfg.OSS.Bucket, store)
	}
	for name, value := range map[string]string{"OSS_ACCESS_KEY_ID": cfg.OSS.AccessKeyID, "OSS_ACCESS_KEY_SECRET": cfg.OSS.AccessKeySecret} {
		if _, ok := compose.Services["ossuary"].Environment[name]; !ok || value != "value-of-"+name {
			t.Errorf("%s does not reach the configuration: it reads %q", name, value)
		}
	}
	_, port, _ := strings.Cut(cfg.HTTP.Listen, ":")
	if ports := compose.Services["ossuary"].Ports; port == "" || !slices.Contains(ports, "127.0.0.1:"+port+":"+port) {
		t.Errorf("http.listen is %q, docker-compose.yml publishes %q", cfg.HTTP.Listen, ports)
	}
	subjects := []string{}
	for _, s := range cfg.Sources {
		if s.Create != nil {
			subjects = append(subjects, s.Create.Subjects...)
		}
	}
	if publisher := strings.Join(compose.Services["publisher"].Command, " "); !slices.Contains(subjects, "orders.>") || !strings.Contains(publisher, "orders.") {
		t.Errorf("the streams take %q, which is not what the publisher sends", subjects)
	}
}
