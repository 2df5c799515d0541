package datapath

import (
	"encoding/binary"
	"net/netip"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/bpf"
)

// Between Go's addresses and the kernel's: 16 bytes, IPv4 mapped, all zero for none.

func toAddr(a netip.Addr) (out bpf.ConnectAmbitAddr) {
	if !a.IsValid() {
		return out
	}
	b := a.As16()
	for i := range out.IpBe {
		out.IpBe[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

func fromAddr(a bpf.ConnectAmbitAddr) netip.Addr {
	if a == (bpf.ConnectAmbitAddr{}) {
		return netip.Addr{}
	}
	var b [16]byte
	for i, word := range a.IpBe {
		binary.NativeEndian.PutUint32(b[4*i:], word)
	}
	return netip.AddrFrom16(b).Unmap()
}

func toEnd(ap netip.AddrPort) bpf.ConnectAmbitEnd {
	return bpf.ConnectAmbitEnd{Addr: toAddr(ap.Addr()), Port: ap.Port()}
}

func fromEnd(e bpf.ConnectAmbitEnd) netip.AddrPort {
	return netip.AddrPortFrom(fromAddr(e.Addr), e.Port)
}

func toPod(p plan.Pod) bpf.ConnectAmbitPod {
	return bpf.ConnectAmbitPod{
		Ip4: toAddr(p.IPv4), Ip6: toAddr(p.IPv6), Flags: bpf.ConnectAmbitPodFlag(p.Flags()),
	}
}

func fromPod(cookie uint64, p bpf.ConnectAmbitPod) plan.Pod {
	return plan.Pod{
		Cookie: cookie, IPv4: fromAddr(p.Ip4), IPv6: fromAddr(p.Ip6),
		DNS:           p.Flags&plan.FlagDNS != 0,
		Strict:        p.Flags&plan.FlagStrict != 0,
		BypassInbound: p.Flags&plan.FlagBypassInbound != 0,
	}
}
