package xds

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/client"
	"github.com/ambit-mesh/ambit/ztunnel/policy"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fullWorkload() *workload.Workload {
	return &workload.Workload{
		Uid: "Kubernetes//Pod/shop/cart", Name: "cart", Namespace: "shop",
		Addresses: [][]byte{{10, 0, 0, 2}, netip.MustParseAddr("2001:db8::2").AsSlice(), netip.MustParseAddr("::ffff:10.0.0.2").AsSlice()},
		Network:   "net", TunnelProtocol: workload.TunnelProtocol_HBONE, TrustDomain: "td", ServiceAccount: "cart",
		Waypoint: &workload.GatewayAddress{
			Destination:   &workload.GatewayAddress_Hostname{Hostname: &workload.NamespacedHostname{Namespace: "shop", Hostname: "wp.local"}},
			HboneMtlsPort: 15008,
		},
		NetworkGateway: &workload.GatewayAddress{
			Destination:   &workload.GatewayAddress_Address{Address: &workload.NetworkAddress{Network: "net", Address: []byte{10, 0, 0, 9}}},
			HboneMtlsPort: 15018,
		},
		Node: "n1", CanonicalName: "cart", CanonicalRevision: "v1", WorkloadType: workload.WorkloadType_POD, WorkloadName: "cart-x",
		NativeTunnel: true, AuthorizationPolicies: []string{"shop/b", "shop/a", "shop/b"}, Status: workload.WorkloadStatus_UNHEALTHY,
		ClusterId: "c1", Hostname: "cart.vm",
		Services: map[string]*workload.PortList{
			"shop/z.local": {Ports: []*workload.Port{{ServicePort: 80, TargetPort: 8080}}},
			"shop/a.local": {},
		},
		ApplicationTunnel: &workload.ApplicationTunnel{Protocol: workload.ApplicationTunnel_PROXY, Port: 9000},
		Locality:          &workload.Locality{Region: "r", Zone: "z", Subzone: "s"}, NetworkMode: workload.NetworkMode_HOST_NETWORK,
		Capacity: wrapperspb.UInt32(7),
	}
}

func address(w *workload.Workload) *workload.Address {
	return &workload.Address{Type: &workload.Address_Workload{Workload: w}}
}

