package translate

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

func meshChange(text string) objects.Change {
	return objects.Change{
		Key:    objects.Key{Kind: objects.ConfigMap, Namespace: "istio-system", Name: "istio"},
		Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"}, Data: map[string]string{"mesh": text}},
	}
}

// TestInvalidMeshConfigKeepsTheLastGoodOne: and says what is wrong with the new one.
func TestInvalidMeshConfigKeepsTheLastGoodOne(t *testing.T) {
	for _, bad := range []string{
		"rootNamespace: [", "- a", "rootNamespace: NOT-A-NAME", "trustDomain: a/b", "trustDomainAliases: ['']", "rootNamespace: a\nrootNamespace: b", "rootNamespace: a\nroot_namespace: b",
		"discoverySelectors: [{matchExpressions: [{key: a, operator: Unknown}]}]", "outboundTrafficPolicy: {mode: SOME}",
		"serviceEntryVisibility: {defaultVisibility: SOME}", "serviceEntryVisibility: {policies: [{matchingRules: [{}]}]}",
	} {
		tr := New(Settings{})
		tr.Apply([]objects.Change{meshChange("rootNamespace: good")})
		st := tr.Apply([]objects.Change{meshChange(bad)}).Statuses[meshChange("").Key]
		if tr.Settings().RootNamespace != "good" || len(st.Conditions) != 1 || st.Conditions[0].Status || st.Conditions[0].Reason != "Invalid" {
			t.Errorf("%q: root namespace %s, %+v", bad, tr.Settings().RootNamespace, st.Conditions)
		}
		tr.Apply([]objects.Change{{Key: meshChange("").Key}})
		if got := tr.Settings().RootNamespace; got != "istio-system" {
			t.Errorf("without MeshConfig the root namespace is %s", got)
		}
	}
}

// TestMeshConfigNeverValidHolds: without any good one nobody knows whose policies hold for the mesh. A later one that is bad
// changes nothing.
func TestMeshConfigNeverValidHolds(t *testing.T) {
	tr := New(Settings{})
	if err := tr.Held(); err != nil {
		t.Errorf("without MeshConfig: %v", err)
	}
	st := tr.Apply([]objects.Change{meshChange("rootNamespace: [")}).Statuses[meshChange("").Key]
	if err := tr.Held(); err == nil || st.Conditions[0].Message != err.Error() {
		t.Errorf("held: %v, told %+v", err, st.Conditions)
	}
	tr.Apply([]objects.Change{meshChange("rootNamespace: good")})
	if err := tr.Held(); err != nil {
		t.Errorf("mended: %v", err)
	}
	tr.Apply([]objects.Change{meshChange("rootNamespace: [")})
	if err := tr.Held(); err != nil || tr.Settings().RootNamespace != "good" {
		t.Errorf("broken again: %v, root namespace %s", err, tr.Settings().RootNamespace)
	}
}

// TestMeshConfigSpelledAsInTheProto: both spellings are the API's.
func TestMeshConfigSpelledAsInTheProto(t *testing.T) {
	if m, err := ReadMesh("root_namespace: a"); err != nil || m.RootNamespace != "a" {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestCommandLineWinsOverMeshConfig: what was given stays, and the ConfigMap's condition names it.
func TestCommandLineWinsOverMeshConfig(t *testing.T) {
	tr := New(Settings{RootNamespace: "istio-system", TrustDomainAliases: []string{"given"}})
	st := tr.Apply([]objects.Change{meshChange("{rootNamespace: other, trustDomainAliases: [theirs]}")}).Statuses[meshChange("").Key]
	if s := tr.Settings(); s.RootNamespace != "istio-system" || s.TrustDomainAliases[0] != "given" {
		t.Errorf("in force: %+v", s)
	}
	if c := st.Conditions[0]; c.Reason != "Overridden" || !strings.Contains(c.Message, "rootNamespace other") || !strings.Contains(c.Message, "trustDomainAliases") {
		t.Errorf("condition: %+v", c)
	}
}
