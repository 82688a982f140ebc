// Package compose holds the check of docker-compose.yml by the very library that
// `docker compose` loads it with, schema and interpolation included. It needs no
// Docker; whether the images run is not shown here.
package compose

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

func load(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions(
		[]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithName("ossuary"),
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
	project := load(t)
	want := []string{"nats", "ossuary", "publisher", "store"}
	if got := project.ServiceNames(); !slices.Equal(got, want) {
		t.Fatalf("services are %v, README.md promises %v", got, want)
	}
	for name, service := range project.Services {
		for volume := range volumesOf(service, types.VolumeTypeVolume) {
			if _, ok := project.Volumes[volume]; !ok {
				t.Errorf("%s mounts volume %q, which is not declared", name, volume)
			}
		}
		for source := range volumesOf(service, types.VolumeTypeBind) {
			if info, err := os.Stat(source); err != nil || info.IsDir() {
				t.Errorf("%s mounts %q, which is no file here; Docker would make a directory of it", name, source)
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
