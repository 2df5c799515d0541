package translate

import (
	"fmt"
	"testing"
)

// TestInstanceOfWaypointCostsItsOwnWork: what happens to a waypoint's pods is nothing to the workloads behind it, unless the
// accounts change by which they know it.
func TestInstanceOfWaypointCostsItsOwnWork(t *testing.T) {
	const world = `
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w, namespace: shop}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: m, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: IPAddress, value: 10.96.9.1}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop, labels: {istio.io/use-waypoint: w}}, spec: {selector: {app: a}, clusterIP: 10.96.0.1, ports: [{port: 80}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: l7, namespace: shop}, spec: {targetRefs: [{kind: Service, group: "", name: s}], rules: [{}]}}
`
	instance := func(name, account, ip string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: w}}, spec: {serviceAccountName: %s}, status: {podIP: %s}}", name, account, ip)
	}
	tr := New(Settings{})
	tr.Apply(parse(t, "world", []byte(world)))
	tr.Apply(parse(t, "first", []byte(instance("w-1", "w", "10.0.1.1"))))
	const pods = 50
	for i := range pods {
		tr.Apply(parse(t, "pod", fmt.Appendf(nil, "{apiVersion: v1, kind: Pod, metadata: {name: p%d, namespace: shop, labels: {app: a}}, status: {podIP: 10.0.0.%d}}", i, i)))
	}
	for _, c := range []struct {
		what string
		doc  string
		want int
	}{
		{"another address", instance("w-1", "w", "10.0.1.2"), 1},
		{"a second instance", instance("w-2", "w", "10.0.1.3"), 1},
		{"a second account", instance("w-3", "other", "10.0.1.4"), 1 + pods},
	} {
		if d := tr.Apply(parse(t, c.what, []byte(c.doc))); len(d.Addresses) != c.want {
			t.Errorf("%s: %d workloads made anew, want %d", c.what, len(d.Addresses), c.want)
		}
	}
	if n := len(tr.shared); n != 1 {
		t.Errorf("%d policies for one guard", n)
	}
}
