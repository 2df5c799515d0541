package validate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/controller/strict"
	"github.com/ambit-mesh/ambit/deploy/compatibility"
)

// TestCompatibility: what deploy/COMPATIBILITY.md calls reported is reported, whatever the object; what it calls honoured or not
// needed is known; and each label and annotation that is known here is on the page.
func TestCompatibility(t *testing.T) {
	values := map[string]string{ // of what is reported of some values only
		"sidecar.istio.io/inject": "true", "istio-injection": "enabled", "kubernetes.io/ingress.class": "istio", "istio.io/dry-run": "true",
		"networking.istio.io/exportTo": ".", "istio.io/use-waypoint-canary-weight": "10", "ambient.istio.io/redirection": "enabled",
		"networking.istio.io/traffic-distribution": "PreferClose", "ambient.istio.io/waypoint-inbound-binding": "PROXY/15088",
		"istio.io/dataplane-mode": "ambient", "istio.io/waypoint-for": "all",
	}
	kinds := []string{"v1 Namespace", "v1 Service", "v1 Pod", "apps/v1 Deployment", "networking.k8s.io/v1 Ingress", "v1 Secret", "networking.istio.io/v1 WorkloadEntry"}
	for what, list := range map[string][]mark{"label": marks.labels, "annotation": marks.annotations} {
		rows, err := compatibility.Section("../../deploy/COMPATIBILITY.md", strings.ToUpper(what[:1])+what[1:]+"s")
		if err != nil {
			t.Fatal(err)
		}
		for key, is := range rows {
			value := values[key]
			if value == "" {
				value = "true"
			}
			var said []string
			for _, kind := range kinds {
				said = append(said, findingsOf(t, kind, what, key, value)...)
			}
			unknown := slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "not known") })
			_, known := find(list, key)
			exported := key == "networking.istio.io/exportTo"
			switch {
			case is == compatibility.Reported && (len(said) == 0 || unknown || known && !exported):
				t.Errorf("%s %s is called reported, and this is said: %q", what, key, said)
			case is != compatibility.Reported && (unknown || !known):
				t.Errorf("%s %s is called %s: known %v, said %q", what, key, is, known, said)
			}
		}
		for _, m := range list {
			if rows[m.key] == "" && !strings.HasPrefix(m.key, "ambit.io/") {
				t.Errorf("%s %s is known here and not on the page", what, m.key)
			}
		}
		for _, k := range idleKeys {
			if (k.what == "" || k.what == what) && rows[k.key] == "" && len(rows) > 0 && !onOther(t, k.key) {
				t.Errorf("%s is reported and not on the page", k.key)
			}
		}
	}
}

// onOther reports a key that the page has, as a label or as an annotation.
func onOther(t *testing.T, key string) bool {
	for _, heading := range []string{"Labels", "Annotations"} {
		rows, err := compatibility.Section("../../deploy/COMPATIBILITY.md", heading)
		if err != nil {
			t.Fatal(err)
		}
		if rows[key] != "" {
			return true
		}
	}
	return false
}

// findingsOf are those about one label or annotation of an object, on it or on the pods it makes.
func findingsOf(t *testing.T, kind, what, key, value string) (said []string) {
	t.Helper()
	version, name, _ := strings.Cut(kind, " ")
	meta := fmt.Sprintf("{name: a, namespace: a, %ss: {%q: %q}}", what, key, value)
	if key == "istio-injection" {
		meta = fmt.Sprintf("{name: a, labels: {%q: %q, istio.io/dataplane-mode: ambient}}", key, value)
	}
	text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: %s\n", version, name, meta)
	for doc, err := range strict.Read([]byte(text)) {
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range Document(doc, Settings{}).Findings {
			if strings.Contains(f.Field, "["+key+"]") && !strings.Contains(f.Message, "it is read on") {
				said = append(said, f.String())
			}
		}
	}
	return said
}
