package netlab

import (
	"fmt"
	"net/netip"
)

// Node is one node of a lab: a network namespace on the wire. All addresses live inside the lab's namespaces, so every lab
// has the same ones.
type Node struct {
	Name    string         `json:"name"`
	Index   int            `json:"index"`
	IPs     []netip.Addr   `json:"ips"`     // on the wire, IPv4 first
	PodNets []netip.Prefix `json:"podNets"` // IPv4 first
}

// planNode gives the i-th node (from 0) its addresses.
func planNode(i int, name string) Node {
	n := i + 1
	return Node{
		Name:  name,
		Index: n,
		IPs: []netip.Addr{
			netip.AddrFrom4([4]byte{172, 18, 0, byte(10 + n)}),
			netip.MustParseAddr(fmt.Sprintf("fd00:172:18::%x", 10+n)),
		},
		PodNets: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n), 0}), 24),
			netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%x::/64", n)),
		},
	}
}

// wireBits are the prefix lengths of the wire's networks, IPv4 and IPv6.
var wireBits = [2]int{24, 64}

// serviceIPs are the virtual addresses of the n-th Service (from 1). Nothing in the lab routes them: they lead somewhere in
// the mesh only, as in a cluster without kube-proxy.
func serviceIPs(n int) []string {
	return []string{fmt.Sprintf("10.96.%d.%d", n/250, n%250+1), fmt.Sprintf("fd00:10:96::%x", n)}
}

// PodNetworks and ServiceNetworks are the cluster's ranges, for whoever must know what lies inside the cluster.
func PodNetworks() []string     { return []string{"10.244.0.0/16", "fd00:10:244::/48"} }
func ServiceNetworks() []string { return []string{"10.96.0.0/16", "fd00:10:96::/112"} }
