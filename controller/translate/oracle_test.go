package translate

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// TestIncrementalEqualsRebuild churns a small world at random. After each step the resources must be those of a translator
// that sees the same objects for the first time, and the deltas must add up to them.
func TestIncrementalEqualsRebuild(t *testing.T) {
	const seeds, steps = 12, 150
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
	wp := pick("", "", ", istio.io/use-waypoint: x", ", istio.io/use-waypoint: none", ", istio.io/use-waypoint: y, istio.io/use-waypoint-namespace: a") +
		pick("", "", ", istio.io/use-waypoint-canary: z", ", istio.io/use-waypoint-canary: x, istio.io/use-waypoint-canary-namespace: a")
	labelled := ", labels: " + strings.TrimSuffix(labels, "}") + wp
	withLabels := meta + labelled + "}"
	weight := pick("", ", annotations: {istio.io/use-waypoint-canary-weight: \"10\"}", ", annotations: {istio.io/use-waypoint-canary-weight: \"x\"}",
		", annotations: {ambit.io/admit-past-waypoint: \"true\"}", ", annotations: {ambit.io/bypass-missing-waypoint: \"true\"}")
	host := pick("h1.example", "h2.example", "x.a.svc.cluster.local", "x.b.svc.cluster.local", "*.wild.example")
	mode := pick("STRICT", "PERMISSIVE", "DISABLE", "UNSET")
	const mesh, net, gwapi = "security.istio.io/v1", "networking.istio.io/v1", "gateway.networking.k8s.io/v1"
	switch rng.IntN(22) {
	case 0:
		return fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {team: t%s, seen: \"%s\"%s}%s}}", ns, wp, pick("yes", "no"),
			pick("", ", topology.istio.io/network: net2"), pick(weight, ", annotations: {networking.istio.io/traffic-distribution: PreferClose}"))
	case 1:
		return fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: %s}}}", pick("z1", "z2"))
	case 2, 3, 4:
		instance := pick("", "", ", gateway.networking.k8s.io/gateway-name: x", ", gateway.networking.k8s.io/gateway-name: y")
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, %s%s%s}, annotations: {ambient.istio.io/redirection: %s}}, spec: {serviceAccountName: %s, nodeName: %s, containers: [{name: c, ports: [{name: web, containerPort: %s}]}]}, status: {phase: %s, podIP: 10.0.0.%d}}",
			meta, labelled, instance, pick("enabled", "pending"), pick("sa1", "sa2"), pick("n1", "n2"), pick("80", "81"), pick("Running", "Running", "Failed"), rng.IntN(4))
	case 5, 6:
		return fmt.Sprintf("{apiVersion: v1, kind: Service, %s%s}%s}, spec: {selector: %s, type: %s, clusterIP: %s, ports: [{name: http, port: %s, targetPort: %s}]}}",
			meta, labelled, weight, pick(selector, selector, "{}"), pick("ClusterIP", "ClusterIP", "ClusterIP", "ExternalName"),
			pick("None", "10.96.0.1", "10.96.0.2"), pick("80", "90"), pick("web", "8080"))
	case 7:
		return fmt.Sprintf("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, %s, labels: {kubernetes.io/service-name: %s}}, addressType: IPv4, ports: [{name: http, port: 9}], endpoints: [{addresses: [10.0.0.9], targetRef: {kind: Pod, name: %s}}, {addresses: [192.0.2.%d]}]}",
			meta, pick("x", "y"), pick("x", "y", "z"), rng.IntN(3))
	case 8, 9:
		body := pick("endpoints: [{address: 192.0.2.9, network: "+pick("net1", "net2")+", labels: {t: u"+wp+"}}]", "workloadSelector: {labels: "+selector+"}", "addresses: [198.51.100.1]")
		status := pick("", "", ", status: {addresses: [{host: h1.example, value: 240.240.80.157}]}")
		return fmt.Sprintf("{apiVersion: %s, kind: ServiceEntry, %s%s}%s}, spec: {hosts: [%s, %s], resolution: %s, ports: [{number: 80, name: http}], %s}%s}",
			net, meta, labelled, weight, strconv.Quote(host), pick("h3.example", "h4.example"), pick("STATIC", "DNS", "NONE", "DYNAMIC_DNS"), body, status)
	case 10:
		return fmt.Sprintf("{apiVersion: %s, kind: WorkloadEntry, %s}, spec: {address: 192.0.2.20, network: %s, labels: %s}}", net, withLabels, pick("\"\"", "net1", "net2"), labels)
	case 11, 12:
		sel := pick("", "selector: {matchLabels: "+selector+"}, portLevelMtls: {80: {mode: "+pick("STRICT", "DISABLE")+"}}, ")
		return fmt.Sprintf("{apiVersion: %s, kind: PeerAuthentication, %s}, spec: {%smtls: {mode: %s}}}", mesh, meta, sel, mode)
	case 13, 14, 15:
		sel := pick("", "selector: {matchLabels: "+selector+"}, ", "targetRefs: [{kind: Service, group: \"\", name: x}], ",
			"targetRefs: [{kind: GatewayClass, group: gateway.networking.k8s.io, name: "+pick("istio-waypoint", "custom")+"}], ",
			"targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: x}, {kind: ServiceEntry, group: networking.istio.io, name: y}], ")
		return fmt.Sprintf("{apiVersion: %s, kind: AuthorizationPolicy, %s, annotations: {istio.io/dry-run: \"%s\"}}, spec: {%saction: %s, rules: [{from: [{source: {principals: [old/ns/a/sa/x]}}], to: [{operation: {%s}}]}]}}",
			mesh, meta, pick("true", "false", "false"), sel, pick("ALLOW", "DENY", "AUDIT"), pick("ports: [\"80\"]", "methods: [GET]"))
	case 16:
		return fmt.Sprintf("{apiVersion: %s, kind: GatewayClass, metadata: {name: %s, labels: {istio.io/waypoint-for: %s}, annotations: {ambient.istio.io/waypoint-inbound-binding: %s}}, spec: {controllerName: %s}}",
			gwapi, pick("istio-waypoint", "custom"), pick("service", "all"), pick("PROXY/15088", "NONE"), pick("istio.io/mesh-controller", "istio.io/mesh-controller", "istio.io/gateway-controller", "else.example/where"))
	case 17:
		return fmt.Sprintf("{apiVersion: %s, kind: %s, %s}, spec: {parentRefs: [{name: %s}, {name: %s, namespace: %s, group: \"\", kind: Service}]}}",
			gwapi, pick("HTTPRoute", "GRPCRoute"), meta, pick("x", "y"), pick("x", "y"), pick("a", "b"))
	case 18:
		return fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: %s}, data: {mesh: %s}}", pick("istio-system", "istio-system", "istio-system", "a"),
			pick(`""`, `"{rootNamespace: a}"`, `"{discoverySelectors: [{matchLabels: {seen: 'yes'}}]}"`,
				`"{trustDomainAliases: [old], discoverySelectors: [{matchExpressions: [{key: seen, operator: Exists}]}]}"`,
				`"{serviceEntryVisibility: {defaultVisibility: NAMESPACE}}"`,
				`"{serviceEntryVisibility: {policies: [{visibility: NONE, matchingRules: [{namespaceSelector: {matchLabels: {seen: 'no'}}}]}]}, trustDomain: other, enableTracing: true}"`))
	default:
		status := pick("{}", "{addresses: [{type: IPAddress, value: 10.96.9.9}]}", "{addresses: [{type: Hostname, value: x.a.svc.cluster.local}]}")
		from := pick("{from: All}", "{from: Same}", "{from: Selector, selector: {matchLabels: {seen: \"yes\"}}}")
		return fmt.Sprintf("{apiVersion: %s, kind: Gateway, %s, labels: {topology.istio.io/network: %s%s}%s}, spec: {gatewayClassName: %s, listeners: [{name: m, port: 15008, protocol: %s, allowedRoutes: {namespaces: %s}}, {name: p, port: 15088, protocol: istio.io/PROXY, allowedRoutes: {namespaces: %s}}]}, status: %s}",
			gwapi, meta, pick("net1", "net2"), pick("", ", istio.io/waypoint-for: "+pick("service", "workload", "all")), pick("", ", annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY}"),
			pick("istio-waypoint", "istio-waypoint", "custom", "istio-remote", "istio"), pick("HBONE", "HBONE", "HTTP"), from, from, status)
	}
}
