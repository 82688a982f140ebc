package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"

	"ossuary/internal/config"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// setting is the last value of a unit's setting, "" if there is none.
func setting(all []*unit.UnitOption, section, name string) (value string) {
	for _, o := range all {
		if o.Section == section && o.Name == name {
			value = o.Value
		}
	}
	return value
}

func TestUnit(t *testing.T) {
	all, err := unit.DeserializeOptions(strings.NewReader(string(read(t, "deploy/systemd/ossuary.service"))))
	if err != nil {
		t.Fatal(err)
	}
	const command = "/usr/bin/consumer run --config /etc/ossuary/ossuary.yaml"
	if got := setting(all, "Service", "ExecStart"); got != command {
		t.Errorf("it starts %q, packages bring %q", got, command)
	}
	if got := setting(all, "Service", "User"); got == "" || got == "root" {
		t.Errorf("it runs as %q", got)
	}
	cfg := config.Default()
	if stop, err := time.ParseDuration(setting(all, "Service", "TimeoutStopSec")); err != nil || stop < cfg.Intake.DrainTimeout+closing {
		t.Errorf("it has %s to end (%v), the process takes %s and some", stop, err, cfg.Intake.DrainTimeout)
	}
	const memory = "512M"
	if got := setting(all, "Service", "MemoryMax"); got != memory || 512<<20 <= cfg.Limits.Memory+100<<20 {
		t.Errorf("MemoryMax is %s, the process takes up to %d", got, cfg.Limits.Memory+100<<20)
	}
}

// systemd's own tools take the unit, know every setting, and find little to close.
func TestUnitIsTakenAndHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here; TestUnit has parsed the unit")
	}
	// It wants the program to exist.
	text := strings.Replace(string(read(t, "deploy/systemd/ossuary.service")), "/usr/bin/consumer", "/bin/true", 1)
	file := filepath.Join(t.TempDir(), "ossuary.service")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// It exits 0 with settings that it does not know, and says so.
	if out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput(); err != nil || strings.Contains(string(out), "ossuary.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// In tenths; 92 is a unit that says nothing.
	if out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=15", file).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
