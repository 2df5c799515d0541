package datapath

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
)

var families = []struct {
	name string
	v6   bool
}{{"ipv4", false}, {"ipv6", true}}

// A client in one pod, a server in another, both enrolled: the connection goes through four sockets of the mesh and both ends see
// each other's true address.
func TestConnectionThroughTwoPods(t *testing.T) {
	n := newNode(t)
	d := load(t, testConfig(t))
	client, server := n.pod(), n.pod()
	cm, sm := enrol(d, client), enrol(d, server)
	ln := server.listen("tcp", "[::]:8080")
	serve(ln)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			want := netip.AddrPortFrom(server.addr(f.v6), 8080)
			out, in := cm.accepted[RoleOutbound].Load(), sm.accepted[RoleInbound].Load()
			c := client.dial("tcp", want.String())
			if got := c.RemoteAddr().String(); got != want.String() {
				t.Errorf("the client sees its peer as %s, want %s", got, want)
			}
			seen := netip.MustParseAddrPort(line(t, c))
			// The presented port is that of the connection between the two meshes, the address is the client's.
			if seen.Addr().Unmap() != client.addr(f.v6) {
				t.Errorf("the server sees %s, want %s", seen, client.addr(f.v6))
			}
			if cm.accepted[RoleOutbound].Load() != out+1 || sm.accepted[RoleInbound].Load() != in+1 {
				t.Error("the connection did not pass both meshes")
			}
			if got := *cm.last[RoleOutbound].Load(); got != want.String() {
				t.Errorf("original destination %s, want %s", got, want)
			}
			fmt.Fprintln(c, "hello")
			c.(*net.TCPConn).CloseWrite()
			if b, err := io.ReadAll(c); err != nil || string(b) != "hello\n" {
				t.Errorf("echo %q, %v", b, err)
			}
		})
	}
	eventually(t, "every handshake's entries are gone", func() bool { return slots(t, d) == 0 })
	if lost := count(t, d, AddressLost); lost != 0 {
		t.Errorf("%d addresses lost", lost)
	}
}
