package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridgeUp joins the machine to the nodes: a bridge with the gateway's addresses. Of the machine's network nothing else is
// touched but routes that lead there.
func (p Plan) bridgeUp() error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: p.name()}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge %s: %w", p.name(), err)
	}
	for family, ip := range p.gateway() {
		if err := addAddress(&netlink.Handle{}, bridge, ip, p.prefix(family)); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(bridge)
}

// bridgeDown removes it, with the routes over it, and the machine's ends of links to nodes, which would go with the nodes
// only when the kernel finds the time.
func (p Plan) bridgeDown() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	for _, link := range links {
		if name := link.Attrs().Name; name != p.name() && !strings.HasPrefix(name, p.name()+"-") {
			continue
		}
		if e := netlink.LinkDel(link); e != nil && !errors.Is(e, unix.ENODEV) { // the kernel was first
			err = errors.Join(err, fmt.Errorf("link %s: %w", link.Attrs().Name, e))
		}
	}
	return err
}

// connect gives a node's network namespace, that of process pid, its link, addresses and routes: to the machine by default,
// to the other nodes' pods by their nodes.
func (p Plan) connect(n Node, pid int) error {
	bridge, err := netlink.LinkByName(p.name())
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: p.name() + "-" + n.Name, MasterIndex: bridge.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("link of %s: %w", n.Name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	eth0, err := inside.LinkByName("eth0")
	if err != nil {
		return err
	}
	for family, ip := range n.IPs {
		if err := addAddress(inside, eth0, ip, p.prefix(family)); err != nil {
			return err
		}
	}
	if err := inside.LinkSetUp(eth0); err != nil { // last: the node waits for it
		return err
	}
	for family := range n.IPs {
		if err := route(inside, eth0, []string{"0.0.0.0/0", "::/0"}[family], p.gateway()[family]); err != nil {
			return err
		}
		if err := route(&netlink.Handle{}, bridge, n.Ranges[family], n.IPs[family]); err != nil {
			return err
		}
		for _, other := range p.Nodes {
			if other.Name == n.Name {
				continue
			}
			if err := route(inside, eth0, other.Ranges[family], other.IPs[family]); err != nil {
				return err
			}
		}
	}
	if n.Name == p.Nodes[0].Name {
		return route(&netlink.Handle{}, bridge, p.balancerRange(), n.IPs[0])
	}
	return nil
}

// addAddress skips duplicate address detection, which would only delay.
func addAddress(h *netlink.Handle, link netlink.Link, ip string, prefix int) error {
	addr, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", ip, prefix))
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		addr.Flags = 0x02 // IFA_F_NODAD
	}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("address %s: %w", ip, err)
	}
	return nil
}

func route(h *netlink.Handle, link netlink.Link, to, via string) error {
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	err = h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.ParseIP(via)})
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("route to %s: %w", to, err)
	}
	return nil
}

// unlinked answers nil once a node's end of the wire is gone: the kernel takes namespaces down after their last process.
func (p Plan) unlinked(n Node) error {
	_, err := netlink.LinkByName(p.name() + "-" + n.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	return errors.Join(err, fmt.Errorf("link of %s is still there", n.Name))
}
