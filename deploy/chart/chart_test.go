package main

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

var system = Release{"ambit", "mesh-system"}

func render(t *testing.T, set ...string) (string, error) {
	t.Helper()
	values, err := readValues(nil, append([]string{"hub=registry.example/ambit"}, set...))
	if err != nil {
		t.Fatal(err)
	}
	return Render(load(t), system, values)
}

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := Load("ambit", "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// objects are the manifests, decoded strictly: a field that Kubernetes does not know is an error.
func objects(t *testing.T, set ...string) []runtime.Object {
	t.Helper()
	text, err := render(t, set...)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme, policyv1.AddToScheme, admissionv1.AddToScheme, networkingv1.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var out []runtime.Object
	for r := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text))); ; {
		buf := make([]byte, 1<<20)
		n, err := r.Read(buf)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := decoder.Decode(buf[:n], nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, buf[:n])
		}
		out = append(out, o)
	}
}

// templates are the pods that the chart starts, by name of what starts them.
func templates(t *testing.T, set ...string) map[string]corev1.PodTemplateSpec {
	out := map[string]corev1.PodTemplateSpec{}
	for _, o := range objects(t, set...) {
		switch o := o.(type) {
		case *appsv1.DaemonSet:
			out[o.Name] = o.Spec.Template
		case *appsv1.Deployment:
			out[o.Name] = o.Spec.Template
		}
	}
	return out
}

func TestPrivileges(t *testing.T) {
	pods := templates(t)
	if len(pods) != 3 {
		t.Fatalf("%d kinds of pods, want agent, ztunnel and controller", len(pods))
	}
	for name, pod := range pods {
		root := name == "ambit-agent"
		c := pod.Spec.Containers[0]
		if sc := c.SecurityContext; *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem || sc.Privileged != nil ||
			!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(sc.Capabilities.Add) > 0 != root {
			t.Errorf("%s: %+v", name, sc)
		}
		if !root && (pod.Spec.HostNetwork || pod.Spec.HostPID || !*pod.Spec.SecurityContext.RunAsNonRoot || *pod.Spec.SecurityContext.RunAsUser != 1337) {
			t.Errorf("%s: %+v", name, pod.Spec.SecurityContext)
		}
		if pod.Labels["istio.io/dataplane-mode"] != "none" {
			t.Errorf("%s may be enrolled itself", name)
		}
		if c.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError {
			t.Errorf("%s: kubectl describe pod does not say why it ended", name)
		}
		if c.ReadinessProbe == nil || len(c.Resources.Requests) == 0 || pod.Spec.PriorityClassName == "" {
			t.Errorf("%s: no readiness, no requests or no priority", name)
		}
	}
	if *pods["ambit-ztunnel"].Spec.AutomountServiceAccountToken {
		t.Error("the ztunnel gets a token for the API server")
	}
}

// What comes up is for the cluster to say: replicas in several zones and on several nodes, a budget that lets nodes be drained
// and never takes the last of two, and an upgrade that starts the new one first.
func TestAvailability(t *testing.T) {
	seen := 0
	for _, o := range objects(t) {
		switch o := o.(type) {
		case *appsv1.Deployment:
			seen++
			var keys []string
			for _, c := range o.Spec.Template.Spec.TopologySpreadConstraints {
				keys = append(keys, c.TopologyKey)
				if c.WhenUnsatisfiable != corev1.ScheduleAnyway || !maps.Equal(c.LabelSelector.MatchLabels, o.Spec.Selector.MatchLabels) {
					t.Errorf("%s: %+v", o.Name, c)
				}
			}
			if !slices.Equal(keys, []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"}) || *o.Spec.Replicas < 2 {
				t.Errorf("%s: %d replicas, spread over %v", o.Name, *o.Spec.Replicas, keys)
			}
			if r := o.Spec.Strategy.RollingUpdate; r.MaxUnavailable.IntValue() != 0 || r.MaxSurge.IntValue() != 1 {
				t.Errorf("%s: %+v", o.Name, r)
			}
		case *appsv1.DaemonSet:
			seen++
			if r := o.Spec.UpdateStrategy.RollingUpdate; o.Name == "ambit-ztunnel" && (r.MaxSurge.IntValue() != 1 || r.MaxUnavailable.IntValue() != 0) {
				t.Errorf("%s: %+v", o.Name, r)
			}
			if !slices.Equal(o.Spec.Template.Spec.Tolerations, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}) {
				t.Errorf("%s runs on some nodes only: %v", o.Name, o.Spec.Template.Spec.Tolerations)
			}
		case *policyv1.PodDisruptionBudget:
			seen++
			if o.Spec.MaxUnavailable.IntValue() != 1 || o.Spec.Selector.MatchLabels["app"] != "ambit-controller" {
				t.Errorf("%s: %+v", o.Name, o.Spec)
			}
		}
	}
	if seen != 4 {
		t.Errorf("%d of them, want agent, ztunnel, controller and a budget", seen)
	}
}

