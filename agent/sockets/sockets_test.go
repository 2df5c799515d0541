package sockets

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/api/apitest"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/netns/netnstest"
	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// tags remembers what was tagged, and fails when told to.
type tags struct {
	listeners map[api.ListenerKind]int
	outgoing  int
	failAt    int
}

var errTag = errors.New("no socket storage")

func (t *tags) TagListener(fd int, kind api.ListenerKind) error {
	if name, err := unix.Getsockname(fd); err != nil || portOf(name) != 0 {
		return fmt.Errorf("tagged after bind to %d, %v", portOf(name), err)
	}
	if t.listeners == nil {
		t.listeners = map[api.ListenerKind]int{}
	}
	t.listeners[kind]++
	if t.failAt > 0 && len(t.listeners) >= t.failAt {
		return errTag
	}
	return nil
}

func (t *tags) TagOutgoing(int) error {
	t.outgoing++
	if t.failAt > 0 && t.outgoing >= t.failAt {
		return errTag
	}
	return nil
}

var kinds = []api.ListenerKind{
	api.ListenerKind_OUTBOUND, api.ListenerKind_INBOUND, api.ListenerKind_HBONE, api.ListenerKind_DNS_TCP, api.ListenerKind_DNS_UDP,
}

func namespace(t *testing.T) (*netns.Handle, uint64) {
	t.Helper()
	h, cookie := netnstest.New(t)
	if err := h.Do(loopbackUp); err != nil {
		t.Fatal(err)
	}
	return h, cookie
}

// loopbackUp brings lo up in the calling thread's namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

