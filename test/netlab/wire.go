package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/netns"
)

// Wire names the network between the nodes, where a Spec may put a capture: a network namespace with a bridge, and in it one
// port per node, named after the node. A capture on a port sees what passes between the nodes and nothing else.
const Wire = "wire"

func (l *Lab) makeWire() error {
	h, err := l.makeNetns(Wire)
	if err != nil {
		return fmt.Errorf("wire: %w", err)
	}
	defer h.Close()
	return withLinks(h, func(nl *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		if err := nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("wire: bridge: %w", err)
		}
		bridge, err := nl.LinkByName("br0")
		if err != nil {
			return err
		}
		return nl.LinkSetUp(bridge)
	})
}

// makeNode makes the i-th node: its namespace, its port on the wire, addresses, routes to the other nodes' pods, its folder
// with a CNI configuration, and its Node object.
func (l *Lab) makeNode(i int) error {
	s, err := l.load()
	if err != nil {
		return err
	}
	node := s.Nodes[i]
	h, err := l.makeNetns(node.Name)
	if err != nil {
		return err
	}
	defer h.Close()
	// A node says at once, and each time, that there is no way to an address: a program shall not wait for a timeout.
	if err := sysctls(h, map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0",
	}); err != nil {
		return err
	}
	if err := l.plugIn(node, h); err != nil {
		return err
	}
	if err := withLinks(h, func(nl *netlink.Handle) error { return routesOf(nl, node, s.Nodes) }); err != nil {
		return err
	}
	for _, dir := range []string{"net.d", "ipam", "cni-cache"} {
		if err := os.MkdirAll(filepath.Join(l.NodeDir(node.Name), dir), 0o755); err != nil {
			return err
		}
	}
	if err := l.writeConflist(node); err != nil {
		return err
	}
	return l.Put(nodeObject(node))
}

// plugIn makes the veth pair between the wire and the node.
func (l *Lab) plugIn(node Node, h *netns.Handle) error {
	wire, err := netns.Open(l.netnsPath(Wire))
	if err != nil {
		return err
	}
	defer wire.Close()
	return withLinks(wire, func(nl *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = node.Name
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.Fd())}
		if err := nl.LinkAdd(veth); err != nil {
			return fmt.Errorf("veth pair: %w", err)
		}
		port, err := nl.LinkByName(node.Name)
		if err != nil {
			return err
		}
		bridge, err := nl.LinkByName("br0")
		if err != nil {
			return err
		}
		if err := nl.LinkSetMaster(port, bridge.(*netlink.Bridge)); err != nil {
			return fmt.Errorf("bridge port: %w", err)
		}
		return nl.LinkSetUp(port)
	})
}

// routesOf gives the node its addresses and the ways to the other nodes' pods.
func routesOf(nl *netlink.Handle, node Node, all []Node) error {
	eth, err := nl.LinkByName("eth0")
	if err != nil {
		return err
	}
	for f, ip := range node.IPs {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(wireBits[f], ip.BitLen())}}
		if ip.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := nl.AddrAdd(eth, addr); err != nil {
			return fmt.Errorf("address %s: %w", ip, err)
		}
	}
	if err := nl.LinkSetUp(eth); err != nil {
		return err
	}
	for _, other := range all {
		for f, to := range other.PodNets {
			if other.Index == node.Index {
				continue
			}
			route := &netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(to), Gw: other.IPs[f].AsSlice()}
			if err := nl.RouteAdd(route); err != nil {
				return fmt.Errorf("route to %s: %w", to, err)
			}
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
