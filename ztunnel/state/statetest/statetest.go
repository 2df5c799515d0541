// Package statetest answers how a test states what the mesh looks like: in words a policy author can read.
//
// A scenario file has commands, each followed by "----" and the answer, as in
//
//	state
//	  workload cart ns=shop ip=10.0.0.2 node=n1 svc=shop/cart.local:80>8080
//	  policy   shop/no-legacy deny from-ns=legacy
//	conn from=legacy/batch to=10.0.0.2:8080
//	----
//	deny reason=ExplicitDeny policy=shop/no-legacy
//
// A state block replaces the state; "state+" adds to it. Run compares, or rewrites the answers with -update. Only tests
// import this package.
package statetest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Args is a line as words and key=value pairs, in order; a key may come several times.
type Args struct {
	Words []string
	pairs [][2]string
	used  map[string]bool
}

// ParseArgs splits a line.
func ParseArgs(line string) *Args {
	a := &Args{used: map[string]bool{}}
	for _, f := range strings.Fields(line) {
		if k, v, ok := strings.Cut(f, "="); ok {
			a.pairs = append(a.pairs, [2]string{k, v})
		} else {
			a.Words = append(a.Words, f)
		}
	}
	return a
}

// All lists the values of a key; each may hold several, separated by commas.
func (a *Args) All(key string) []string {
	a.used[key] = true
	var out []string
	for _, p := range a.pairs {
		if p[0] == key {
			out = append(out, strings.Split(p[1], ",")...)
		}
	}
	return out
}

// Get is the last value of a key, or def.
func (a *Args) Get(key, def string) string {
	if all := a.All(key); len(all) > 0 {
		return all[len(all)-1]
	}
	return def
}

// Has reports whether a bare word is on the line.
func (a *Args) Has(word string) bool { return slices.Contains(a.Words, word) }

// Unused is an error if a key was never asked for: a misspelt key must not make a test pass.
func (a *Args) Unused() error {
	for _, p := range a.pairs {
		if !a.used[p[0]] {
			return fmt.Errorf("unknown key %q", p[0])
		}
	}
	return nil
}

// Parse reads the lines of a state block into an update; settings lines change cfg.
func Parse(cfg *state.Config, lines []string) (*state.Update, error) {
	u := &state.Update{Synced: state.TypesAll}
	var all []error
	for _, line := range lines {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		a := ParseArgs(rest)
		if err := parseLine(cfg, u, kind, a); err != nil {
			all = append(all, fmt.Errorf("line %q: %w", line, err))
		}
		if err := a.Unused(); err != nil {
			all = append(all, fmt.Errorf("line %q: %w", line, err))
		}
	}
	return u, errors.Join(all...)
}

func parseLine(cfg *state.Config, u *state.Update, kind string, a *Args) error {
	var err error
	try := func(e error) { err = errors.Join(err, e) }
	switch kind {
	case "node":
		cfg.Node = a.Words[0]
	case "network":
		cfg.Network = a.Words[0]
	case "range":
		p, e := netip.ParsePrefix(a.Words[0])
		try(e)
		cfg.Ranges = append(cfg.Ranges, p)
	case "unsynced":
		u.Synced = 0
	case "workload":
		w, e := parseWorkload(a)
		try(e)
		u.Workloads = append(u.Workloads, w)
	case "service":
		s, e := parseService(a)
		try(e)
		u.Services = append(u.Services, s)
	case "policy":
		p, e := parsePolicy(a)
		try(e)
		u.Policies = append(u.Policies, p)
	case "remove":
		u.RemovedPolicies = append(u.RemovedPolicies, key(a.Words[0]))
	default:
		return fmt.Errorf("unknown kind %q", kind)
	}
	return err
}

func key(s string) state.Key {
	ns, name, _ := strings.Cut(s, "/")
	return state.Key{Namespace: ns, Name: name}
}

func parseWorkload(a *Args) (*state.Workload, error) {
	name := a.Words[0]
	ns := a.Get("ns", "shop")
	p := &state.Profile{
		Namespace: ns, TrustDomain: a.Get("td", "cluster.local"), ServiceAccount: a.Get("sa", name),
		Network: a.Get("network", ""), ClusterID: a.Get("cluster", "Kubernetes"), CanonicalName: name,
		CanonicalRevision: "v1", Controller: name, Hostname: a.Get("hostname", ""), HostNetwork: a.Has("host-network"),
		Tunnel: state.TunnelHBONE,
	}
	if a.Has("plain") {
		p.Tunnel = state.TunnelNone
	}
	w := &state.Workload{UID: a.Get("uid", p.ClusterID+"//Pod/"+ns+"/"+name), Name: name, Profile: p, Unhealthy: a.Has("unhealthy")}
	w.Place = &state.Place{Node: a.Get("node", ""), Region: a.Get("region", ""), Zone: a.Get("zone", ""), Subzone: a.Get("subzone", "")}
	capacity, err := strconv.ParseUint(a.Get("capacity", "1"), 10, 32)
	w.Capacity = uint32(capacity)
	for _, s := range a.All("ip") {
		ip, e := netip.ParseAddr(s)
		err = errors.Join(err, e)
		w.Addresses = append(w.Addresses, ip)
	}
	for _, s := range a.All("policy") {
		p.Policies = append(p.Policies, key(s))
	}
	for _, s := range a.All("svc") {
		m, e := parseMembership(s)
		err = errors.Join(err, e)
		p.Services = append(p.Services, m)
	}
	if s := a.Get("app-tunnel", ""); s != "" {
		kind, port, _ := strings.Cut(s, ":")
		p.AppTunnel = state.AppTunnel{Present: true, Proxy: kind == "proxy"}
		if port != "" {
			n, e := strconv.ParseUint(port, 10, 16)
			err = errors.Join(err, e)
			p.AppTunnel.Port = uint16(n)
		}
	}
	var e1, e2 error
	p.Waypoint, e1 = parseGateway(a.Get("waypoint", ""))
	p.Gateway, e2 = parseGateway(a.Get("gateway", ""))
	return w, errors.Join(err, e1, e2)
}

