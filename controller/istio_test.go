package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ambit-mesh/ambit/controller/auth"
	"github.com/ambit-mesh/ambit/test/ztunnelclient"
)

// istioWorld has something in every field an Istio ztunnel reads and this controller writes.
const istioWorld = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: wp}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: ztunnel-abc, namespace: istio-system, uid: uid-abc}, spec: {nodeName: n1, serviceAccountName: ztunnel}, status: {phase: Running, podIP: 10.1.1.1}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: eu-1, topology.istio.io/subzone: rack-7}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: Hostname, value: wp.shop.svc.cluster.local}, {type: IPAddress, value: 10.96.9.9}]}
---
apiVersion: v1
kind: Pod
metadata:
  {name: web, namespace: shop, labels: {app: web, version: v2, app.kubernetes.io/name: storefront}, annotations: {ambient.istio.io/redirection: enabled},
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-7d9c, uid: "1", controller: true}]}
spec: {nodeName: n1, serviceAccountName: web, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop, labels: {app: web}}
spec: {nodeName: n2, hostNetwork: true}
status: {phase: Running, podIP: 192.168.0.2, conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  {selector: {app: web}, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], trafficDistribution: PreferClose, publishNotReadyAddresses: true,
  ports: [{name: http, port: 80, targetPort: http}, {name: grpc, port: 90, targetPort: 9090, appProtocol: grpc}]}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: shop}, spec: {mtls: {mode: STRICT}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - from: [{source: {namespaces: [legacy, "old-*"], notPrincipals: ["cluster.local/ns/shop/sa/admin"], ipBlocks: [10.9.0.0/16]}}]
    to: [{operation: {ports: ["8080"]}}]
`

// istio is an Istio ztunnel on node n1, as its chart deploys it.
func istio(t *testing.T, r *running, change func(*ztunnelclient.Config)) *ztunnelclient.Client {
	t.Helper()
	cfg := ztunnelclient.Config{
		Target: r.grpc, Roots: r.roots, ServerName: "istiod.istio-system.svc", ClusterID: "Kubernetes",
		Token:      r.key.mint(auth.Caller{Namespace: "istio-system", ServiceAccount: "ztunnel", Node: "n1", Pod: "ztunnel-abc", PodUID: "uid-abc"}) + "\n",
		InstanceIP: "10.1.1.1", Pod: "ztunnel-abc", Namespace: "istio-system", NodeName: "n1",
		Metadata: map[string]string{"ISTIO_VERSION": "1.30.0", "DNS_CAPTURE": "true"},
	}
	if change != nil {
		change(&cfg)
	}
	c := ztunnelclient.New(cfg)
	t.Cleanup(c.Disconnect)
	return c
}

// converge connects if need be and takes responses until ok; it returns them.
func converge(t *testing.T, c *ztunnelclient.Client, connect bool, ok func() bool) (events []ztunnelclient.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	if connect {
		if err := c.Connect(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for !ok() {
		ev, err := c.Step()
		if err != nil {
			t.Fatalf("%v, after %v", err, events)
		}
		events = append(events, ev)
	}
	return events
}

func TestIstioZtunnel(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	base := t.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "manifests", "world.yaml"), []byte(istioWorld), 0o644); err != nil {
		t.Fatal(err)
	}
	r := start(t, base)
	c := istio(t, r, nil)
	ready := func() bool { return c.Acked[ztunnelclient.AddressType] && c.Acked[ztunnelclient.AuthorizationType] }
	events := converge(t, c, true, ready)

	// Ready means complete: the first response of each type holds all there is, policies first, and nothing was rejected.
	if len(events) != 2 || events[0].Type != ztunnelclient.AuthorizationType || len(events[0].Rejected)+len(events[1].Rejected) != 0 {
		t.Fatalf("first responses: %+v", events)
	}
	for name := range c.Unknown {
		if name != "Authorization.6" && name != "Workload.14" { // newer than the oldest ztunnel, and harmless
			t.Errorf("a ztunnel does not know field %s", name)
		}
	}
	web := c.Workloads[webUID]
	if web == nil {
		t.Fatalf("no web pod among %v", c.Held(ztunnelclient.AddressType))
	}
	want := &ztunnelclient.Workload{
		UID: webUID, Name: "web", Namespace: "shop", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		ClusterID: "Kubernetes", Node: "n1", TunnelProtocol: "HBONE", TrustDomain: "cluster.local", ServiceAccount: "web",
		CanonicalName: "storefront", CanonicalRevision: "v2", WorkloadType: "POD", WorkloadName: web.WorkloadName, Healthy: true, Capacity: 1,
		ApplicationTunnel: "NONE", Region: "eu", Zone: "eu-1", Subzone: "rack-7",
		AuthorizationPolicies: []string{"istio-system/istio_converted_static_strict", "shop/web"},
		Services: map[string][]ztunnelclient.Port{"shop/web.shop.svc.cluster.local": {
			{Port: 80, TargetPort: 8080, AppProtocol: "UNKNOWN"}, {Port: 90, TargetPort: 9090, AppProtocol: "UNKNOWN"},
		}},
	}
	slices.Sort(web.AuthorizationPolicies)
	if !reflect.DeepEqual(web, want) {
		t.Errorf("workload\n got %s\nwant %s", show(web), show(want))
	}
	if web.WorkloadName == "" || web.Identity() != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Errorf("workload name %q, identity %s", web.WorkloadName, web.Identity())
	}
	agent := c.Workloads["Kubernetes//Pod/shop/agent"]
	if agent == nil || !agent.HostNetwork || agent.Healthy || agent.TunnelProtocol != "NONE" || agent.ServiceAccount != "default" {
		t.Errorf("host network pod: %s", show(agent))
	}
	svc := c.Services["shop/web.shop.svc.cluster.local"]
	if svc == nil {
		t.Fatal("no service")
	}
	if len(svc.Addresses) != 1 || svc.Addresses[0].Prefix != netip.MustParsePrefix("10.96.0.1/32") || svc.HealthPolicy != "ALLOW_ALL" ||
		svc.LBMode != "FAILOVER" || !slices.Equal(svc.RoutingPreference, []string{"NETWORK", "REGION", "ZONE"}) && !slices.Equal(svc.RoutingPreference, []string{"NETWORK", "REGION", "ZONE", "SUBZONE"}) {
		t.Errorf("service: %s", show(svc))
	}
	if svc.Waypoint == nil || svc.Waypoint.HBONEPort != 15008 || svc.Waypoint.Hostname != "wp.shop.svc.cluster.local" && svc.Waypoint.Address == nil {
		t.Errorf("waypoint: %s", show(svc.Waypoint))
	}
	if len(svc.Ports) != 2 || svc.Ports[0].Port != 80 || svc.Ports[1].AppProtocol != "GRPC" {
		t.Errorf("ports: %s", show(svc.Ports))
	}
	pol := c.Policies["shop/web"]
	wantPol := &ztunnelclient.Policy{
		Name: "web", Namespace: "shop", Scope: "WORKLOAD_SELECTOR", Action: "DENY",
		Rules: [][][]ztunnelclient.Match{{
			{{
				Namespaces: []string{"legacy", "old-*"}, NotPrincipals: []string{"cluster.local/ns/shop/sa/admin"},
				SourceIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
			}},
			{{DestinationPorts: []uint16{8080}}},
		}},
	}
	if !reflect.DeepEqual(pol, wantPol) {
		t.Errorf("policy\n got %s\nwant %s", show(pol), show(wantPol))
	}
	if strict := c.Policies["istio-system/istio_converted_static_strict"]; strict == nil || strict.Action != "DENY" || !slices.Equal(strict.Rules[0][0][0].NotPrincipals, []string{"*"}) {
		t.Errorf("strict: %s", show(strict))
	}

	// A certificate for a workload of its node, and none for another's.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cert, err := c.Certify(ctx, web.Identity(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(cert.Leaf.NotAfter); left > time.Hour || left < 50*time.Minute {
		t.Errorf("valid for %s", left)
	}
	if _, err := c.Certify(ctx, "spiffe://cluster.local/ns/shop/sa/default", time.Hour); err == nil {
		t.Error("got the certificate of another node's workload")
	}

	// What it does not understand it rejects, and keeps the rest; operators see which and why.
	fussy := istio(t, r, func(cfg *ztunnelclient.Config) {
		cfg.Pod = "ztunnel-fussy"
		cfg.Refuse = func(_, name string) error {
			if name == webUID {
				return errors.New("unknown enum value 9")
			}
			return nil
		}
	})
	converge(t, fussy, true, func() bool { return len(fussy.Services) > 0 && len(fussy.Policies) == 2 })
	if rejected := waitRejected(t, r, "ztunnel-fussy"); rejected[webUID] != "unknown enum value 9" {
		t.Errorf("syncz says %v", rejected)
	}
	fussy.Disconnect()

	// The controller restarts: the stream ends, and a client that is up to date is sent nothing.
	heldA, heldP := c.Held(ztunnelclient.AddressType), c.Held(ztunnelclient.AuthorizationType)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Step(); err == nil {
		t.Error("the stream outlived the controller")
	}
	r2 := start(t, base)
	c.Point(r2.grpc)
	n := 0
	for _, ev := range converge(t, c, true, func() bool { n++; return n > 2 }) {
		if len(ev.Set)+len(ev.Removed) > 0 {
			t.Errorf("resent after a restart: %+v", ev)
		}
	}
	if !slices.Equal(heldA, c.Held(ztunnelclient.AddressType)) || !slices.Equal(heldP, c.Held(ztunnelclient.AuthorizationType)) {
		t.Error("the restart changed what is held")
	}
	r2.write(t, "world.yaml", strings.Replace(istioWorld, "version: v2", "version: v3", 1))
	events = converge(t, c, false, func() bool { return c.Workloads[webUID].CanonicalRevision == "v3" })
	if last := events[len(events)-1]; !slices.Equal(last.Set, []string{webUID}) {
		t.Errorf("one pod's change brought %v", last.Set)
	}
}

// TestIstioOnDemand: a ztunnel that asks by name gets its own node's workloads at once, and every demand is answered, also one
// by address: ztunnels wait for the very name they asked for.
func TestIstioOnDemand(t *testing.T) {
	r := start(t, t.TempDir())
	r.write(t, "world.yaml", istioWorld)
	c := istio(t, r, func(cfg *ztunnelclient.Config) { cfg.OnDemand = true })
	converge(t, c, true, func() bool { return c.Workloads[webUID] != nil && len(c.Policies) == 2 })
	if len(c.Services) != 0 || c.Workloads["Kubernetes//Pod/shop/agent"] != nil {
		t.Errorf("got what was not asked for: %v", c.Held(ztunnelclient.AddressType))
	}
	for _, name := range []string{"/10.96.0.1", "/192.168.0.2", "/10.99.99.99", "shop/none.shop.svc.cluster.local"} {
		if err := c.Demand(name); err != nil {
			t.Fatal(err)
		}
		converge(t, c, false, func() bool { return !c.Waiting[name] })
	}
	if c.Services["shop/web.shop.svc.cluster.local"] == nil || c.Workloads["Kubernetes//Pod/shop/agent"] == nil {
		t.Errorf("released without what was asked for: %v", c.Held(ztunnelclient.AddressType))
	}
	// Reconnecting brings nothing that is held, and answers what is still waited for.
	c.Disconnect()
	c.Waiting["/10.0.0.1"] = true
	events := converge(t, c, true, func() bool { return len(c.Waiting) == 0 })
	for _, ev := range events {
		if len(ev.Set) > 0 {
			t.Errorf("resent: %+v", ev)
		}
	}
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return string(b)
}

// waitRejected polls /debug/syncz for what a pod's ztunnel rejected of the addresses.
func waitRejected(t *testing.T, r *running, pod string) map[string]string {
	t.Helper()
	type sync struct {
		LastError string
		Rejected  map[string]string
	}
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); {
		var clients []struct {
			Proxy     string
			Resources map[string]sync
		}
		get(t, "http://"+r.debug+"/debug/syncz", &clients)
		for _, cl := range clients {
			if s := cl.Resources[ztunnelclient.AddressType]; strings.Contains(cl.Proxy, pod) && s.LastError != "" {
				return s.Rejected
			}
		}
	}
	t.Fatal("no rejection in syncz")
	return nil
}
