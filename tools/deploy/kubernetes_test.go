package deploy

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"ossuary/internal/config"
)

const root = "../.."

// closing is what a process may take to end, beyond intake.drain_timeout.
const closing = 10 * time.Second

// manifests are the objects that a kustomization renders.
type manifests struct {
	deployment *appsv1.Deployment
	pdb        *policyv1.PodDisruptionBudget
	service    *corev1.Service
	account    *corev1.ServiceAccount
	configs    map[string]*corev1.ConfigMap
	namespace  *corev1.Namespace
}

// render builds the kustomization as `kubectl kustomize` does, and reads what it
// gives as the API server would: a field that the kind does not have is an error.
func render(t *testing.T, dir string) manifests {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), root+"/deploy/kubernetes/"+dir)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	m := manifests{configs: map[string]*corev1.ConfigMap{}}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Fatalf("%s %s: %v", r.GetKind(), r.GetName(), err)
		}
		switch o := o.(type) {
		case *appsv1.Deployment:
			m.deployment = o
		case *policyv1.PodDisruptionBudget:
			m.pdb = o
		case *corev1.Service:
			m.service = o
		case *corev1.ServiceAccount:
			m.account = o
		case *corev1.ConfigMap:
			m.configs[o.Name] = o
		case *corev1.Namespace:
			m.namespace = o
		default:
			t.Errorf("a %T is rendered that nobody looks at", o)
		}
	}
	if m.deployment == nil || m.pdb == nil || m.service == nil || m.account == nil || len(m.configs) != 1 {
		t.Fatalf("%s lacks a part: %+v", dir, m)
	}
	return m
}

func TestManifests(t *testing.T) {
	for _, dir := range []string{"base", "ack"} {
		t.Run(dir, func(t *testing.T) {
			m := render(t, dir)
			pod := m.deployment.Spec.Template
			c := pod.Spec.Containers[0]

			// Two instances, one of which may be away, and everything selects them.
			if n := m.deployment.Spec.Replicas; n == nil || *n != 2 {
				t.Errorf("replicas: %v, not 2", n)
			}
			if n := m.pdb.Spec.MaxUnavailable; n == nil || n.IntValue() != 1 {
				t.Errorf("the disruption budget lets %v be away, not 1", n)
			}
			for name, selector := range map[string]map[string]string{
				"deployment": m.deployment.Spec.Selector.MatchLabels, "budget": m.pdb.Spec.Selector.MatchLabels, "service": m.service.Spec.Selector,
				"spread": pod.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
			} {
				if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
					t.Errorf("the %s selects %v, pods have %v", name, selector, pod.Labels)
				}
			}

			restricted(t, pod)
			if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
				t.Error("the root file system can be written to")
			}
			if m.account.Name != pod.Spec.ServiceAccountName || pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
				t.Errorf("service account %q of %q, its token mounted: %v", pod.Spec.ServiceAccountName, m.account.Name, pod.Spec.AutomountServiceAccountToken)
			}

			// What the pod is given is what the program is told to read.
			cfg := configuration(t, m, pod.Spec, c)
			fits(t, cfg, m, pod.Spec, c)
			names(t, m, c)
		})
	}
}

// restricted holds the pod to the strictest of Kubernetes' pod security standards.
func restricted(t *testing.T, pod corev1.PodTemplateSpec) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
		if !r.Allowed {
			t.Errorf("the pod is not restricted: %s: %s", r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
}

// configuration reads the configuration that the container's command names, out of
// the ConfigMap that is mounted there.
func configuration(t *testing.T, m manifests, pod corev1.PodSpec, c corev1.Container) *config.Config {
	t.Helper()
	at := slices.Index(c.Args, "--config")
	if at < 0 || at+1 == len(c.Args) || c.Args[0] != "run" {
		t.Fatalf("the container runs %q", c.Args)
	}
	file := c.Args[at+1]
	mount := slices.IndexFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool { return v.MountPath == path.Dir(file) })
	if mount < 0 {
		t.Fatalf("nothing is mounted at %s", path.Dir(file))
	}
	volume := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == c.VolumeMounts[mount].Name && v.ConfigMap != nil })
	if volume < 0 {
		t.Fatalf("what is mounted at %s is no ConfigMap", path.Dir(file))
	}
	text, ok := m.configs[pod.Volumes[volume].ConfigMap.Name].Data[path.Base(file)]
	if !ok {
		t.Fatalf("the ConfigMaps %v do not have %s", slices.Collect(maps.Keys(m.configs)), file)
	}
	cfg, err := config.Parse(path.Base(file), []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range cfg.Warnings {
		t.Errorf("%s: %s; %s", w.Path, w.What, w.Mend)
	}
	return cfg
}

