package hostile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/source/manifest"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// manifests replaces the guarded pod's policy by nonsense, and adds more. Each mistake is reported with file, line and field,
// in the status folder, the log and a metric; what was in force stays in force.
func (w *world) manifests(t *testing.T) {
	header := "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: guard, namespace: safe}\n"
	for _, attack := range []struct {
		name, file, text string
		want             manifest.Problem // Reason is a part of it
	}{
		{"unknown field", "guard.yaml", header + "spec:\n  selectr: {matchLabels: {app: guarded}}\n", manifest.Problem{Line: 5, Field: "spec.selectr", Reason: "unknown"}},
		{"wrong type", "guard.yaml", header + "spec:\n  rules: all\n", manifest.Problem{Line: 5, Field: "spec.rules"}},
		{"wrong value", "guard.yaml", header + "spec:\n  action: PERMIT\n", manifest.Problem{Line: 5, Field: "spec.action"}},
		{"repeated field", "guard.yaml", header + "spec:\n  action: DENY\n  action: ALLOW\n", manifest.Problem{Line: 6, Field: "spec.action"}},
		{"no YAML", "guard.yaml", header + "spec: {{{\n", manifest.Problem{Line: 4}},
		{"binary", "guard.yaml", "\x00\x01\x02", manifest.Problem{}},
		{"alias bomb", "guard.yaml", bomb(), manifest.Problem{}},
		{"deep nesting", "guard.yaml", header + "spec: " + strings.Repeat("[", 100_000), manifest.Problem{}},
		{
			"two pods with one IP", "twin.yaml", fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: twin, namespace: safe}\n"+
				"spec: {nodeName: n1, serviceAccountName: client}\nstatus: {phase: Running, podIPs: [{ip: %s}]}\n", w.attacker.IP4()),
			manifest.Problem{Line: 1, Field: "status.podIPs", Reason: w.attacker.IP4().String()},
		},
		{"not an address", "twin.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: twin, namespace: safe}\nspec: {nodeName: n1}\n" +
			"status: {podIPs: [{ip: 10.0.0.300}]}\n", manifest.Problem{Line: 5, Field: "status.podIPs[0].ip", Reason: "10.0.0.300"}},
		{"the same object twice", "second.yaml", guard, manifest.Problem{Line: 1, Field: "metadata.name", Reason: "same object"}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			mark := w.mark(t, mesh.ControllerName)
			must(t, w.lab.Apply(attack.file, []byte(attack.text)))
			attack.want.File = "user_" + attack.file // what the lab calls it
			w.poll(t, 5*time.Second, func() error { return w.reported(attack.want) })
			w.logged(t, mesh.ControllerName, mark, attack.file, attack.want.Field)
			w.settled(t)
			w.allowed(t, w.client, w.guarded)
			w.denied(t, w.attacker, w.guarded)
			w.allowed(t, w.attacker, w.victim)
		})
		if attack.file == "guard.yaml" {
			must(t, w.lab.Apply(attack.file, []byte(guard)))
		} else {
			must(t, w.lab.Remove(attack.file))
		}
		w.poll(t, 5*time.Second, w.noProblems)
	}
}

// settled waits until the guarded pod's node has all that the manifests said before: it has what they say now, too.
func (w *world) settled(t *testing.T) {
	t.Helper()
	const marker = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: marker, namespace: safe}\n" +
		"spec: {action: DENY, selector: {matchLabels: {app: neighbour}}, rules: [{from: [{source: {namespaces: [nobody]}}]}]}\n"
	seen := func(want bool) func() error {
		return func() error {
			dump, err := w.mesh.Admin(t.Context(), "n2", "/config_dump")
			if err == nil && strings.Contains(dump, `"marker"`) != want {
				err = fmt.Errorf("the ztunnel on n2 does not follow the manifests")
			}
			return err
		}
	}
	must(t, w.lab.Apply("marker.yaml", []byte(marker)))
	w.poll(t, 5*time.Second, seen(true))
	must(t, w.lab.Remove("marker.yaml"))
	w.poll(t, 5*time.Second, seen(false))
}

// bomb is a billion laughs.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return b.String()
}

func (w *world) problems() (all []manifest.Problem, err error) {
	text, err := os.ReadFile(filepath.Join(w.lab.Manifests(), "status", "problems.json"))
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(text, &all)
}

func (w *world) reported(want manifest.Problem) error {
	all, err := w.problems()
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.File == want.File && (want.Line == 0 || p.Line == want.Line) && (want.Field == "" || p.Field == want.Field) &&
			strings.Contains(p.Reason, want.Reason) && p.Reason != "" && len(p.Reason) < 1000 {
			return nil
		}
	}
	return fmt.Errorf("no problem like %+v is reported, but %+v", want, all)
}

func (w *world) noProblems() error {
	all, err := w.problems()
	if err == nil && len(all) > 0 {
		err = fmt.Errorf("after it was mended: %v", all)
	}
	return err
}

// contradictions are policies that are well-formed and make no sense. They never open anything, and their owners are told.
func (w *world) contradictions(t *testing.T) {
	for _, attack := range []struct{ name, spec, says string }{
		{"selector and target", "selector: {matchLabels: {app: guarded}}\n  targetRefs: [{kind: Service, group: '', name: x}]\n  rules: [{}]", ""},
		{"attribute that no node checks", "selector: {matchLabels: {app: guarded}}\n  rules: [{to: [{operation: {methods: [GET]}}]}]", "methods"},
		{"unknown condition", "selector: {matchLabels: {app: guarded}}\n  rules: [{when: [{key: no.such.key, values: [x]}]}]", "no.such.key"},
		{"both a value and its opposite", "selector: {matchLabels: {app: guarded}}\n  rules: [{from: [{source: {principals: ['*'], notPrincipals: ['*']}}]}]", ""},
		{"bad range", "selector: {matchLabels: {app: guarded}}\n  rules: [{from: [{source: {ipBlocks: [10.0.0.0/99]}}]}]", "10.0.0.0/99"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			text := "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: odd, namespace: safe}\nspec:\n  " + attack.spec + "\n"
			must(t, w.lab.Apply("odd.yaml", []byte(text)))
			w.poll(t, 5*time.Second, func() error {
				told, err := os.ReadFile(filepath.Join(w.lab.Manifests(), "status", "conditions", "AuthorizationPolicy_safe_odd.json"))
				if err != nil || attack.says != "" && !strings.Contains(string(told), attack.says) {
					all, _ := w.problems()
					if strings.Contains(fmt.Sprint(all), "odd.yaml") && strings.Contains(fmt.Sprint(all), attack.says) {
						return nil // refused as a whole
					}
					return fmt.Errorf("the owner is told %q (%v), want a word of %q", told, err, attack.says)
				}
				return nil
			})
			w.settled(t)
			w.denied(t, w.attacker, w.guarded)
			w.denied(t, w.stranger, w.guarded)
			w.allowed(t, w.client, w.guarded)
		})
		must(t, w.lab.Remove("odd.yaml"))
		w.poll(t, 5*time.Second, func() error {
			_, err := os.Stat(filepath.Join(w.lab.Manifests(), "status", "conditions", "AuthorizationPolicy_safe_odd.json"))
			if err == nil {
				return fmt.Errorf("the condition of a policy that is gone is still there")
			}
			return nil
		})
	}
}