func TestWorkload(t *testing.T) {
	w, _, err := decodeAddress("Kubernetes//Pod/shop/cart", encode(t, address(fullWorkload())))
	if err != nil {
		t.Fatal(err)
	}
	want := &state.Workload{
		UID: "Kubernetes//Pod/shop/cart", Name: "cart", Capacity: 7, Unhealthy: true,
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::2")},
		Place:     &state.Place{Node: "n1", Region: "r", Zone: "z", Subzone: "s"},
		Profile: &state.Profile{
			Namespace: "shop", TrustDomain: "td", ServiceAccount: "cart", Network: "net", ClusterID: "c1", CanonicalName: "cart",
			CanonicalRevision: "v1", Controller: "cart-x", Kind: state.KindPod, Tunnel: state.TunnelHBONE, HostNetwork: true,
			NativeTunnel: true, AppTunnel: state.AppTunnel{Present: true, Proxy: true, Port: 9000}, Hostname: "cart.vm",
			Waypoint: &state.Gateway{Host: state.Key{Namespace: "shop", Name: "wp.local"}, Port: 15008},
			Gateway:  &state.Gateway{Addr: state.NetworkAddr{Network: "net", IP: netip.MustParseAddr("10.0.0.9")}, Port: 15018},
			Policies: []state.Key{{Namespace: "shop", Name: "a"}, {Namespace: "shop", Name: "b"}},
			Services: []state.Membership{
				{Service: state.Key{Namespace: "shop", Name: "a.local"}},
				{Service: state.Key{Namespace: "shop", Name: "z.local"}, Ports: []state.Port{{Service: 80, Target: 8080}}},
			},
		},
	}
	if diff := cmp.Diff(want, w, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w, _, err = decodeAddress("u", encode(t, address(&workload.Workload{Uid: "u", Namespace: "ns"})))
	if err != nil {
		t.Fatal(err)
	}
	if w.Identity() != (spiffe.ID{TrustDomain: "cluster.local", Namespace: "ns", ServiceAccount: "default"}) || w.ClusterID != "Kubernetes" || w.Capacity != 1 || w.Unhealthy || w.Tunnel != state.TunnelNone {
		t.Errorf("defaults: %+v %+v", w, w.Profile)
	}
}

func TestBadWorkloads(t *testing.T) {
	for name, spoil := range map[string]func(*workload.Workload){
		"empty uid":          func(w *workload.Workload) { w.Uid = "" },
		"named otherwise":    func(w *workload.Workload) { w.Uid = "other" },
		"empty namespace":    func(w *workload.Workload) { w.Namespace = "" },
		"slash in namespace": func(w *workload.Workload) { w.Namespace = "a/b" },
		"bad account":        func(w *workload.Workload) { w.ServiceAccount = "a/b" },
		"bad trust domain":   func(w *workload.Workload) { w.TrustDomain = "A B" },
		"address length":     func(w *workload.Workload) { w.Addresses = append(w.Addresses, []byte{1, 2, 3}) },
		"status":             func(w *workload.Workload) { w.Status = 9 },
		"type":               func(w *workload.Workload) { w.WorkloadType = 9 },
		"tunnel":             func(w *workload.Workload) { w.TunnelProtocol = workload.TunnelProtocol_LEGACY_ISTIO_MTLS },
		"unknown tunnel":     func(w *workload.Workload) { w.TunnelProtocol = 9 },
		"network mode":       func(w *workload.Workload) { w.NetworkMode = 9 },
		"app tunnel":         func(w *workload.Workload) { w.ApplicationTunnel.Protocol = 9 },
		"app tunnel port":    func(w *workload.Workload) { w.ApplicationTunnel.Port = 70000 },
		"no destination":     func(w *workload.Workload) { w.Waypoint = &workload.GatewayAddress{HboneMtlsPort: 1} },
		"gateway port":       func(w *workload.Workload) { w.NetworkGateway.HboneMtlsPort = 70000 },
		"no gateway port":    func(w *workload.Workload) { w.NetworkGateway.HboneMtlsPort = 0 },
		"gateway address": func(w *workload.Workload) {
			w.NetworkGateway.Destination = &workload.GatewayAddress_Address{Address: &workload.NetworkAddress{Address: []byte{1}}}
		},
		"policy without slash":  func(w *workload.Workload) { w.AuthorizationPolicies = []string{"p"} },
		"policy line feed":      func(w *workload.Workload) { w.AuthorizationPolicies = []string{"a/b\nc"} },
		"service without slash": func(w *workload.Workload) { w.Services = map[string]*workload.PortList{"x": {}} },
		"service port": func(w *workload.Workload) {
			w.Services = map[string]*workload.PortList{"a/b": {Ports: []*workload.Port{{ServicePort: 65536}}}}
		},
		"service port 0": func(w *workload.Workload) {
			w.Services = map[string]*workload.PortList{"a/b": {Ports: []*workload.Port{{TargetPort: 1}}}}
		},
		"target port": func(w *workload.Workload) {
			w.Services = map[string]*workload.PortList{"a/b": {Ports: []*workload.Port{{ServicePort: 1, TargetPort: 65536}}}}
		},
		"long name":         func(w *workload.Workload) { w.Name = strings.Repeat("x", maxText+1) },
		"control character": func(w *workload.Workload) { w.Name = "a\x1b[31m" },
	} {
		w := fullWorkload()
		spoil(w)
		if got, _, err := decodeAddress("Kubernetes//Pod/shop/cart", encode(t, address(w))); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	if _, _, err := decodeAddress("x", encode(t, &workload.Address{})); err == nil {
		t.Error("an address that is nothing was accepted")
	}
}

func fullService() *workload.Service {
	bits := uint32(24)
	host := uint32(32)
	return &workload.Service{
		Name: "cart", Namespace: "shop", Hostname: "cart.local", Canonical: true, Visibility: workload.Service_NAMESPACE,
		Addresses: []*workload.NetworkAddress{
			{Network: "net", Address: []byte{10, 9, 0, 1}}, {Address: []byte{10, 9, 1, 9}, Length: &bits}, {Address: []byte{10, 9, 2, 1}, Length: &host},
		},
		Ports:           []*workload.Port{{ServicePort: 80, TargetPort: 8080}},
		SubjectAltNames: []string{"spiffe://td/ns/shop/sa/cart", "cart.example.com"},
		Waypoint: &workload.GatewayAddress{
			Destination:   &workload.GatewayAddress_Hostname{Hostname: &workload.NamespacedHostname{Namespace: "shop", Hostname: "wp.local"}},
			HboneMtlsPort: 15008,
		},
		WeightedWaypoints: []*workload.WeightedWaypoint{{Weight: 3, Destination: &workload.GatewayAddress{
			Destination:   &workload.GatewayAddress_Hostname{Hostname: &workload.NamespacedHostname{Namespace: "shop", Hostname: "wp2.local"}},
			HboneMtlsPort: 15008,
		}}},
		LoadBalancing: &workload.LoadBalancing{
			RoutingPreference: []workload.LoadBalancing_Scope{workload.LoadBalancing_NETWORK, workload.LoadBalancing_ZONE},
			Mode:              workload.LoadBalancing_FAILOVER, HealthPolicy: workload.LoadBalancing_ALLOW_ALL,
		},
		IpFamilies: workload.IPFamilies_DUAL,
	}
}

func serviceAddress(s *workload.Service) *workload.Address {
	return &workload.Address{Type: &workload.Address_Service{Service: s}}
}

func TestService(t *testing.T) {
	_, s, err := decodeAddress("shop/cart.local", encode(t, serviceAddress(fullService())))
	if err != nil {
		t.Fatal(err)
	}
	want := &state.Service{
		Name: "cart", Namespace: "shop", Hostname: "cart.local", Canonical: true, Restricted: true, Families: state.FamiliesDual,
		VIPs:      []state.NetworkAddr{{Network: "net", IP: netip.MustParseAddr("10.9.0.1")}, {IP: netip.MustParseAddr("10.9.2.1")}},
		CIDRs:     []state.NetworkPrefix{{Prefix: netip.MustParsePrefix("10.9.1.0/24")}},
		Ports:     []state.Port{{Service: 80, Target: 8080}},
		SANs:      []spiffe.ID{{TrustDomain: "td", Namespace: "shop", ServiceAccount: "cart"}},
		Waypoint:  &state.Gateway{Host: state.Key{Namespace: "shop", Name: "wp.local"}, Port: 15008},
		Waypoints: []state.WeightedGateway{{Gateway: state.Gateway{Host: state.Key{Namespace: "shop", Name: "wp2.local"}, Port: 15008}, Weight: 3}},
		Balancing: state.Balancing{Preference: []state.Scope{state.ScopeNetwork, state.ScopeZone}, Mode: state.ModeFailover, AllowAll: true},
	}
	if diff := cmp.Diff(want, s, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, spoil := range map[string]func(*workload.Service){
		"no hostname":     func(s *workload.Service) { s.Hostname = "" },
		"named otherwise": func(s *workload.Service) { s.Hostname = "other.local" },
		"vip length":      func(s *workload.Service) { s.Addresses[0].Address = []byte{1} },
		"prefix length":   func(s *workload.Service) { *s.Addresses[1].Length = 33 },
		"port":            func(s *workload.Service) { s.Ports[0].ServicePort = 65536 },
		"weighted":        func(s *workload.Service) { s.WeightedWaypoints[0].Destination = nil },
		"waypoint":        func(s *workload.Service) { s.Waypoint.Destination = nil },
		"scope":           func(s *workload.Service) { s.LoadBalancing.RoutingPreference[0] = 0 },
		"unknown scope":   func(s *workload.Service) { s.LoadBalancing.RoutingPreference[0] = 9 },
		"mode":            func(s *workload.Service) { s.LoadBalancing.Mode = 9 },
		"health":          func(s *workload.Service) { s.LoadBalancing.HealthPolicy = 9 },
		"families":        func(s *workload.Service) { s.IpFamilies = 9 },
	} {
		s := fullService()
		spoil(s)
		if _, got, err := decodeAddress("shop/cart.local", encode(t, serviceAddress(s))); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func exact(s string) *authz.StringMatch {
	return &authz.StringMatch{MatchType: &authz.StringMatch_Exact{Exact: s}}
}

// withUnknown appends a field that this version does not know.
func withUnknown[M proto.Message](m M) M {
	raw := protowire.AppendTag(nil, 900, protowire.VarintType)
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(raw, 1))
	return m
}

func onePolicy(action authz.Action, matches ...*authz.Match) *authz.Authorization {
	return &authz.Authorization{
		Name: "p", Namespace: "ns", Scope: authz.Scope_NAMESPACE, Action: action,
		Groups: []*authz.Group{{Rules: []*authz.Rules{{Matches: matches}}}},
	}
}

func TestPolicyFields(t *testing.T) {
	p, err := decodePolicy("ns/p", encode(t, onePolicy(authz.Action_ALLOW, &authz.Match{
		Namespaces:         []*authz.StringMatch{exact("a"), {MatchType: &authz.StringMatch_Prefix{Prefix: "b"}}},
		NotNamespaces:      []*authz.StringMatch{{MatchType: &authz.StringMatch_Suffix{Suffix: "c"}}},
		Principals:         []*authz.StringMatch{{MatchType: &authz.StringMatch_Presence{Presence: &emptypb.Empty{}}}},
		SourceIps:          []*authz.Address{{Address: []byte{10, 1, 2, 3}, Length: 8}, {Address: netip.MustParseAddr("::ffff:10.1.2.3").AsSlice(), Length: 112}},
		NotDestinationIps:  []*authz.Address{{Address: netip.MustParseAddr("2001:db8::1").AsSlice(), Length: 32}},
		DestinationPorts:   []uint32{80},
		ServiceAccounts:    []*authz.ServiceAccountMatch{{Namespace: "a", ServiceAccount: "x"}},
		NotServiceAccounts: []*authz.ServiceAccountMatch{{Namespace: "a", ServiceAccount: "y"}},
	})))
	if err != nil {
		t.Fatal(err)
	}
	want := state.Match{
		Namespaces:         []state.StringMatch{{Op: state.OpExact, Value: "a"}, {Op: state.OpPrefix, Value: "b"}},
		NotNamespaces:      []state.StringMatch{{Op: state.OpSuffix, Value: "c"}},
		Principals:         []state.StringMatch{{Op: state.OpPresence}},
		SourceIPs:          []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")},
		NotDestinationIPs:  []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")},
		DestinationPorts:   []uint16{80},
		ServiceAccounts:    []state.AccountMatch{{Namespace: "a", ServiceAccount: "x"}},
		NotServiceAccounts: []state.AccountMatch{{Namespace: "a", ServiceAccount: "y"}},
	}
	if diff := cmp.Diff(want, p.Rules[0].Clauses[0].Matches[0], cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusedPolicies(t *testing.T) {
	for name, a := range map[string]*authz.Authorization{
		"scope":         {Name: "p", Namespace: "ns", Scope: 9},
		"action":        {Name: "p", Namespace: "ns", Action: 9},
		"other name":    {Name: "q", Namespace: "ns"},
		"ip length":     onePolicy(authz.Action_ALLOW, &authz.Match{SourceIps: []*authz.Address{{Address: []byte{1}, Length: 8}}}),
		"prefix length": onePolicy(authz.Action_DENY, &authz.Match{NotSourceIps: []*authz.Address{{Address: []byte{10, 0, 0, 0}, Length: 33}}}),
		"port":          onePolicy(authz.Action_ALLOW, &authz.Match{DestinationPorts: []uint32{65616}}),
		"account":       onePolicy(authz.Action_ALLOW, &authz.Match{ServiceAccounts: []*authz.ServiceAccountMatch{{Namespace: "a"}}}),
		"long":          onePolicy(authz.Action_ALLOW, &authz.Match{Namespaces: []*authz.StringMatch{exact(strings.Repeat("x", 9999))}}),
	} {
		p, err := decodePolicy("ns/p", encode(t, a))
		if err == nil || p == nil || p.Broken == "" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if p, err := decodePolicy("noslash", nil); err == nil || p != nil {
		t.Errorf("name without slash: %+v, %v", p, err)
	}
	if p, err := decodePolicy("ns/p", []byte{0xff}); err == nil || p.Broken == "" || p.Scope != state.ScopeNamespace {
		t.Errorf("no protobuf: %+v, %v", p, err)
	}
}

// TestUnknownPartsFailClosed: whatever this version does not understand makes an ALLOW narrower and a DENY wider.
func TestUnknownPartsFailClosed(t *testing.T) {
	peer := spiffe.ID{TrustDomain: "td", Namespace: "friend", ServiceAccount: "x"}
	build := func(action authz.Action) map[string]*authz.Authorization {
		match := func() *authz.Match { return &authz.Match{Namespaces: []*authz.StringMatch{exact("friend")}} }
		// What the DENY says beside the unknown part does not match the peer; what the ALLOW says does.
		other := func() *authz.Match {
			if action == authz.Action_DENY {
				return &authz.Match{DestinationPorts: []uint32{80}}
			}
			return match()
		}
		unset := &authz.StringMatch{}
		topLevel := withUnknown(onePolicy(action, other()))
		group := onePolicy(action, other())
		withUnknown(group.Groups[0])
		rules := onePolicy(action, other())
		withUnknown(rules.Groups[0].Rules[0])
		return map[string]*authz.Authorization{
			"unknown on policy":      topLevel,
			"unknown on rule":        group,
			"unknown on clause":      rules,
			"unknown on match":       onePolicy(action, withUnknown(other())),
			"extension on match":     onePolicy(action, &authz.Match{DestinationPorts: []uint32{80}, Extensions: []*workload.Extension{{Name: "x"}}}),
			"unset positive":         onePolicy(action, &authz.Match{DestinationPorts: []uint32{80}, Namespaces: []*authz.StringMatch{unset}}),
			"unset negative":         onePolicy(action, &authz.Match{DestinationPorts: []uint32{80}, NotNamespaces: []*authz.StringMatch{unset}}),
			"unset positive alone":   onePolicy(action, &authz.Match{Namespaces: []*authz.StringMatch{unset}}),
			"unknown match alone":    onePolicy(action, withUnknown(&authz.Match{})),
			"empty match":            onePolicy(action, &authz.Match{}),
			"empty beside another":   onePolicy(action, &authz.Match{}, &authz.Match{DestinationPorts: []uint32{1}}),
			"unset among positives":  onePolicy(action, &authz.Match{DestinationPorts: []uint32{80}, Namespaces: []*authz.StringMatch{unset, exact("nobody")}}),
			"extension on the whole": {Name: "p", Namespace: "ns", Scope: authz.Scope_NAMESPACE, Action: action, Groups: []*authz.Group{{}}, Extensions: []*workload.Extension{{Name: "x"}}},
		}
	}
	for _, action := range []authz.Action{authz.Action_ALLOW, authz.Action_DENY} {
		for name, a := range build(action) {
			store := state.NewStore(state.Config{})
			feed := NewFeed(store)
			w := &workload.Workload{Uid: "w", Namespace: "ns", Addresses: [][]byte{{10, 0, 0, 2}}}
			if r := feed.Handle(client.Batch{TypeURL: workload.AddressTypeURL, Resources: []client.Resource{{Name: "w", Body: encode(t, address(w))}}}); len(r) != 0 {
				t.Fatal(r)
			}
			if r := feed.Handle(client.Batch{TypeURL: authz.TypeURL, Resources: []client.Resource{{Name: "ns/p", Body: encode(t, a)}}}); len(r) != 0 {
				t.Fatalf("%s: %v", name, r)
			}
			feed.Flush()
			d := policy.Authorize(store.Load(), policy.Conn{
				Workload: "w", Peer: peer, Source: netip.MustParseAddrPort("10.0.0.1:1"), Destination: netip.MustParseAddrPort("10.0.0.2:80"),
			})
			if d.Allowed() {
				t.Errorf("%s %s: allowed by %s", action, name, d.Reason)
			}
		}
	}
}

func TestFeed(t *testing.T) {
	store := state.NewStore(state.Config{})
	feed := NewFeed(store)
	good := onePolicy(authz.Action_ALLOW, &authz.Match{DestinationPorts: []uint32{80}})
	bad := onePolicy(authz.Action_ALLOW, &authz.Match{DestinationPorts: []uint32{99999}})
	send := func(url string, removed []string, resources ...client.Resource) map[string]error {
		t.Helper()
		r := feed.Handle(client.Batch{TypeURL: url, Resources: resources, Removed: removed})
		feed.Flush()
		return r
	}
	w := client.Resource{Name: "Kubernetes//Pod/shop/cart", Body: encode(t, address(fullWorkload()))}
	s := client.Resource{Name: "shop/cart.local", Body: encode(t, serviceAddress(fullService()))}
	rejected := send(workload.AddressTypeURL, nil, w, s, client.Resource{Name: "junk", Body: []byte{1, 2, 3}})
	if len(rejected) != 1 || rejected["junk"] == nil {
		t.Fatalf("rejected: %v", rejected)
	}
	if store.Load().Synced() {
		t.Error("synced with one type")
	}
	if r := send(authz.TypeURL, nil, client.Resource{Name: "ns/p", Body: encode(t, bad)}); len(r) != 1 {
		t.Fatalf("rejected: %v", r)
	}
	snap := store.Load()
	if !snap.Synced() || snap.Size() != (state.Size{Workloads: 1, Services: 1, Policies: 1}) || snap.Policy(state.Key{Namespace: "ns", Name: "p"}).Broken == "" {
		t.Fatalf("after the first responses: %+v", snap.Size())
	}
	send(authz.TypeURL, nil, client.Resource{Name: "ns/p", Body: encode(t, good)})
	before := store.Load().Version()
	send(authz.TypeURL, nil, client.Resource{Name: "ns/p", Body: encode(t, bad)})
	if p := store.Load().Policy(state.Key{Namespace: "ns", Name: "p"}); p.Broken != "" || store.Load().Version() != before {
		t.Errorf("a refused policy replaced the good one: %+v", p)
	}
	send(workload.AddressTypeURL, []string{"Kubernetes//Pod/shop/cart", "shop/cart.local", "never"})
	send(authz.TypeURL, []string{"ns/p", "noslash"})
	if n := store.Load().Size(); n != (state.Size{}) {
		t.Errorf("after removal: %+v", n)
	}
	if r := send("other", nil, client.Resource{Name: "x"}); !errors.Is(r["x"], errUnknownType) {
		t.Errorf("unknown type: %v", r)
	}
}

// TestEveryPrefix cuts a resource at every byte: nothing may panic, and what is accepted must be whole.
func TestEveryPrefix(t *testing.T) {
	for _, body := range [][]byte{encode(t, address(fullWorkload())), encode(t, serviceAddress(fullService()))} {
		for n := range body {
			decodeAddress("Kubernetes//Pod/shop/cart", body[:n])
		}
	}
	body := encode(t, onePolicy(authz.Action_ALLOW, &authz.Match{DestinationPorts: []uint32{80}}))
	for n := range body {
		decodePolicy("ns/p", body[:n])
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("Kubernetes//Pod/shop/cart", encode(f, address(fullWorkload())))
	f.Add("shop/cart.local", encode(f, serviceAddress(fullService())))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		w, s, err := decodeAddress(name, body)
		if (err == nil) != (w != nil || s != nil) {
			t.Fatalf("%v %v %v", w, s, err)
		}
		store := state.NewStore(state.Config{})
		feed := NewFeed(store)
		feed.Handle(client.Batch{TypeURL: workload.AddressTypeURL, Resources: []client.Resource{{Name: name, Body: body}}})
		feed.Flush()
		feed.Handle(client.Batch{TypeURL: workload.AddressTypeURL, Removed: []string{name}})
		feed.Flush()
		if n := store.Load().Size(); n != (state.Size{}) {
			t.Fatalf("removal by the name it came under left %+v", n)
		}
	})
}

func FuzzPolicy(f *testing.F) {
	f.Add("ns/p", encode(f, onePolicy(authz.Action_ALLOW, &authz.Match{DestinationPorts: []uint32{80}})))
	f.Add("ns/p", encode(f, onePolicy(authz.Action_DENY, &authz.Match{Namespaces: []*authz.StringMatch{exact("x")}})))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		p, err := decodePolicy(name, body)
		if err == nil && (p == nil || p.Broken != "") || err != nil && p != nil && p.Broken == "" {
			t.Fatalf("%+v %v", p, err)
		}
		if p == nil {
			return
		}
		store := state.NewStore(state.Config{})
		snap := store.Apply(&state.Update{
			Policies: []*state.Policy{p}, Synced: state.TypesAll,
			Workloads: []*state.Workload{{UID: "w", Place: &state.Place{}, Profile: &state.Profile{Namespace: p.Key.Namespace, Policies: []state.Key{p.Key}}}},
		})
		d := policy.Authorize(snap, policy.Conn{Workload: "w", Destination: netip.MustParseAddrPort("10.0.0.1:80")})
		if p.Broken != "" && !p.DryRun && d.Allowed() {
			t.Fatalf("a broken policy allows: %+v", p)
		}
	})
}
