package translate

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/deploy/compatibility"
)

// TestCompatibility: the fields of MeshConfig that deploy/COMPATIBILITY.md calls reported are named to the ConfigMap's owner, and
// no other is.
func TestCompatibility(t *testing.T) {
	rows, err := compatibility.Section("../../deploy/COMPATIBILITY.md", "MeshConfig")
	if err != nil || len(rows) < 40 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	honoured := map[string]string{ // each with a value that is one
		"trustDomain": "cluster.local", "trustDomainAliases": "[old.example]", "rootNamespace": "istio-system",
		"discoverySelectors": "[{matchLabels: {a: b}}]", "serviceEntryVisibility": "{defaultVisibility: PUBLIC}",
	}
	reported := map[string]string{"outboundTrafficPolicy": "{mode: REGISTRY_ONLY}", "serviceSettings": "[{settings: {clusterLocal: true}, hosts: ['*']}]"}
	for field, is := range rows {
		change := meshChange(field + ": " + honoured[field] + reported[field])
		if field == "meshNetworks" {
			change = meshChange("")
			change.Object.(*corev1.ConfigMap).Data["meshNetworks"] = "networks: {other: {}}"
		}
		c := New(Settings{}).Apply([]objects.Change{change}).Statuses[meshChange("").Key].Conditions
		told := slices.ContainsFunc(c, func(c objects.Condition) bool {
			return c.Reason == "FieldsIgnored" && c.Message != "" && (reported[field] != "" || c.Message == "without effect here: "+field)
		})
		if len(c) != 1 || !c[0].Status || told != (is == compatibility.Reported) {
			t.Errorf("%s is called %s, and its owner told %+v", field, is, c)
		}
	}
}

// TestIstiodsEmptyNetworks: what istiod's chart always writes asks for nothing.
func TestIstiodsEmptyNetworks(t *testing.T) {
	for text, want := range map[string]string{"": "Accepted", "networks: {}": "Accepted", "networks: {a: {}}": "FieldsIgnored", "networks: [": "FieldsIgnored"} {
		change := meshChange("rootNamespace: istio-system")
		change.Object.(*corev1.ConfigMap).Data["meshNetworks"] = text
		c := New(Settings{}).Apply([]objects.Change{change}).Statuses[change.Key].Conditions
		if len(c) != 1 || c[0].Reason != want {
			t.Errorf("%q: %+v, want %s", text, c, want)
		}
	}
}