// fits holds limits and times to what the configuration makes of the process.
func fits(t *testing.T, cfg *config.Config, m manifests, pod corev1.PodSpec, c corev1.Container) {
	t.Helper()
	// README.md, "Limits".
	most := min(4*cfg.Limits.Memory+192<<20, cfg.Limits.Memory+100<<20)
	if limit := c.Resources.Limits.Memory().Value(); limit <= most {
		t.Errorf("the container may have %d bytes, the process takes up to %d", limit, most)
	}
	if request := c.Resources.Requests.Memory().Value(); request < most {
		t.Errorf("the container asks for %d bytes, the process takes up to %d", request, most)
	}
	if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; grace < cfg.Intake.DrainTimeout+closing {
		t.Errorf("the pod has %s to end, the process takes %s and some", grace, cfg.Intake.DrainTimeout)
	}
	_, port, _ := strings.Cut(cfg.HTTP.Listen, ":")
	if got := fmt.Sprint(c.Ports[0].ContainerPort); got != port || cfg.HTTP.Listen != "0.0.0.0:"+port {
		t.Errorf("the container's port is %s, the program listens at %s", got, cfg.HTTP.Listen)
	}
	for what, probe := range map[string]*corev1.Probe{"/livez": c.LivenessProbe, "/readyz": c.ReadinessProbe, "/livez ": c.StartupProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != strings.TrimSpace(what) || probe.HTTPGet.Port.String() != c.Ports[0].Name {
			t.Errorf("no probe asks %s at port %s: %+v", what, c.Ports[0].Name, probe)
		}
	}
	if p := m.service.Spec.Ports[0]; p.TargetPort.String() != c.Ports[0].Name {
		t.Errorf("the service leads to port %s", p.TargetPort.String())
	}
	if got := m.deployment.Spec.Template.Annotations["prometheus.io/port"]; got != port {
		t.Errorf("Prometheus is sent to port %q", got)
	}
	// Each secret that the configuration names is below a mount of the Secret.
	secrets := map[string]bool{}
	for _, v := range pod.Volumes {
		secrets[v.Name] = v.Secret != nil
	}
	for _, file := range []string{cfg.NATS.Creds, cfg.OSS.AccessKeyIDFile, cfg.OSS.AccessKeySecretFile} {
		if file != "" && !slices.ContainsFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool { return secrets[v.Name] && v.MountPath == path.Dir(file) }) {
			t.Errorf("%s is in no Secret that is mounted", file)
		}
	}
}

// names are what the API takes.
func names(t *testing.T, m manifests, c corev1.Container) {
	t.Helper()
	for _, name := range []string{m.deployment.Name, m.pdb.Name, m.service.Name, m.account.Name, c.Name} {
		if problems := validation.IsDNS1035Label(name); len(problems) > 0 {
			t.Errorf("name %q: %v", name, problems)
		}
	}
	for _, e := range validation.IsValidPortName(c.Ports[0].Name) {
		t.Errorf("port %q: %s", c.Ports[0].Name, e)
	}
	if m.namespace != nil && m.deployment.Namespace != m.namespace.Name {
		t.Errorf("the deployment is in namespace %q, not %q", m.deployment.Namespace, m.namespace.Name)
	}
}

// The image knows the same user that the manifests run it as.
func TestUserOfTheImage(t *testing.T) {
	sc := render(t, "base").deployment.Spec.Template.Spec.SecurityContext
	want := fmt.Appendf(nil, "\nUSER %d:%d\n", *sc.RunAsUser, *sc.RunAsGroup)
	if file := read(t, "Dockerfile"); !bytes.Contains(file, want) {
		t.Errorf("the Dockerfile does not say %q", want)
	}
}