// The images are whose they are: a default would be somebody else's.
func TestHubMustBeSaid(t *testing.T) {
	if _, err := Render(load(t), system, nil); err == nil || !strings.Contains(err.Error(), "hub is not set") {
		t.Errorf("%v", err)
	}
}

func TestNotes(t *testing.T) {
	values := map[string]any{"hub": "registry.example/ambit"}
	all, err := files(load(t), system, values)
	if err != nil {
		t.Fatal(err)
	}
	notes := all["ambit/templates/NOTES.txt"]
	for _, want := range []string{"kubectl -n mesh-system rollout status daemonset/ambit-ztunnel", "ambit check -n mesh-system", "istio.io/dataplane-mode=ambient"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no %q in\n%s", want, notes)
		}
	}
	if text, err := Render(load(t), system, values); err != nil || strings.Contains(text, "rollout status") {
		t.Errorf("the notes are among the manifests, or %v", err)
	}
}

// Nobody may do everything, and nobody but the controller reads a Secret, by name.
func TestRights(t *testing.T) {
	for _, o := range objects(t) {
		var name string
		var rules []rbacv1.PolicyRule
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			name, rules = o.Name, o.Rules
		case *rbacv1.Role:
			name, rules = o.Namespace+"/"+o.Name, o.Rules
		default:
			continue
		}
		for _, r := range rules {
			for _, list := range [][]string{r.Verbs, r.Resources, r.APIGroups} {
				if slices.Contains(list, "*") {
					t.Errorf("%s: a wildcard in %+v", name, r)
				}
			}
			if slices.Contains(r.Resources, "secrets") && (name != "istio-system/ambit-controller-root" || len(r.ResourceNames) == 0 && !slices.Equal(r.Verbs, []string{"create"})) {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}

// The controller reads a whole object by name only where it writes the object's status, or where the rule names it.
func TestGetFollowsStatus(t *testing.T) {
	got, patched := map[string]bool{}, map[string]bool{}
	for _, o := range objects(t) {
		role, ok := o.(*rbacv1.ClusterRole)
		if !ok || role.Name != "ambit-controller" {
			continue
		}
		for _, r := range role.Rules {
			for _, resource := range r.Resources {
				if slices.Contains(r.Verbs, "get") && len(r.ResourceNames) == 0 {
					got[r.APIGroups[0]+"/"+resource] = true
				}
				if of, status := strings.CutSuffix(resource, "/status"); status {
					patched[r.APIGroups[0]+"/"+of] = true
				}
			}
		}
	}
	if len(got) == 0 || !maps.Equal(got, patched) {
		t.Errorf("may get %v, and write the status of %v", got, patched)
	}
}

// kubectl apply takes the manifests as they are: what does not name its namespace would go to whichever is the user's.
func TestEveryObjectNamesItsNamespace(t *testing.T) {
	for _, o := range objects(t) {
		switch o.(type) {
		case *corev1.Namespace, *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding, *admissionv1.ValidatingWebhookConfiguration:
			continue
		}
		m, err := meta.Accessor(o)
		if err != nil {
			t.Fatal(err)
		}
		if m.GetNamespace() == "" {
			t.Errorf("%T %s names no namespace", o, m.GetName())
		}
	}
}

func TestNamespaces(t *testing.T) {
	text, err := render(t, "mesh.rootNamespace=mesh-root")
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"istio-system", "ambit-system"} {
		if strings.Contains(text, wrong) {
			t.Errorf("%s is named although both namespaces are others", wrong)
		}
	}
}

func TestSchema(t *testing.T) {
	for set, want := range map[string]string{
		"mesh.rootNamespcae=x":               "rootNamespcae",
		"mesh.logLevel=loud":                 "logLevel",
		"controller.replicas=0":              "replicas",
		"ztunnel.drainSeconds=soon":          "drainSeconds",
		"controller.webhook=maybe":           "webhook",
		"agent.cniConfDir=etc":               "cniConfDir",
		"hub=https://registry.example/ambit": "hub",
		"hub=registry.example/ambit/":        "hub",
		"tag=v1:2":                           "tag",
		"mesh.ranges={ten/8}":                "ranges",
		"mesh.network=a b":                   "network",
		"ztunnel.certificateTTL=0h":          "certificateTTL",
		"controller.cacertsSecret=Ca Certs":  "cacertsSecret",
		"agent.kubeletName=a b":              "kubeletName",
	} {
		if _, err := render(t, set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// Every value of values.yaml is in the schema, and has a say in the manifests or is known not to have.
func TestValuesMatter(t *testing.T) {
	base, err := render(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{
		"hub=example.test/x", "tag=v9", "imagePullPolicy=Always", "imagePullSecrets[0].name=s", "mesh.rootNamespace=r", "mesh.trustDomain=td",
		"mesh.clusterDomain=cd", "mesh.clusterID=c", "mesh.network=n", "mesh.ranges={10.0.0.0/8}", "mesh.logLevel=debug", "mesh.nodeSelector.a=b", "mesh.logFormat=text",
		"controller.replicas=3", "controller.webhook=false", "controller.cacertsSecret=cacerts", "controller.nodeSelector.a=b", "controller.tolerations[0].operator=Exists",
		"ztunnel.drainSeconds=9", "ztunnel.certificateTTL=1h", "ztunnel.accessLog=false", "agent.cniConfDir=/a", "agent.cniBinDir=/a",
		"agent.netnsDir=/a", "agent.excludeNamespaces={a}", "agent.captureDNS=false", "agent.kubeletName=k3s-agent", "agent.uninstall=true", "agent.strictCapture=true", "agent.allowForeignHooks=true",
		"agent.resources.requests.cpu=1", "ztunnel.resources.limits.memory=1", "controller.resources.limits.memory=1",
	} {
		got, err := render(t, set)
		if err != nil {
			t.Errorf("%s: %v", set, err)
		} else if got == base {
			t.Errorf("%s changes nothing", set)
		}
	}
}

func TestPackage(t *testing.T) {
	crds, err := CRDs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"authorizationpolicies.security.istio.io", "serviceentries.networking.istio.io", "httproutes.gateway.networking.k8s.io"} {
		if !strings.Contains(crds, "name: "+kind) {
			t.Errorf("no definition of %s", kind)
		}
	}
	c, err := Load("ambit", "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Package(c, crds, dir); err != nil {
		t.Fatal(err)
	}
	packed, err := Load(filepath.Join(dir, "ambit-1.2.3.tgz"), "")
	if err == nil {
		t.Fatal("an archive was read as a folder", packed)
	}
	if s, err := os.Stat(filepath.Join(dir, "ambit-1.2.3.tgz")); err != nil || s.Size() < 100_000 {
		t.Errorf("the archive without CRDs? %v, %v", s, err)
	}
}

// What is given to the controller wins over MeshConfig, so values that were not set are not given.
func TestMeshConfigHasASay(t *testing.T) {
	for set, want := range map[string][2]bool{
		"tag=x":                          {false, false},
		"mesh.trustDomain=corp.example":  {true, false},
		"mesh.rootNamespace=istio-mesh":  {false, true},
		"mesh.trustDomain=cluster.local": {true, false}, // the default, but said
	} {
		text, err := render(t, set)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{strings.Contains(text, "--trust-domain="), strings.Contains(text, "--root-namespace=")}; got != want {
			t.Errorf("%s: trust domain and root namespace given: %v, want %v", set, got, want)
		}
	}
}
