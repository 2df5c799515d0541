package hostile

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// meshPorts are all that the mesh listens on, somewhere.
var meshPorts = []uint16{15000, 15001, 15006, 15008, 15020, 15021, 15053}

// ports calls every port of the mesh from a pod inside and one outside of it, at every address where one may be (ztunnel.md
// 12.5, malicious_calls). Nothing comes back, but for metrics and readiness at the ztunnel's own address, which are public.
func (w *world) ports(t *testing.T) {
	ztunnel, err := w.lab.Pod(mesh.ZtunnelPod("n1"))
	must(t, err)
	far, err := w.lab.Pod(mesh.ZtunnelPod("n2"))
	must(t, err)
	for _, from := range []netlab.Pod{w.attacker, w.stranger} {
		var calls sync.WaitGroup
		for name, addr := range map[string]netip.Addr{
			"its ztunnel": ztunnel.IP4(), "its ztunnel over IPv6": ztunnel.IP6(), "another node's ztunnel": far.IP4(), "itself": from.IP4(), "itself over IPv6": from.IP6(),
			"loopback": netip.MustParseAddr("127.0.0.1"), "loopback over IPv6": netip.IPv6Loopback(), "a pod of the mesh": w.victim.IP4(),
		} {
			for _, port := range meshPorts {
				calls.Go(func() {
					to := netip.AddrPortFrom(addr, port)
					got, err := call(t.Context(), from, to.String())
					public := strings.Contains(name, "ztunnel") && (port == 15020 || port == 15021)
					switch {
					case public && !strings.HasPrefix(got, "HTTP/1.1 404 "):
						t.Errorf("%s to %s at %s, which is public: %q (%v)", from.Name, name, to, clip(got), err)
					case !public && got != "":
						t.Errorf("%s to %s at %s: %q", from.Name, name, to, clip(got))
					case err != nil && strings.Contains(err.Error(), "left open"):
						t.Errorf("%s to %s at %s: %v", from.Name, name, to, err)
					}
				})
			}
		}
		calls.Wait()
	}
}

// call connects, asks for the configuration by HTTP, ends its half, and returns what came until the other side ended its own.
func call(ctx context.Context, from netlab.Pod, to string) (string, error) {
	conn, err := dial(ctx, from, to, 3*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET /config_dump HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	if err := conn.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	var slow net.Error
	if asTimeout(err, &slow) {
		err = fmt.Errorf("left open: %w", err)
	}
	return string(answer), err
}

func clip(s string) string { return s[:min(len(s), 80)] }
