package api

import (
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"
)

// Bounds of a message. What is over them is refused, never cut.
const (
	MaxMessage   = 64 << 10
	MaxFds       = 253 // the kernel's SCM_MAX_FD
	MaxName      = 253 // bytes of a uid, name, namespace, service account, instance, build
	MaxText      = 4096
	MaxAddresses = 32
	MaxKinds     = 8
)

// ErrProtocol wraps every error that a peer caused by what it sent; the connection cannot go on.
var ErrProtocol = errors.New("hand-off protocol violated")

// Message is a *ToAgent or a *ToZtunnel.
type Message interface {
	proto.Message
	GetSeq() uint64
	// check answers how many descriptors travel beside the message, or why it is not acceptable.
	check() (fds int, err error)
}

// Decode reads a packet that came with nfds descriptors into m. Whatever the bytes are, the result is a message within all
// bounds or an error that wraps ErrProtocol.
func Decode(packet []byte, nfds int, m Message) error {
	if len(packet) > MaxMessage {
		return fmt.Errorf("%w: a message of %d bytes", ErrProtocol, len(packet))
	}
	if err := proto.Unmarshal(packet, m); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	want, err := m.check()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if want != nfds {
		return fmt.Errorf("%w: %d descriptors beside a message that announces %d", ErrProtocol, nfds, want)
	}
	return nil
}

func (m *ToAgent) check() (int, error) {
	if m.Seq == 0 {
		return 0, errors.New("a message without a sequence number")
	}
	switch v := m.Message.(type) {
	case *ToAgent_Hello:
		return 0, errors.Join(text("instance", v.Hello.GetInstance(), 1, MaxName), text("build", v.Hello.GetBuild(), 0, MaxName))
	case *ToAgent_ReturnPod:
		return checkPod(v.ReturnPod.GetPod(), v.ReturnPod.GetKinds())
	case *ToAgent_Ack:
		if v.Ack.GetOf() == 0 {
			return 0, errors.New("an acknowledgement of nothing")
		}
		return 0, text("error", v.Ack.GetError(), 0, MaxText)
	case *ToAgent_SocketRequest:
		if n := v.SocketRequest.GetCount(); n < 1 || n > MaxFds {
			return 0, fmt.Errorf("a request for %d sockets", n)
		}
		return 0, errors.Join(text("uid", v.SocketRequest.GetUid(), 1, MaxName), socketKind(v.SocketRequest.GetKind()))
	case *ToAgent_ReturnDone, *ToAgent_Ready, *ToAgent_Draining:
		return 0, nil
	default:
		return 0, errors.New("a message of unknown kind")
	}
}

func (m *ToZtunnel) check() (int, error) {
	if m.Seq == 0 {
		return 0, errors.New("a message without a sequence number")
	}
	switch v := m.Message.(type) {
	case *ToZtunnel_Welcome:
		return 0, text("node", v.Welcome.GetNode(), 0, MaxName)
	case *ToZtunnel_Refuse:
		return 0, text("reason", v.Refuse.GetReason(), 0, MaxText)
	case *ToZtunnel_AddPod:
		return checkPod(v.AddPod.GetPod(), v.AddPod.GetKinds())
	case *ToZtunnel_KeepPod:
		return 0, text("uid", v.KeepPod.GetUid(), 1, MaxName)
	case *ToZtunnel_DelPod:
		if r := v.DelPod.GetReason(); r != DelPod_GONE && r != DelPod_LEFT {
			return 0, fmt.Errorf("a pod that ends for reason %d", r)
		}
		return 0, text("uid", v.DelPod.GetUid(), 1, MaxName)
	case *ToZtunnel_Sockets:
		return checkSockets(v.Sockets)
	case *ToZtunnel_SnapshotSent, *ToZtunnel_Drain:
		return 0, nil
	default:
		return 0, errors.New("a message of unknown kind")
	}
}

func checkPod(p *Pod, kinds []ListenerKind) (int, error) {
	if p == nil {
		return 0, errors.New("a message without its pod")
	}
	seen := map[ListenerKind]bool{}
	for _, k := range kinds {
		if k < ListenerKind_OUTBOUND || k > ListenerKind_DNS_UDP || seen[k] {
			return 0, fmt.Errorf("listener kind %d, unknown or named twice", k)
		}
		seen[k] = true
	}
	return len(kinds), errors.Join(
		text("uid", p.GetUid(), 1, MaxName),
		text("name", p.GetName(), 1, MaxName),
		text("namespace", p.GetNamespace(), 1, MaxName),
		text("service account", p.GetServiceAccount(), 0, MaxName),
		addresses("addresses", p.GetAddresses()),
		addresses("nameservers", p.GetNameservers()),
	)
}

func checkSockets(s *Sockets) (int, error) {
	if s.GetRequest() == 0 {
		return 0, errors.New("sockets that nobody asked for")
	}
	if n := s.GetCount(); n > MaxFds || (n > 0) == (s.GetError() != "") {
		return 0, fmt.Errorf("%d sockets with error %.64q", n, s.GetError())
	}
	return int(s.GetCount()), errors.Join(text("uid", s.GetUid(), 1, MaxName), socketKind(s.GetKind()),
		text("error", s.GetError(), 0, MaxText))
}

func socketKind(k SocketKind) error {
	if k < SocketKind_TCP4 || k > SocketKind_UDP6 {
		return fmt.Errorf("unknown socket kind %d", k)
	}
	return nil
}

func text(what, s string, least, most int) error {
	if len(s) < least || len(s) > most {
		return fmt.Errorf("%s of %d bytes, want %d to %d", what, len(s), least, most)
	}
	return nil
}

func addresses(what string, list [][]byte) error {
	if len(list) > MaxAddresses {
		return fmt.Errorf("%d %s", len(list), what)
	}
	for _, b := range list {
		if a, ok := netip.AddrFromSlice(b); !ok || a.Is4In6() {
			return fmt.Errorf("%s: %x is no address", what, b)
		}
	}
	return nil
}

// Addrs turns the addresses of a checked message into values.
func Addrs(list [][]byte) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(list))
	for _, b := range list {
		if a, ok := netip.AddrFromSlice(b); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// Bytes is the inverse of Addrs. Mapped IPv4 addresses become IPv4, zones are dropped.
func Bytes(addrs []netip.Addr) [][]byte {
	list := make([][]byte, 0, len(addrs))
	for _, a := range addrs {
		list = append(list, a.Unmap().WithZone("").AsSlice())
	}
	return list
}
