// Package compose holds the check of docker-compose.yml by the very library that
// `docker compose` loads it with, schema and interpolation included. It needs no
// Docker; whether the images run is not shown here.
package compose

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

const root = "../.."

func load(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions(
		[]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithName("ossuary"),
		cli.WithProfiles(profiles),
		// An empty environment: the file must not lean on the caller's.
		cli.WithEnv(nil),
	)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestServices(t *testing.T) {
	want := []string{"nats", "ossuary", "publisher", "store"}
	if got := load(t).ServiceNames(); !slices.Equal(got, want) {
		t.Fatalf("services are %v, README.md promises %v", got, want)
	}
	project := load(t, "observe")
	want = []string{"grafana", "nats", "ossuary", "prometheus", "publisher", "store"}
	if got := project.ServiceNames(); !slices.Equal(got, want) {
		t.Fatalf("services with the profile observe are %v, not %v", got, want)
	}
	for name, service := range project.Services {
		for volume := range volumesOf(service, types.VolumeTypeVolume) {
			if _, ok := project.Volumes[volume]; !ok {
				t.Errorf("%s mounts volume %q, which is not declared", name, volume)
			}
		}
		for source := range volumesOf(service, types.VolumeTypeBind) {
			if _, err := os.Stat(source); err != nil {
				t.Errorf("%s mounts %q, which is not here; Docker would make an empty directory of it", name, source)
			}
		}
		for dependency, d := range service.DependsOn {
			want := types.ServiceConditionHealthy
			if check := project.Services[dependency].HealthCheck; check == nil || check.Disable {
				want = types.ServiceConditionStarted
			}
			if d.Condition != want {
				t.Errorf("%s waits until %s is %s; Docker can only tell, and should tell, that it is %s", name, dependency, d.Condition, want)
			}
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s on %q: the demo keys must stay on this machine", name, port.Published, port.HostIP)
			}
		}
	}
}

// The publisher must not send before the archive has made the stream.
func TestPublisherWaitsForTheArchive(t *testing.T) {
	project := load(t)
	for name, on := range map[string]string{"publisher": "ossuary", "ossuary": "nats"} {
		if d, ok := project.Services[name].DependsOn[on]; !ok || d.Condition != types.ServiceConditionHealthy {
			t.Errorf("%s does not wait until %s is healthy", name, on)
		}
	}
}

// Both images hold state that must outlive their containers.
func TestStateIsOnVolumes(t *testing.T) {
	project := load(t)
	for _, name := range []string{"nats", "store"} {
		found := false
		for _, target := range volumesOf(project.Services[name], types.VolumeTypeVolume) {
			found = found || target == "/data"
		}
		if !found {
			t.Errorf("%s has no volume on /data", name)
		}
	}
}

// The keys that the archive signs with are the ones that the store accepts.
func TestKeysAgree(t *testing.T) {
	project := load(t)
	store := strings.Join(project.Services["store"].Command, " ")
	env := project.Services["ossuary"].Environment
	for flag, name := range map[string]string{"--access-key": "OSS_ACCESS_KEY_ID", "--secret-key": "OSS_ACCESS_KEY_SECRET"} {
		value := env[name]
		if value == nil || !strings.Contains(store+" ", flag+"="+*value+" ") {
			t.Errorf("the archive's %s is not the store's %s", name, flag)
		}
	}
}

// Prometheus asks the archive, Grafana asks Prometheus, and both find what they
// are told to read where the mounts put it.
func TestObserve(t *testing.T) {
	project := load(t, "observe")
	inside := func(service string) map[string]string { // by path in the container, the file here
		files := map[string]string{}
		for source, target := range volumesOf(project.Services[service], types.VolumeTypeBind) {
			files[target] = source
		}
		return files
	}
	parse := func(file string, into any) {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := yaml.NewDecoder(bytes.NewReader(data))
		d.KnownFields(true)
		if err := d.Decode(into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	// An address as the containers know it.
	serves := func(address string) {
		t.Helper()
		host, port, _ := strings.Cut(strings.TrimPrefix(address, "http://"), ":")
		for _, p := range project.Services[host].Ports {
			if fmt.Sprint(p.Target) == port {
				return
			}
		}
		t.Errorf("nothing serves %s", address)
	}

	var prometheus struct {
		Global        map[string]string `yaml:"global"`
		RuleFiles     []string          `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string `yaml:"job_name"`
			StaticConfigs []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	mounts := inside("prometheus")
	parse(mounts["/etc/prometheus/prometheus.yml"], &prometheus)
	if len(prometheus.RuleFiles) == 0 || len(prometheus.ScrapeConfigs) == 0 {
		t.Fatalf("Prometheus is told %+v", prometheus)
	}
	for _, rules := range prometheus.RuleFiles {
		if mounts[rules] == "" {
			t.Errorf("Prometheus is to read %s, which is not mounted", rules)
		}
	}
	serves(prometheus.ScrapeConfigs[0].StaticConfigs[0].Targets[0])

	mounts = inside("grafana")
	provisioning := mounts["/etc/grafana/provisioning"]
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
		}
	}
	parse(filepath.Join(provisioning, "datasources", "prometheus.yaml"), &sources)
	if len(sources.Datasources) != 1 || !sources.Datasources[0].IsDefault {
		t.Fatalf("Grafana has %+v", sources)
	}
	serves(sources.Datasources[0].URL)
	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type      string
			DisableDeletion bool `yaml:"disableDeletion"`
			Options         struct{ Path string }
		}
	}
	parse(filepath.Join(provisioning, "dashboards", "ossuary.yaml"), &dashboards)
	dashboard := path.Join(dashboards.Providers[0].Options.Path, "ossuary.json")
	if mounts[dashboard] == "" {
		t.Errorf("Grafana looks for dashboards in %s, where none is mounted", dashboards.Providers[0].Options.Path)
	}
	if home := project.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]; home == nil || *home != dashboard {
		t.Errorf("Grafana's home is not %s", dashboard)
	}
}

// volumesOf maps the sources of a service's mounts of one type to their targets.
func volumesOf(service types.ServiceConfig, kind string) map[string]string {
	m := map[string]string{}
	for _, v := range service.Volumes {
		if v.Type == kind {
			m[v.Source] = v.Target
		}
	}
	return m
}
