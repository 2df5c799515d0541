package hostile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// plugin runs the CNI plugin as a careless or hostile runtime would. Every ADD that is not in order fails with a reason and
// leaves nothing behind.
func (w *world) plugin(t *testing.T) {
	binary, err := w.lab.Bin("ambit-cni")
	must(t, err)
	conf := func(more string) string {
		return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"lab","type":"ambit-cni","socket":%q,"timeoutSeconds":2,%s
			"prevResult":{"cniVersion":"1.0.0","interfaces":[],"ips":[{"address":"10.244.1.99/32"}]}}`, filepath.Join(w.lab.NodeDir("n1"), "cni.sock"), more)
	}
	netnsOf := w.stranger.Netns
	pod := "K8S_POD_NAMESPACE=safe;K8S_POD_NAME=ghost;K8S_POD_UID=11111111-2222-3333-4444-555555555555"
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, []byte("no namespace"), 0o600))
	before := w.agentPods(t)
	for _, attack := range []struct{ name, conf, netns, args, says string }{
		{"no JSON", "{{{", netnsOf, pod, "invalid character"},
		{"unknown key", conf(`"sockett":"x",`), netnsOf, pod, "sockett"},
		{"wrong type", conf(`"excludeNamespaces":"safe",`), netnsOf, pod, "excludeNamespaces"},
		{"endless timeout", strings.Replace(conf(""), `"timeoutSeconds":2`, `"timeoutSeconds":100000`, 1), netnsOf, pod, "timeoutSeconds"},
		{"no previous result", fmt.Sprintf(`{"cniVersion":"1.0.0","name":"lab","type":"ambit-cni","socket":%q}`, "/x"), netnsOf, pod, "prevResult"},
		{"no such namespace", conf(""), "/run/netns/no-such-namespace", pod, "no-such-namespace"},
		{"a file, no namespace", conf(""), plain, pod, "network namespace"},
		{"unknown pod", conf(""), netnsOf, pod, "safe/ghost"},
		{"no pod named", conf(""), netnsOf, "IgnoreUnknown=1", "names no Kubernetes pod"},
		{"broken arguments", conf(""), netnsOf, "K8S_POD_NAMESPACE", "CNI_ARGS"},
		{"a name too long", conf(""), netnsOf, "K8S_POD_NAMESPACE=safe;K8S_POD_NAME=" + strings.Repeat("x", 5000), ""},
		{"no agent", strings.Replace(conf(""), "cni.sock", "nobody.sock", 1), netnsOf, pod, "must not start before"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code, err := w.lab.ExecIO(t.Context(), netlab.Spec{
				Node: "n1", MachineMounts: true, Argv: []string{binary},
				Env: []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=ghost", "CNI_NETNS=" + attack.netns, "CNI_IFNAME=eth0", "CNI_PATH=/nowhere", "CNI_ARGS=" + attack.args},
			}, strings.NewReader(attack.conf), &stdout, &stderr)
			must(t, err)
			var answer struct {
				Code         uint
				Msg, Details string
			}
			if err := json.Unmarshal([]byte(stdout.String()), &answer); err != nil {
				t.Errorf("the plugin answers %q, %q: %v", stdout.String(), stderr.String(), err)
			}
			if said := answer.Msg + answer.Details; code == 0 || said == "" || !strings.Contains(said, attack.says) {
				t.Errorf("exit status %d, %q, want a failure that says %q", code, said, attack.says)
			}
		})
	}
	w.poll(t, 5*time.Second, func() error {
		if after := w.agentPods(t); after != before {
			return fmt.Errorf("the agent knew %q, and now %q", before, after)
		}
		return nil
	})
	// Nothing listens in the namespace that was named.
	must(t, within(w.stranger, func() error { return squat(w.stranger.IP4(), 15008, unix.SOCK_STREAM) }))
}

// agentPods is what the agent of n1 enrols, in words.
func (w *world) agentPods(t *testing.T) string {
	t.Helper()
	s, err := w.mesh.AgentStatus(t.Context(), "n1")
	must(t, err)
	var all []string
	for _, p := range s.Pods {
		all = append(all, fmt.Sprintf("%s/%s %s %t", p.Namespace, p.Name, p.Verdict, p.Enrolled))
	}
	return strings.Join(all, ", ")
}
