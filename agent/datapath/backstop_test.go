package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

type netConn = net.Conn

func itoa(n int) string { return strconv.Itoa(n) }

func dupFile(t testing.TB, fd int) *os.File {
	t.Helper()
	f := os.NewFile(uintptr(must[int](t)(unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0))), "netns")
	t.Cleanup(func() { f.Close() })
	return f
}

var backstops = []struct {
	name    string
	without string
}{{"tcx", ""}, {"clsact", "tcx"}}

// All that the mesh does passes strict capture: handshakes of both directions, data, resets, and what the kernel answers by itself.
func TestStrictLetsTheMeshPass(t *testing.T) {
	for _, b := range backstops {
		t.Run(b.name, func(t *testing.T) {
			n := newNode(t)
			cfg := testConfig(t)
			cfg.Without = []string{b.without}
			d := load(t, cfg)
			client, server := n.pod(), n.pod()
			var last *mesh
			for _, p := range []*pod{client, server} {
				last = newMesh(d, p)
				pod := p.wanted()
				pod.Strict = true
				if _, err := d.Enroll(p.ns, pod); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { d.Withdraw(p.cookie(), p.ns) })
			}
			serve(server.listen("tcp", "[::]:8080"))
			for _, f := range families {
				c := client.dial("tcp", ap(server.addr(f.v6), 8080).String())
				line(t, c)
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
			mesh := count(t, d, EgressMesh)
			if mesh == 0 {
				t.Error("the backstop saw nothing of the mesh")
			}
			// An ACK out of nothing meets no listener, and the kernel answers it with a reset of its own.
			outside := n.pod()
			last.stop()
			before := count(t, d, EgressControl)
			outside.inject(tcpPacket(outside.ip4, server.ip4, 4000, 8080, 0x10, nil))
			eventually(t, "a reset passes", func() bool { return count(t, d, EgressControl) > before })
			if dropped := count(t, d, EgressDropped); dropped != 0 {
				t.Errorf("%d dropped: %v", dropped, nonzero(t, d))
			}
		})
	}
}

func nonzero(t testing.TB, d *Datapath) map[Outcome]uint64 {
	t.Helper()
	all := must[map[Outcome]uint64](t)(d.Counters())
	for o, n := range all {
		if n == 0 {
			delete(all, o)
		}
	}
	return all
}

