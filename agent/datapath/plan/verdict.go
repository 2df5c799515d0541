package plan

import "net/netip"

// Verdict is what the kernel does (enum ambit_verdict).
type Verdict uint32

// The verdicts, in the kernel's encoding.
const (
	Deny Verdict = iota
	Pass
	Capture
	DNS
	Forward
	Present
	Listener
	Direct // kept for granted same-node pairs; never given yet
)

// Role says whose a socket is (enum ambit_role).
type Role uint32

// The roles, in the kernel's encoding.
const (
	RoleNone Role = iota
	RoleOutbound
	RoleInbound
	RoleHBONE
	RoleDNS
	RoleOutgoing
	RoleOlder
	RoleBypassed
)

func (r Role) mesh() bool { return r >= RoleOutbound && r <= RoleOutgoing }

// Kind says what a listed tuple is for (enum ambit_kind).
type Kind uint32

// The kinds, in the kernel's encoding.
const (
	KindNone Kind = iota
	KindCaptured
	KindDNS
	KindPresent
	KindProbe
)

// The mesh's ports in every enrolled pod (enum ambit_port), and how many UDP ports the resolver may have from PortDNS on.
const (
	PortOutbound   = 15001
	PortInbound    = 15006
	PortHBONE      = 15008
	PortDNS        = 15053
	MaxNameservers = 4
)

// Protocol numbers.
const (
	TCP = 6
	UDP = 17
)

// Near reports whether connections to a stay in the pod or on its link: loopback, unspecified, fe80::/10.
func Near(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsUnspecified() || (a.Is6() && a.IsLinkLocalUnicast())
}

func (p Pod) own(like netip.Addr) netip.Addr {
	if like.Unmap().Is4() {
		return p.IPv4
	}
	return p.IPv6
}

// SpreadPort is the port of the pod's own address to which a connection to dst is captured.
func SpreadPort(dst netip.AddrPort) uint16 {
	b := dst.Addr().As16()
	var h uint32
	for i := 0; i < 16; i += 4 { // as a little-endian kernel reads network-order words
		h = mix(h ^ (uint32(b[i]) | uint32(b[i+1])<<8 | uint32(b[i+2])<<16 | uint32(b[i+3])<<24))
	}
	return uint16(1024 + mix(h^uint32(dst.Port()))%64000)
}

// mix is the finalizer of MurmurHash3.
func mix(h uint32) uint32 {
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// Connect models connect() and sendto() of a socket in a pod. pod is nil if it is not enrolled; to is the rewritten destination.
func Connect(pod *Pod, role Role, proto uint32, dst netip.AddrPort) (v Verdict, to netip.AddrPort) {
	if pod == nil || (proto != TCP && proto != UDP) {
		return Pass, to
	}
	own := pod.own(dst.Addr())
	self := own.IsValid() && dst.Addr().Unmap() == own
	dns := dst.Port() == 53 && pod.DNS
	switch {
	case role.mesh() && proto == UDP && role == RoleOutgoing && self:
		return Forward, to
	case role.mesh(), Near(dst.Addr()), self:
		return Pass, to
	case proto == UDP && !dns:
		return Pass, to
	case !own.IsValid():
		return Deny, to
	case proto == UDP:
		return DNS, netip.AddrPortFrom(own, PortDNS)
	case dns:
		return DNS, netip.AddrPortFrom(own, SpreadPort(dst))
	}
	return Capture, netip.AddrPortFrom(own, SpreadPort(dst))
}

// MeshPort reports whether applications may not bind port.
func MeshPort(port uint16) bool {
	switch port {
	case PortOutbound, PortInbound, PortHBONE:
		return true
	}
	return port >= PortDNS && port < PortDNS+MaxNameservers
}

// Bind models bind().
func Bind(enrolled bool, role Role, proto uint32, port uint16) Verdict {
	switch {
	case role == RoleOutgoing:
		return Present
	case !role.mesh() && enrolled && MeshPort(port) && (proto == TCP || proto == UDP):
		return Deny
	}
	return Pass
}

// Lookup models which listener a SYN from src to dst meets. kind is that of the listed tuple, if there is one.
func Lookup(src, dst netip.AddrPort, kind Kind, bypassInbound bool) (Verdict, Role) {
	self := src.Addr().Unmap().IsLoopback() || src.Addr().Unmap() == dst.Addr().Unmap()
	switch {
	case kind == KindCaptured:
		return Listener, RoleOutbound
	case kind == KindDNS:
		return Listener, RoleDNS
	case dst.Port() == PortHBONE:
		return Listener, RoleHBONE
	case self && (dst.Port() == PortOutbound || dst.Port() == PortInbound || dst.Port() == PortDNS):
		return Deny, RoleNone
	case self, kind == KindProbe, bypassInbound && !MeshPort(dst.Port()):
		return Pass, RoleNone
	}
	return Listener, RoleInbound
}

// Socket is what the backstop can tell of a packet's socket (enum ambit_socket).
type Socket uint32

// The kinds of socket, in the kernel's encoding.
const (
	SocketNone Socket = iota
	SocketStream
	SocketRaw
	SocketPartial
)

// Packet is what leaves a pod, as the backstop sees it.
type Packet struct {
	Parsed, TCP    bool
	Socket         Socket
	Role           Role
	SYN, RST, ACK  bool
	Payload, Probe bool
	BypassInbound  bool
}

// Egress models the backstop. Deny is a drop in strict capture and a count otherwise.
func Egress(p Packet) Verdict {
	switch {
	case p.Parsed && !p.TCP, p.Role.mesh(), p.Role == RoleOlder:
		return Pass
	case !p.Parsed:
		return Deny
	case p.RST && !p.Payload:
		return Pass
	case p.Socket != SocketStream && !p.SYN && !p.Payload:
		return Pass
	case p.Probe:
		return Pass
	case p.BypassInbound && (p.Role == RoleBypassed || (p.SYN && p.ACK)):
		return Pass
	}
	return Deny
}
