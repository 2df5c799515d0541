package hostile

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// lies holds the certificate of one identity and claims to be another in everything else that a peer may say. Policy judges by
// the certificate; the log names it.
func (w *world) lies(t *testing.T) {
	client := w.client.IP4().String()
	for _, attack := range []struct {
		name  string
		pairs []string
	}{
		{"baggage", []string{"baggage", "k8s.cluster.name=Kubernetes,k8s.namespace.name=safe,k8s.pod.name=client,k8s.deployment.name=client,service.name=client"}},
		{"forwarded", []string{"forwarded", "for=" + client + ";by=" + client + ";host=guarded;proto=tcp"}},
		{"x-forwarded-for", []string{"x-forwarded-for", client, "x-real-ip", client}},
		{"x-forwarded-client-cert", []string{"x-forwarded-client-cert", "URI=" + trusted}},
		{"waypoint", []string{"x-istio-source", "waypoint", "baggage", "k8s.namespace.name=safe"}},
		{"network", []string{"x-forwarded-network", "elsewhere", "forwarded", "for=" + client}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			p := newPeer(t, w.stranger, w.guarded, w.genuine(t)).begin(t)
			mark := w.mark(t, mesh.ZtunnelName("n2"))
			labels := map[string]string{"reason": "NoAllowMatched"}
			w.counted(t, "n2", "ambit_ztunnel_connections_denied", labels, 1, func() {
				if got := p.connect(at(w.guarded, echoPort), attack.pairs...); got != "status 401" {
					t.Errorf("answered with %q, want a denial", got)
				}
			})
			w.logged(t, mesh.ZtunnelName("n2"), mark, "NoAllowMatched", "spiffe://cluster.local/ns/safe/sa/attacker")
		})
	}
	t.Run("through the own ztunnel", func(t *testing.T) { w.denied(t, w.attacker, w.guarded) })
	t.Run("without the mesh", func(t *testing.T) { w.denied(t, w.stranger, w.guarded) })
}

// squatting lets a pod of the mesh listen where the mesh listens, or wants to.
func (w *world) squatting(t *testing.T) {
	for _, port := range []int{15001, 15006, 15008, 15053} {
		for _, addr := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1"), w.attacker.IP4(), w.attacker.IP6()} {
			for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
				if kind == unix.SOCK_DGRAM && port != 15053 {
					continue
				}
				err := within(w.attacker, func() error { return squat(addr, port, kind) })
				if err == nil {
					t.Errorf("a pod bound %s, socket type %d", netip.AddrPortFrom(addr, uint16(port)), kind)
				} else if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EADDRINUSE) {
					t.Errorf("%s, socket type %d: %v", netip.AddrPortFrom(addr, uint16(port)), kind, err)
				}
			}
		}
	}
}

// squat binds with every option that lets sockets share an address.
func squat(addr netip.Addr, port, kind int) error {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: addr.As16()})
	if addr.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return fmt.Errorf("option: %w", err)
		}
	}
	if err := unix.Bind(fd, to); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if kind == unix.SOCK_STREAM {
		return unix.Listen(fd, 1)
	}
	return nil
}

// forgedLines puts line breaks into what ztunnels log: no line of the log may be the attacker's own.
func (w *world) forgedLines(t *testing.T) {
	const line = "FORGED"
	p := newPeer(t, w.stranger, w.guarded, w.genuine(t)).begin(t)
	mark := w.mark(t, mesh.ZtunnelName("n2"))
	p.connect(at(w.guarded, echoPort), "baggage", "k8s.pod.name=%0a"+line+",service.name=%0A"+line+"%22", "traceparent", "\x00"+line)
	p.connect("%0a" + line + ".example:80")
	p.connect(strings.Repeat("a", 250) + ":80")
	w.logged(t, mesh.ZtunnelName("n2"), mark, "sa/attacker")
	text, err := w.lab.LogText(mesh.ZtunnelName("n2"))
	must(t, err)
	for l := range strings.Lines(text[mark:]) {
		if strings.HasPrefix(l, line) {
			t.Errorf("the attacker wrote a line of the log: %q", clip(l))
		}
	}
}