// tcpPacket is an IPv4 packet with a TCP segment.
func tcpPacket(src, dst netip.Addr, sport, dport uint16, flags byte, payload []byte) (netip.Addr, []byte) {
	p := make([]byte, 40, 40+len(payload))
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(p[2:], uint16(40+len(payload)))
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	tcp := p[20:]
	binary.BigEndian.PutUint16(tcp, sport)
	binary.BigEndian.PutUint16(tcp[2:], dport)
	binary.BigEndian.PutUint32(tcp[4:], 1)
	binary.BigEndian.PutUint32(tcp[8:], 1)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 1024)
	p = append(p, payload...)
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(p)-20)
	for i := 12; i < len(p); i += 2 {
		sum += uint32(p[i]) << 8
		if i+1 < len(p) {
			sum += uint32(p[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return dst, p
}

// inject sends a packet through a raw socket.
func (p *pod) inject(dst netip.Addr, packet []byte) {
	p.t.Helper()
	s := p.socket(false, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err := unix.Sendto(s.fd, packet, 0, s.addr(ap(dst, 0))); err != nil && !errors.Is(err, unix.ENOBUFS) {
		p.t.Fatal(err)
	}
}

// What comes of raw sockets is counted, and dropped in strict capture.
func TestBackstopRawSocket(t *testing.T) {
	for _, b := range backstops {
		t.Run(b.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Without = []string{b.without} })
			for _, strict := range []bool{false, true} {
				pod := r.client.wanted()
				pod.Strict = strict
				if _, err := r.d.Enroll(r.client.ns, pod); err != nil {
					t.Fatal(err)
				}
				raw, dropped := count(t, r.d, EgressRaw), count(t, r.d, EgressDropped)
				r.client.inject(tcpPacket(r.client.ip4, r.server.ip4, 4000, 8080, 2, nil))            // SYN
				r.client.inject(tcpPacket(r.client.ip4, r.server.ip4, 4000, 8080, 0x18, []byte("x"))) // data
				if n := count(t, r.d, EgressRaw) - raw; n != 2 {
					t.Errorf("strict %v: %d counted, want 2", strict, n)
				}
				want := uint64(0)
				if strict {
					want = 2
				}
				if n := count(t, r.d, EgressDropped) - dropped; n != want {
					t.Errorf("strict %v: %d dropped, want %d", strict, n, want)
				}
			}
		})
	}
}

// Connections older than the enrolment: kept and counted; in strict capture closed, or cut off by the backstop on kernels that
// cannot close them.
func TestOlderConnections(t *testing.T) {
	for _, tc := range []struct {
		name    string
		strict  bool
		without string
	}{{"kept", false, ""}, {"closed", true, ""}, {"cut off", true, "bpf_sock_destroy"}} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			cfg := testConfig(t)
			cfg.Without = []string{tc.without}
			d := load(t, cfg)
			client, server := n.pod(), n.pod()
			serve(server.listen("tcp", "[::]:8080"))
			var older []net.Conn
			for _, f := range families {
				c := client.dial("tcp", ap(server.addr(f.v6), 8080).String())
				line(t, c)
				older = append(older, c)
			}
			local := client.listen("tcp", "127.0.0.1:0") // no connection of anybody else's
			serve(local)
			line(t, client.dial("tcp", local.Addr().String()))

			pod := client.wanted()
			pod.Strict = tc.strict
			done, err := d.Enroll(client.ns, pod)
			if err != nil {
				t.Fatal(err)
			}
			destroys := tc.strict && d.Features().SockDestroy
			switch {
			case !tc.strict && (done.Older != 2 || done.Destroyed != 0),
				destroys && (done.Older != 0 || done.Destroyed != 2),
				tc.strict && !destroys && done.Older+done.Destroyed != 0:
				t.Errorf("found %+v", done)
			}
			for _, c := range older {
				_, err := fmt.Fprintln(c, "hello")
				switch {
				case !tc.strict:
					if got := line(t, c); got != "hello" {
						t.Errorf("echo %q", got)
					}
				case destroys:
					if _, rerr := readLine(c); err == nil && rerr == nil {
						t.Error("an older connection lives in strict capture")
					}
				}
			}
			if !tc.strict && count(t, d, EgressOlder) == 0 {
				t.Error("the backstop saw no older connections")
			}
			if tc.strict && !destroys {
				eventually(t, "their packets are dropped", func() bool { return count(t, d, EgressDropped) >= 2 })
			}
		})
	}
}

// With inbound capture off, plaintext reaches the application from outside, its answers pass strict capture, and tunnels still
// meet the mesh.
func TestBypassInbound(t *testing.T) {
	r := newRig(t)
	serve(r.client.listen("tcp", "[::]:8080"))
	pod := r.client.wanted()
	pod.BypassInbound, pod.Strict = true, true
	if _, err := r.d.Enroll(r.client.ns, pod); err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		line(t, r.server.dial("tcp", ap(r.client.addr(f.v6), 8080).String()))
	}
	if n := r.mesh.accepted[RoleInbound].Load(); n != 0 {
		t.Errorf("%d met the mesh", n)
	}
	r.server.dial("tcp", ap(r.client.ip4, 15008).String())
	eventually(t, "a tunnel meets the mesh", func() bool { return r.mesh.accepted[RoleHBONE].Load() == 1 })
	r.server.dial("tcp", ap(r.client.ip4, 15001).String())
	eventually(t, "a port of the mesh is no way past it", func() bool { return r.mesh.accepted[RoleInbound].Load() == 1 })
	if n := count(t, r.d, EgressDropped); n != 0 {
		t.Errorf("%d dropped: %v", n, nonzero(t, r.d))
	}
	if n := r.captured(func() { line(t, r.client.dial("tcp", r.to.String())) }); n != 1 {
		t.Error("outbound is not captured")
	}
}

// UDP other than DNS is not protected: it passes, also in strict capture, and is counted.
func TestOtherUDPIsCounted(t *testing.T) {
	r := newRig(t)
	pod := r.client.wanted()
	pod.Strict = true
	if _, err := r.d.Enroll(r.client.ns, pod); err != nil {
		t.Fatal(err)
	}
	s := r.client.socket(false, unix.SOCK_DGRAM, 0)
	before := count(t, r.d, EgressNotTCP)
	s.sendTo(ap(r.server.ip4, 9), "x")
	if n := count(t, r.d, UDPUnprotected); n != 1 {
		t.Errorf("counted %d", n)
	}
	eventually(t, "the backstop counts it", func() bool { return count(t, r.d, EgressNotTCP) > before })
}