func TestListenersServeBothFamiliesInThePodOnly(t *testing.T) {
	h, cookie := namespace(t)
	before := apitest.OpenFds(t)
	tag := &tags{}
	fds, err := Listen(h, tag, kinds)
	if err != nil {
		t.Fatal(err)
	}
	for i, kind := range kinds {
		if err := Verify(fds[i], kind, cookie); err != nil {
			t.Error(err)
		}
		if tag.listeners[kind] != 1 {
			t.Errorf("%s was tagged %d times", kind, tag.listeners[kind])
		}
		if protocol, err := unix.GetsockoptInt(fds[i], unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil ||
			(protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_UDP) {
			t.Errorf("%s has protocol %d, %v", kind, protocol, err)
		}
		again, err := Namespace(fds[i])
		if err != nil {
			t.Fatal(err)
		}
		if again.ID() != h.ID() {
			t.Errorf("%s leads to namespace %v, want %v", kind, again.ID(), h.ID())
		}
		again.Close()
	}
	for _, address := range []string{"127.0.0.1:15001", "[::1]:15008"} {
		if err := h.Do(func() error {
			c, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err == nil {
				c.Close()
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	fds.Close()
	if after := apitest.OpenFds(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func TestVerifyRefusesOtherSockets(t *testing.T) {
	h, cookie := namespace(t)
	fds, err := Listen(h, &tags{}, kinds[:1])
	if err != nil {
		t.Fatal(err)
	}
	defer fds.Close()
	other, err := Outgoing(h, &tags{}, api.SocketKind_TCP4, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, err := range map[string]error{
		"another namespace":  Verify(fds[0], kinds[0], cookie+1),
		"another port":       Verify(fds[0], api.ListenerKind_HBONE, cookie),
		"another protocol":   Verify(fds[0], api.ListenerKind_DNS_UDP, cookie),
		"no listener":        Verify(other[0], kinds[0], cookie),
		"no socket":          Verify(int(file.Fd()), kinds[0], cookie),
		"no kind":            Verify(fds[0], 0, cookie),
		"closed descriptors": Verify(-1, kinds[0], cookie),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if h, err := Namespace(int(file.Fd())); err == nil {
		h.Close()
		t.Error("a file has a network namespace")
	}
}

func TestListenIsAllOrNothing(t *testing.T) {
	h, _ := namespace(t)
	before := apitest.OpenFds(t)
	if _, err := Listen(h, &tags{failAt: 3}, kinds); !errors.Is(err, errTag) {
		t.Errorf("got %v, want the tagger's error", err)
	}
	if _, err := Outgoing(h, &tags{failAt: 3}, api.SocketKind_TCP6, 5); !errors.Is(err, errTag) {
		t.Errorf("got %v, want the tagger's error", err)
	}
	fds, err := Listen(h, &tags{}, kinds[2:3])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(h, &tags{}, kinds); !errors.Is(err, ErrPortInUse) {
		t.Errorf("got %v, want ErrPortInUse", err)
	}
	fds.Close()
	if after := apitest.OpenFds(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func TestOutgoingSockets(t *testing.T) {
	h, cookie := namespace(t)
	for kind, want := range map[api.SocketKind][3]int{
		api.SocketKind_TCP4: {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP},
		api.SocketKind_TCP6: {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP},
		api.SocketKind_UDP4: {unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		api.SocketKind_UDP6: {unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	} {
		tag := &tags{}
		fds, err := Outgoing(h, tag, kind, 8)
		if err != nil || len(fds) != 8 || tag.outgoing != 8 {
			t.Fatalf("%s: %d sockets, %d tagged, %v", kind, len(fds), tag.outgoing, err)
		}
		var got [3]int
		for i, option := range []int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_PROTOCOL} {
			if got[i], err = unix.GetsockoptInt(fds[7], unix.SOL_SOCKET, option); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", kind, d)
		}
		if in, err := unix.GetsockoptUint64(fds[0], unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil || in != cookie {
			t.Errorf("%s lives in %d, want %d, %v", kind, in, cookie, err)
		}
		if want[1] == unix.SOCK_STREAM {
			if on, err := unix.GetsockoptInt(fds[0], unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT); err != nil || on != 1 {
				t.Errorf("%s: IP_BIND_ADDRESS_NO_PORT is %d, %v", kind, on, err)
			}
		}
		fds.Close()
	}
}

func TestResetEmptiesTheBacklog(t *testing.T) {
	h, _ := namespace(t)
	fds, err := Listen(h, &tags{}, []api.ListenerKind{api.ListenerKind_OUTBOUND, api.ListenerKind_DNS_UDP})
	if err != nil {
		t.Fatal(err)
	}
	defer fds.Close()
	var clients []net.Conn
	if err := h.Do(func() error {
		for _, target := range []string{"tcp/127.0.0.1:15001", "tcp/[::1]:15001", "udp/127.0.0.1:15053"} {
			network, address, _ := strings.Cut(target, "/")
			c, err := net.DialTimeout(network, address, 5*time.Second)
			if err != nil {
				return err
			}
			clients = append(clients, c)
		}
		_, err := clients[2].Write([]byte("query"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if n := Reset(fds[0], api.ListenerKind_OUTBOUND); n != 2 {
		t.Errorf("%d connections reset, want 2", n)
	}
	if n := Reset(fds[1], api.ListenerKind_DNS_UDP); n != 1 {
		t.Errorf("%d datagrams dropped, want 1", n)
	}
	for _, c := range clients[:2] {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the client sees %v, want a reset", err)
		}
	}
	for _, c := range clients {
		c.Close()
	}
	if n := Reset(fds[0], api.ListenerKind_OUTBOUND); n != 0 {
		t.Errorf("%d connections reset at an empty listener", n)
	}
}

func TestLimiter(t *testing.T) {
	l := NewLimiter(Limits{PerPod: 10, PerPodBurst: 8, PerNode: 10, PerNodeBurst: 12})
	now := time.Unix(1000, 0)
	for _, step := range []struct {
		pod   string
		n     int
		after time.Duration
		want  int
	}{
		{"a", 5, 0, 5},
		{"a", 5, 0, 3},
		{"a", 5, 0, 0},
		{"b", 8, 0, 4},
		{"b", 1, 0, 0},
		{"a", 5, 500 * time.Millisecond, 5},
		{"b", 5, 0, 0},
		{"b", 9, 10 * time.Second, 8},
	} {
		now = now.Add(step.after)
		if got := l.Grant(podUID(step.pod), step.n, now); got != step.want {
			t.Errorf("%+v: granted %d", step, got)
		}
	}
	l.Forget("a")
	if len(l.pods) != 1 {
		t.Errorf("%d pods remembered, want 1", len(l.pods))
	}
}

func podUID(s string) pods.UID { return pods.UID(s) }
