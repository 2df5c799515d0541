package strict

import (
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
)

func errorsOf(t *testing.T, text string, obj objects.Object) string {
	t.Helper()
	doc, err := JSON([]byte(text))
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, e := range doc.Decode(obj) {
		out = append(out, e.Error())
	}
	return strings.Join(out, "\n")
}

// TestUnknown: every field that a type does not have is named, with what was probably meant.
func TestUnknown(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		into           objects.Object
	}{
		{
			"several in a protobuf",
			`{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p"},"spec":{"acton":"DENY","rules":[{"from":[{"source":{"principal":["a"]}}],"whenn":[]}]}}`,
			"spec.acton: unknown field: did you mean \"action\"?\n" +
				"spec.rules[0].from[0].source.principal: unknown field: did you mean \"principals\"?\n" +
				"spec.rules[0].whenn: unknown field: did you mean \"when\"?", &securityv1.AuthorizationPolicy{},
		},
		{
			"names of the protobuf, which the API server drops", `{"spec":{"port_level_mtls":{}}}`,
			`spec.port_level_mtls: unknown field: did you mean "portLevelMtls"?`, &securityv1.PeerAuthentication{},
		},
		{
			"inside maps, and enums", `{"spec":{"portLevelMtls":{"80":{"mod":"STRICT"},"81":{"mode":"strict"},"82":{"mode":"Z"}}}}`,
			"spec.portLevelMtls.80.mod: unknown field: did you mean \"mode\"?\n" +
				"spec.portLevelMtls.81.mode: unknown value \"strict\": did you mean \"STRICT\"?\n" +
				"spec.portLevelMtls.82.mode: unknown value \"Z\": use one of UNSET, DISABLE, PERMISSIVE, STRICT", &securityv1.PeerAuthentication{},
		},
		{
			"nothing near", `{"spec":{"rules":[{"from":[{"xyzzy":1}]}]}}`, `spec.rules[0].from[0].xyzzy: unknown field`, &securityv1.AuthorizationPolicy{},
		},
		{
			"Kubernetes types", `{"metadata":{"lables":{}},"spec":{"containers":[{"ports":[{"conainerPort":1}]}],"nodName":"a"}}`,
			"metadata.lables: unknown field: did you mean \"labels\"?\n" +
				"spec.containers[0].ports[0].conainerPort: unknown field: did you mean \"containerPort\"?\n" +
				"spec.nodName: unknown field: did you mean \"nodeName\"?", &corev1.Pod{},
		},
		{
			"durations and status are not looked into", `{"spec":{"http":[{"timeout":"5s"}]},"status":{"newer":1}}`, "", &networkingv1.VirtualService{},
		},
		{"not an object", `[1]`, "document is not an object", nil},
		{"cut short", `{"a":`, "not JSON: EOF", nil},
		{"repeated", `{"a":1,"a":2}`, "a: field is set twice", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := errorsOf(t, tc.in, tc.into); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	known := []string{"principals", "namespaces", "ports", "istio.io/use-waypoint", "ambient"}
	for word, want := range map[string]string{
		"principal": "principals", "Ports": "ports", "prots": "ports", "istio.io/use_waypoint": "istio.io/use-waypoint", "ambiant": "ambient",
		"istio.io/usewaypoints": "istio.io/use-waypoint", "": "", "x": "", "hosts": "", strings.Repeat("ports", 1000): "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%.20s: got %q, want %q", word, got, want)
		}
	}
}

// TestLineOf finds lines by paths as field.Path writes them, too.
func TestLineOf(t *testing.T) {
	for doc, err := range Read([]byte("apiVersion: v1\nmetadata:\n  labels:\n    app: a\n    istio.io/rev: b\nspec:\n  rules:\n  - to: 1\n  - from:\n    - x\n")) {
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]int{
			"metadata.labels[app]": 4, "metadata.labels[istio.io/rev]": 5, "spec.rules[1].from[0].source": 10, "spec.rules[0].to": 8, "no.such": 1, "": 1,
		} {
			if got := doc.LineOf(path); got != want {
				t.Errorf("%s: got line %d, want %d", path, got, want)
			}
		}
	}
}

// FuzzJSON: what an API server or somebody in its place sends decodes or fails, and never panics.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","spec":{"x":[{"a":1e999}]}}`))
	f.Add([]byte(`{"spec":{"rules":[{"from":[{"source":{"principals":["\ud83d\ude00"]}}]}],"action":7}}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		doc, err := JSON(text)
		if err != nil {
			_ = doc.LineOf(err.Field)
			return
		}
		_, _ = doc.Header()
		for _, o := range []objects.Object{&corev1.Pod{}, &securityv1.AuthorizationPolicy{}, &networkingv1.VirtualService{}} {
			_ = doc.Decode(o)
		}
	})
}
