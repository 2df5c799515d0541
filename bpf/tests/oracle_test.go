package tests

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/test/need"
)

// rounds of random questions to each verdict; a fixed seed, so that a failure repeats.
const rounds = 4000

func programs(t *testing.T) *VerdictPrograms {
	t.Helper()
	need.Root(t, "loads kernel programs")
	var o VerdictObjects
	if err := LoadVerdictObjects(&o, nil); err != nil {
		t.Fatalf("load: %+v", err)
	}
	t.Cleanup(func() { o.Close() })
	return &o.VerdictPrograms
}

func run[T any](t *testing.T, p *ebpf.Program, c *T) {
	t.Helper()
	if _, err := p.Run(&ebpf.RunOptions{Context: *c, ContextOut: c}); err != nil {
		t.Fatal(err)
	}
}

func words(a netip.Addr) (w [4]uint32) {
	if !a.IsValid() {
		return w
	}
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

func addr(w [4]uint32) netip.Addr {
	var b [16]byte
	for i, v := range w {
		binary.NativeEndian.PutUint32(b[4*i:], v)
	}
	return netip.AddrFrom16(b).Unmap()
}

// The interesting values, each often enough to meet the others.
var (
	own4, own6 = netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")

	addrs = []netip.Addr{
		own4, own6, netip.MustParseAddr("10.0.0.8"), netip.MustParseAddr("fd00::8"),
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.200.0.53"), netip.MustParseAddr("128.0.0.1"),
		netip.IPv6Loopback(), netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("::2"),
		netip.MustParseAddr("fe80::1"), netip.MustParseAddr("febf::1"), netip.MustParseAddr("fec0::1"), netip.MustParseAddr("fe7f::1"),
		netip.MustParseAddr("169.254.20.10"), netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("255.255.255.255"),
		netip.MustParseAddr("::10.0.0.7"), netip.MustParseAddr("0.0.0.1"),
	}
	ports  = []uint16{0, 1, 53, 54, 80, 15000, 15001, 15006, 15008, 15052, 15053, 15056, 15057, 65535}
	protos = []uint32{0, 1, 6, 17, 132, 262}
	roles  = []plan.Role{0, 1, 2, 3, 4, 5, 6, 7, 8, 255}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func anyAddr(r *rand.Rand) netip.Addr {
	switch r.IntN(4) {
	case 0:
		return netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
	case 1:
		var b [16]byte
		binary.NativeEndian.PutUint64(b[:], r.Uint64())
		binary.NativeEndian.PutUint64(b[8:], r.Uint64())
		return netip.AddrFrom16(b)
	}
	return pick(r, addrs)
}

func anyPort(r *rand.Rand) uint16 {
	if r.IntN(3) == 0 {
		return uint16(r.Uint32())
	}
	return pick(r, ports)
}

func TestConnectAndBindAgreeWithTheModel(t *testing.T) {
	p := programs(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		dst, role, proto := netip.AddrPortFrom(anyAddr(r), anyPort(r)), pick(r, roles), pick(r, protos)
		var pod *plan.Pod
		var c VerdictConnectCase
		if r.IntN(5) > 0 {
			pod = &plan.Pod{DNS: r.IntN(2) == 0}
			if r.IntN(4) > 0 {
				pod.IPv4 = own4
			}
			if r.IntN(4) > 0 || !pod.IPv4.IsValid() {
				pod.IPv6 = own6
			}
			c.Q.Enrolled = 1
			c.Q.Pod.Ip4.IpBe, c.Q.Pod.Ip6.IpBe, c.Q.Pod.Flags = words(pod.IPv4), words(pod.IPv6), pod.Flags()
		}
		c.Q.Dst.Addr.IpBe, c.Q.Dst.Port = words(dst.Addr()), dst.Port()
		c.Q.Proto, c.Q.Role = proto, uint32(role)
		b := c

		run(t, p.TestConnect, &c)
		want, to := plan.Connect(pod, role, proto, dst)
		if got := plan.Verdict(c.A.Verdict); got != want {
			t.Fatalf("connect to %s proto %d role %d pod %+v: kernel %d, model %d", dst, proto, role, pod, got, want)
		}
		if to.IsValid() {
			if got := netip.AddrPortFrom(addr(c.A.To.Addr.IpBe), c.A.To.Port); got != to {
				t.Fatalf("connect to %s: rewritten to %s, model %s", dst, got, to)
			}
		}
		run(t, p.TestBind, &b)
		if got, want := plan.Verdict(b.A.Verdict), plan.Bind(pod != nil, role, proto, dst.Port()); got != want {
			t.Fatalf("bind %s proto %d role %d: kernel %d, model %d", dst, proto, role, got, want)
		}
	}
}

func TestLookupAgreesWithTheModel(t *testing.T) {
	p := programs(t)
	r := rand.New(rand.NewPCG(3, 4))
	for range rounds {
		src, dst := netip.AddrPortFrom(anyAddr(r), anyPort(r)), netip.AddrPortFrom(anyAddr(r), anyPort(r))
		if r.IntN(4) == 0 {
			src = netip.AddrPortFrom(dst.Addr(), src.Port())
		}
		kind, bypass := plan.Kind(r.IntN(6)), r.IntN(2) == 0
		var c VerdictLookupCase
		c.Q.Tuple.Src.Addr.IpBe, c.Q.Tuple.Src.Port = words(src.Addr()), src.Port()
		c.Q.Tuple.Dst.Addr.IpBe, c.Q.Tuple.Dst.Port = words(dst.Addr()), dst.Port()
		c.Q.Kind, c.Q.Flags = uint32(kind), plan.Pod{BypassInbound: bypass}.Flags()
		run(t, p.TestLookup, &c)
		v, role := plan.Lookup(src, dst, kind, bypass)
		if plan.Verdict(c.A.Verdict) != v || plan.Role(c.A.Role) != role {
			t.Fatalf("%s to %s kind %d bypass %v: kernel %d role %d, model %d role %d", src, dst, kind, bypass, c.A.Verdict, c.A.Role, v, role)
		}
	}
}

func TestEgressAgreesWithTheModel(t *testing.T) {
	p := programs(t)
	r := rand.New(rand.NewPCG(5, 6))
	flag := func() bool { return r.IntN(2) == 0 }
	bit := func(b bool) uint32 {
		if b {
			return 1
		}
		return 0
	}
	for range rounds {
		q := plan.Packet{
			Parsed: flag(), Socket: plan.Socket(r.IntN(4)), Role: pick(r, roles),
			SYN: flag(), RST: flag(), ACK: flag(), Payload: flag(), Probe: flag(), BypassInbound: flag(),
		}
		q.TCP = q.Parsed && flag()
		var c VerdictEgressCase
		c.Q.Parsed, c.Q.Tcp, c.Q.Socket, c.Q.Role = bit(q.Parsed), bit(q.TCP), uint32(q.Socket), uint32(q.Role)
		c.Q.Syn, c.Q.Rst, c.Q.Ack = bit(q.SYN), bit(q.RST), bit(q.ACK)
		c.Q.Payload, c.Q.Probe = bit(q.Payload), bit(q.Probe)
		c.Q.Flags = plan.Pod{BypassInbound: q.BypassInbound}.Flags()
		run(t, p.TestEgress, &c)
		if got, want := plan.Verdict(c.A.Verdict), plan.Egress(q); got != want {
			t.Fatalf("%+v: kernel %d, model %d", q, got, want)
		}
		if c.A.Outcome == 0 {
			t.Fatalf("%+v: not counted", q)
		}
	}
}
