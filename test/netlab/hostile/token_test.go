package hostile

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// tokens calls the controller from a pod outside the mesh: with no token or a bad one, and with a good one of a node that asks
// for what is not the node's. Each is refused with the reason, for configuration and for certificates, logged and counted.
func (w *world) tokens(t *testing.T) {
	key, err := auth.LoadKey(w.meshFile("token.key"))
	must(t, err)
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	pod, err := w.lab.Pod(mesh.ZtunnelPod("n1"))
	must(t, err)
	node := auth.Caller{Namespace: mesh.Namespace, ServiceAccount: "ambit-ztunnel", Node: "n1", Pod: pod.Name, PodUID: pod.UID}
	mint := func(key crypto.Signer, c auth.Caller, now time.Time) string {
		token, err := auth.Mint(key, c, time.Hour, now)
		must(t, err)
		return token
	}
	app := auth.Caller{Namespace: inside, ServiceAccount: "attacker", Node: "n1", Pod: "attacker"}
	podless, before, elsewhere := node, node, node
	podless.Pod, podless.PodUID = "", ""
	before.PodUID = "that of a pod before"
	elsewhere.Node = "n2"
	const theirs = "spiffe://cluster.local/ns/safe/sa/client" // runs on n1
	for _, attack := range []struct {
		name, token, id string
		xds, ca         string // metric labels of the refusals; "" is no refusal
		says            string
	}{
		{"no token", "", theirs, "unauthenticated", "unauthenticated", "no bearer token"},
		{"nonsense", "nonsense", theirs, "unauthenticated", "unauthenticated", "not a signed JWT"},
		{"enormous", strings.Repeat("x", 32<<10), theirs, "unauthenticated", "unauthenticated", ""},
		{"expired", mint(key, node, time.Now().Add(-2*time.Hour)), theirs, "unauthenticated", "unauthenticated", "expired"},
		{"foreign", mint(foreign, node, time.Now()), theirs, "unauthenticated", "unauthenticated", "known key"},
		{"an application's", mint(key, app, time.Now()), theirs, "not_admitted", "not_a_node_account", "may "},
		{"without a pod", mint(key, podless, time.Now()), theirs, "", "no_pod", "bound to a pod"},
		{"replayed after its pod", mint(key, before, time.Now()), theirs, "", "caller_gone", "does not run"},
		{"naming another node", mint(key, elsewhere, time.Now()), theirs, "", "caller_elsewhere", "runs on n1"},
		{"another node's identity", mint(key, node, time.Now()), "spiffe://cluster.local/ns/safe/sa/victim", "", "not_on_node", "runs on node n1"},
		{"nobody's identity", mint(key, node, time.Now()), "spiffe://cluster.local/ns/safe/sa/nobody", "", "not_on_node", "runs on node n1"},
		{"another trust domain", mint(key, node, time.Now()), "spiffe://elsewhere/ns/safe/sa/client", "", "trust_domain", "trust domain"},
		{"no identity", mint(key, node, time.Now()), "spiffe://cluster.local/ns/../sa/client", "", "malformed_identity", ""},
	} {
		t.Run(attack.name, func(t *testing.T) {
			file := ""
			if attack.token != "" {
				file = filepath.Join(t.TempDir(), "token")
				must(t, os.WriteFile(file, []byte(attack.token), 0o600))
			}
			mark := w.mark(t, mesh.ControllerName)
			before := w.refusals(t)
			conn := w.control(t, file)
			_, err := ask(t.Context(), conn, attack.id)
			refused(t, "certificate", err, attack.says)
			if attack.says != "" {
				w.logged(t, mesh.ControllerName, mark, "certificate refused", attack.says)
			}
			if attack.xds != "" {
				err = subscribe(t.Context(), discovery.NewAggregatedDiscoveryServiceClient(conn), mesh.Namespace, "n1")
				refused(t, "configuration", err, attack.says)
			}
			after := w.refusals(t)
			for name, reason := range map[string]string{"ambit_controller_certificates_refused_total": attack.ca, "ambit_controller_xds_refused_total": attack.xds} {
				line := name + `{reason="` + reason + `"}`
				if reason != "" && after[line] == before[line] {
					t.Errorf("%s stays at %q", line, after[line])
				}
			}
		})
	}
	for name, where := range map[string][2]string{"another node": {mesh.Namespace, "n2"}, "another namespace": {"kube-system", "n1"}} {
		t.Run("configuration for "+name, func(t *testing.T) {
			err := subscribe(t.Context(), discovery.NewAggregatedDiscoveryServiceClient(w.control(t, w.token("n1"))), where[0], where[1])
			refused(t, "configuration", err, "token")
		})
	}
}

// refused wants an answer that says who may not do what, not a timeout.
func refused(t *testing.T, what string, err error, says string) {
	t.Helper()
	switch code := status.Code(err); {
	case err == nil:
		t.Errorf("%s: given", what)
	case code != codes.Unauthenticated && code != codes.PermissionDenied && code != codes.InvalidArgument:
		t.Errorf("%s: %v", what, err)
	case !strings.Contains(err.Error(), says):
		t.Errorf("%s: refused with %q, which does not say %q", what, err, says)
	}
}

// subscribe asks for all workloads as a node's ztunnel; nil is a first answer.
func subscribe(ctx context.Context, c discovery.AggregatedDiscoveryServiceClient, namespace, node string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var who *core.Node
	who, err := client.Node(client.NodeConfig{Pod: "ztunnel-x", Namespace: namespace, Node: node})
	if err != nil {
		return err
	}
	stream, err := c.DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	_ = stream.Send(&discovery.DeltaDiscoveryRequest{Node: who, TypeUrl: "type.googleapis.com/istio.workload.Address"}) // Recv says why
	_, err = stream.Recv()
	return err
}

// refusals are the controller's counters, by their line in the exposition.
func (w *world) refusals(t *testing.T) map[string]string {
	t.Helper()
	pod, err := w.lab.Pod(mesh.ControllerPod)
	must(t, err)
	return scrape(t, w, "http://"+at(pod, 15014)+"/metrics", "")
}
