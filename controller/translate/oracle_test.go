package translate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// TestIncrementalEqualsRebuild churns a small world at random. After each step the resources must be those of a translator
// that sees the same objects for the first time, and the deltas must add up to them.
func TestIncrementalEqualsRebuild(t *testing.T) {
	seeds, steps := 8, 120
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 7))
		inc := New(Settings{PublishDryRun: true})
		world := map[objects.Key]objects.Object{}
		sum := newResources()
		for step := range steps {
			var text []string
			for range 1 + rng.IntN(4) {
				text = append(text, randomObject(rng))
			}
			var changes []objects.Change
			seen := map[objects.Key]bool{}
			for _, doc := range text {
				for _, c := range parse(t, fmt.Sprintf("seed %d step %d", seed, step), []byte(doc)) {
					if seen[c.Key] {
						continue
					}
					seen[c.Key] = true
					if rng.IntN(4) == 0 {
						c.Object = nil
						delete(world, c.Key)
					} else {
						world[c.Key] = c.Object
					}
					changes = append(changes, c)
				}
			}
			accumulate(sum, inc.Apply(changes))
			if step%15 != 0 && step != steps-1 {
				continue
			}
			var all []objects.Change
			for k, o := range world {
				all = append(all, objects.Change{Key: k, Object: o})
			}
			full := New(Settings{PublishDryRun: true})
			full.Apply(all)
			want := string(render(t, full.Resources()))
			if diff := cmp.Diff(want, string(render(t, inc.Resources()))); diff != "" {
				t.Fatalf("seed %d step %d after\n%s\n(-rebuild +incremental):\n%s", seed, step, strings.Join(text, "\n"), diff)
			}
			if diff := cmp.Diff(want, string(render(t, sum))); diff != "" {
				t.Fatalf("seed %d step %d: deltas do not add up:\n%s", seed, step, diff)
			}
		}
	}
}

func accumulate(sum, delta Resources) {
	for k, v := range delta.Addresses {
		store(sum.Addresses, k, v, v == nil)
	}
	for k, v := range delta.Policies {
		store(sum.Policies, k, v, v == nil)
	}
	for k, v := range delta.Statuses {
		store(sum.Statuses, k, v, v.Empty())
	}
}

// randomObject draws from few names and values, so that objects meet.
func randomObject(rng *rand.Rand) string {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	ns, name := pick("a", "b", "istio-system"), pick("x", "y", "z")
	labels := fmt.Sprintf("{app: %s, tier: %s}", pick("p", "q"), pick("r", "s"))
	selector := pick("{app: p}", "{app: q}", "{app: p, tier: r}", "{tier: s}")
	age := fmt.Sprintf("creationTimestamp: \"2024-01-0%dT00:00:00Z\"", 1+rng.IntN(3))
	meta := fmt.Sprintf("metadata: {name: %s, namespace: %s, %s", name, ns, age)
	wp := pick("", ", istio.io/use-waypoint: x", ", istio.io/use-waypoint: none", ", istio.io/use-waypoint: y, istio.io/use-waypoint-namespace: a")
	withLabels := meta + ", labels: " + strings.TrimSuffix(labels, "}") + wp + "}"
	host := pick("h1.example", "h2.example", "x.a.svc.cluster.local", "x.b.svc.cluster.local")
	mode := pick("STRICT", "PERMISSIVE", "DISABLE", "UNSET")
	mesh := "security.istio.io/v1"
	net := "networking.istio.io/v1"
	switch rng.IntN(16) {
	case 0:
		return fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {team: t%s}, annotations: {networking.istio.io/traffic-distribution: %s}}}", ns, wp, pick("PreferClose", "Other"))
	case 1:
		return fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: %s}}}", pick("z1", "z2"))
	case 2, 3, 4:
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, %s, annotations: {ambient.istio.io/redirection: %s}}, spec: {nodeName: %s, containers: [{name: c, ports: [{name: web, containerPort: %s}]}]}, status: {phase: %s, podIP: 10.0.0.%d}}",
			withLabels, pick("enabled", "pending"), pick("n1", "n2"), pick("80", "81"), pick("Running", "Running", "Failed"), rng.IntN(4))
	case 5, 6:
		return fmt.Sprintf("{apiVersion: v1, kind: Service, %s}, spec: {selector: %s, type: %s, clusterIP: 10.96.0.%d, ports: [{name: http, port: %s, targetPort: %s}]}}",
			withLabels, pick(selector, selector, "{}"), pick("ClusterIP", "ClusterIP", "ClusterIP", "ExternalName"), rng.IntN(4), pick("80", "90"), pick("web", "8080"))
	case 7:
		return fmt.Sprintf("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, %s, labels: {kubernetes.io/service-name: %s}}, addressType: IPv4, ports: [{name: http, port: 9}], endpoints: [{addresses: [10.0.0.9], targetRef: {kind: Pod, name: %s}}, {addresses: [192.0.2.%d]}]}",
			meta, pick("x", "y"), pick("x", "y", "z"), rng.IntN(3))
	case 8, 9:
		body := pick("endpoints: [{address: 192.0.2.9}]", "workloadSelector: {labels: "+selector+"}", "addresses: [198.51.100.1]")
		return fmt.Sprintf("{apiVersion: %s, kind: ServiceEntry, %s}, spec: {hosts: [%s, %s], resolution: %s, ports: [{number: 80, name: http}], %s}}",
			net, withLabels, host, pick("h3.example", "h4.example"), pick("STATIC", "DNS", "NONE"), body)
	case 10:
		return fmt.Sprintf("{apiVersion: %s, kind: WorkloadEntry, %s}, spec: {address: 192.0.2.20, labels: %s}}", net, withLabels, labels)
	case 11, 12:
		sel := pick("", "selector: {matchLabels: "+selector+"}, portLevelMtls: {80: {mode: "+pick("STRICT", "DISABLE")+"}}, ")
		return fmt.Sprintf("{apiVersion: %s, kind: PeerAuthentication, %s}, spec: {%smtls: {mode: %s}}}", mesh, meta, sel, mode)
	case 13, 14:
		sel := pick("", "selector: {matchLabels: "+selector+"}, ", "targetRefs: [{kind: Service, group: \"\", name: x}], ", "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: x}, {kind: Service, group: \"\", name: y}], ")
		return fmt.Sprintf("{apiVersion: %s, kind: AuthorizationPolicy, %s, annotations: {istio.io/dry-run: \"%s\"}}, spec: {%saction: %s, rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {%s}}]}]}}",
			mesh, meta, pick("true", "false"), sel, pick("ALLOW", "DENY", "AUDIT"), pick("ports: [\"80\"]", "methods: [GET]"))
	default:
		status := pick("{}", "{addresses: [{type: IPAddress, value: 10.96.9.9}]}")
		return fmt.Sprintf("{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, %s, labels: {istio.io/waypoint-for: %s}}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: m, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: %s}}}]}, status: %s}",
			meta, pick("service", "workload", "all"), pick("All", "Same"), status)
	}
}