// parseMembership reads namespace/hostname[:80>8080][:81>8081].
func parseMembership(s string) (state.Membership, error) {
	name, ports, _ := strings.Cut(s, ":")
	list, err := parsePorts(strings.ReplaceAll(ports, ":", ";"))
	return state.Membership{Service: key(name), Ports: list}, err
}

// parsePorts reads 80>8080;443 where a port alone has no target.
func parsePorts(s string) ([]state.Port, error) {
	var out []state.Port
	var err error
	for one := range strings.SplitSeq(s, ";") {
		if one == "" {
			continue
		}
		svc, target, ok := strings.Cut(one, ">")
		n, e1 := strconv.ParseUint(svc, 10, 16)
		var t uint64
		var e2 error
		if ok {
			t, e2 = strconv.ParseUint(target, 10, 16)
		}
		err = errors.Join(err, e1, e2)
		out = append(out, state.Port{Service: uint16(n), Target: uint16(t)})
	}
	return out, err
}

// parseGateway reads namespace/hostname:port or ip@network:port; brackets around IPv6.
func parseGateway(s string) (*state.Gateway, error) {
	if s == "" {
		return nil, nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return nil, fmt.Errorf("gateway %q without port", s)
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	g := &state.Gateway{Port: uint16(port)}
	if strings.Contains(s[:i], "/") {
		g.Host = key(s[:i])
		return g, err
	}
	g.Addr, err = parseNetworkAddr(s[:i])
	return g, err
}

// parseNetworkAddr reads ip or ip@network.
func parseNetworkAddr(s string) (state.NetworkAddr, error) {
	ip, network, _ := strings.Cut(s, "@")
	addr, err := netip.ParseAddr(strings.Trim(ip, "[]"))
	return state.NetworkAddr{Network: network, IP: addr}, err
}

func parseService(a *Args) (*state.Service, error) {
	k := key(a.Words[0])
	name, _, _ := strings.Cut(k.Name, ".")
	s := &state.Service{Name: name, Namespace: k.Namespace, Hostname: k.Name, Canonical: a.Has("canonical"), Restricted: a.Has("restricted")}
	var err error
	for _, v := range a.All("vip") {
		if strings.Contains(v, "/") {
			p, network, _ := strings.Cut(v, "@")
			prefix, e := netip.ParsePrefix(p)
			err = errors.Join(err, e)
			s.CIDRs = append(s.CIDRs, state.NetworkPrefix{Network: network, Prefix: prefix.Masked()})
			continue
		}
		addr, e := parseNetworkAddr(v)
		err = errors.Join(err, e)
		s.VIPs = append(s.VIPs, addr)
	}
	for _, v := range a.All("san") {
		id, e := spiffe.Parse(v)
		err = errors.Join(err, e)
		s.SANs = append(s.SANs, id)
	}
	for _, v := range a.All("waypoint") {
		gw, weight, weighted := strings.Cut(v, "*")
		g, e := parseGateway(gw)
		err = errors.Join(err, e)
		if !weighted {
			s.Waypoint = g
			continue
		}
		n, e := strconv.ParseUint(weight, 10, 32)
		err = errors.Join(err, e)
		s.Waypoints = append(s.Waypoints, state.WeightedGateway{Gateway: *g, Weight: uint32(n)})
	}
	var e1, e2 error
	s.Ports, e1 = parsePorts(strings.Join(a.All("ports"), ";"))
	s.Balancing, e2 = parseBalancing(a)
	switch a.Get("families", "") {
	case "4":
		s.Families = state.FamiliesIPv4
	case "6":
		s.Families = state.FamiliesIPv6
	case "dual":
		s.Families = state.FamiliesDual
	}
	return s, errors.Join(err, e1, e2)
}

func parseBalancing(a *Args) (state.Balancing, error) {
	b := state.Balancing{AllowAll: a.Has("allow-all")}
	modes := map[string]state.Mode{"any": state.ModeAny, "strict": state.ModeStrict, "failover": state.ModeFailover, "passthrough": state.ModePassthrough}
	mode, ok := modes[a.Get("lb", "any")]
	if !ok {
		return b, errors.New("unknown lb")
	}
	b.Mode = mode
	scopes := map[string]state.Scope{
		"region": state.ScopeRegion, "zone": state.ScopeZone, "subzone": state.ScopeSubzone, "node": state.ScopeNode,
		"cluster": state.ScopeCluster, "network": state.ScopeNetwork,
	}
	for _, s := range a.All("prefer") {
		scope, ok := scopes[s]
		if !ok {
			return b, fmt.Errorf("unknown scope %q", s)
		}
		b.Preference = append(b.Preference, scope)
	}
	return b, nil
}
