package api

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func samples() []Message {
	pod := &Pod{
		Uid: "0a1b", Name: "web-0", Namespace: "shop", ServiceAccount: "web", NetnsCookie: 77, Dns: true,
		Addresses:   Bytes([]netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::1")}),
		Nameservers: Bytes([]netip.Addr{netip.MustParseAddr("10.96.0.10")}),
	}
	kinds := []ListenerKind{ListenerKind_OUTBOUND, ListenerKind_DNS_UDP}
	return []Message{
		&ToAgent{Seq: 1, Message: &ToAgent_Hello{Hello: &Hello{MinVersion: 1, Version: 3, Instance: "i", Build: "b"}}},
		&ToAgent{Seq: 2, Message: &ToAgent_ReturnPod{ReturnPod: &ReturnPod{Pod: pod, Kinds: kinds}}},
		&ToAgent{Seq: 3, Message: &ToAgent_ReturnDone{ReturnDone: &ReturnDone{}}},
		&ToAgent{Seq: 4, Message: &ToAgent_Ack{Ack: &Ack{Of: 2, Error: "no"}}},
		&ToAgent{Seq: 5, Message: &ToAgent_SocketRequest{SocketRequest: &SocketRequest{Uid: "0a1b", Kind: SocketKind_UDP6, Count: 64}}},
		&ToAgent{Seq: 6, Message: &ToAgent_Ready{Ready: &Ready{}}},
		&ToAgent{Seq: 7, Message: &ToAgent_Draining{Draining: &Draining{}}},
		&ToZtunnel{Seq: 1, Message: &ToZtunnel_Welcome{Welcome: &Welcome{Version: 1, Node: "n"}}},
		&ToZtunnel{Seq: 2, Message: &ToZtunnel_Refuse{Refuse: &Refuse{Reason: "r"}}},
		&ToZtunnel{Seq: 3, Message: &ToZtunnel_AddPod{AddPod: &AddPod{Pod: pod, Kinds: kinds}}},
		&ToZtunnel{Seq: 4, Message: &ToZtunnel_KeepPod{KeepPod: &KeepPod{Uid: "0a1b"}}},
		&ToZtunnel{Seq: 5, Message: &ToZtunnel_DelPod{DelPod: &DelPod{Uid: "0a1b", Reason: DelPod_LEFT}}},
		&ToZtunnel{Seq: 6, Message: &ToZtunnel_SnapshotSent{SnapshotSent: &SnapshotSent{}}},
		&ToZtunnel{Seq: 7, Message: &ToZtunnel_Sockets{Sockets: &Sockets{Request: 5, Uid: "0a1b", Kind: SocketKind_TCP6, Count: 9}}},
		&ToZtunnel{Seq: 8, Message: &ToZtunnel_Drain{Drain: &Drain{DeadlineUnixMs: 5}}},
	}
}

// like makes an empty message of m's type.
func like(m Message) Message { return m.ProtoReflect().New().Interface().(Message) }

func TestEveryMessageDecodesAndNoPrefixPanics(t *testing.T) {
	for _, m := range samples() {
		packet, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		fds, err := m.check()
		if err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		got := like(m)
		if err := Decode(packet, fds, got); err != nil || !proto.Equal(m, got) {
			t.Errorf("%v came back as %v, %v", m, got, err)
		}
		if err := Decode(packet, fds+1, like(m)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%v with a surplus descriptor: %v", m, err)
		}
		for n := range packet {
			if err := Decode(packet[:n], fds, like(m)); err != nil && !errors.Is(err, ErrProtocol) {
				t.Errorf("prefix of %d bytes: %v", n, err)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	pod := func(change func(*Pod)) *ToZtunnel {
		p := &Pod{Uid: "u", Name: "n", Namespace: "s"}
		change(p)
		return &ToZtunnel{Seq: 1, Message: &ToZtunnel_AddPod{AddPod: &AddPod{Pod: p}}}
	}
	add := func(kinds ...ListenerKind) *ToZtunnel {
		m := pod(func(*Pod) {})
		m.GetAddPod().Kinds = kinds
		return m
	}
	request := func(r *SocketRequest) *ToAgent {
		return &ToAgent{Seq: 1, Message: &ToAgent_SocketRequest{SocketRequest: r}}
	}
	answer := func(s *Sockets) *ToZtunnel {
		return &ToZtunnel{Seq: 1, Message: &ToZtunnel_Sockets{Sockets: s}}
	}
	cases := map[string]struct {
		m   Message
		fds int
	}{
		"no seq":            {&ToAgent{Message: &ToAgent_Ready{Ready: &Ready{}}}, 0},
		"no message":        {&ToAgent{Seq: 1}, 0},
		"no message back":   {&ToZtunnel{Seq: 1}, 0},
		"hello of nobody":   {&ToAgent{Seq: 1, Message: &ToAgent_Hello{Hello: &Hello{Version: 1}}}, 0},
		"ack of nothing":    {&ToAgent{Seq: 1, Message: &ToAgent_Ack{Ack: &Ack{}}}, 0},
		"pod missing":       {&ToZtunnel{Seq: 1, Message: &ToZtunnel_AddPod{AddPod: &AddPod{}}}, 0},
		"no uid":            {pod(func(p *Pod) { p.Uid = "" }), 0},
		"long uid":          {pod(func(p *Pod) { p.Uid = long }), 0},
		"long name":         {pod(func(p *Pod) { p.Name = long }), 0},
		"odd address":       {pod(func(p *Pod) { p.Addresses = [][]byte{{1, 2, 3}} }), 0},
		"mapped address":    {pod(func(p *Pod) { m := netip.MustParseAddr("::ffff:1.2.3.4").As16(); p.Addresses = [][]byte{m[:]} }), 0},
		"many nameservers":  {pod(func(p *Pod) { p.Nameservers = slices.Repeat([][]byte{{1, 2, 3, 4}}, MaxAddresses+1) }), 0},
		"kind twice":        {add(ListenerKind_HBONE, ListenerKind_HBONE), 2},
		"kind unknown":      {add(99), 1},
		"kind unspecified":  {add(0), 1},
		"no sockets asked":  {request(&SocketRequest{Uid: "u", Kind: SocketKind_TCP4}), 0},
		"too many sockets":  {request(&SocketRequest{Uid: "u", Kind: SocketKind_TCP4, Count: MaxFds + 1}), 0},
		"strange sockets":   {request(&SocketRequest{Uid: "u", Kind: 9, Count: 1}), 0},
		"unasked sockets":   {answer(&Sockets{Uid: "u", Kind: SocketKind_TCP4, Count: 1}), 1},
		"error and sockets": {answer(&Sockets{Request: 1, Uid: "u", Kind: SocketKind_TCP4, Count: 1, Error: "e"}), 1},
		"neither":           {answer(&Sockets{Request: 1, Uid: "u", Kind: SocketKind_TCP4}), 0},
		"reason unknown":    {&ToZtunnel{Seq: 1, Message: &ToZtunnel_DelPod{DelPod: &DelPod{Uid: "u"}}}, 0},
	}
	for name, c := range cases {
		packet, err := proto.Marshal(c.m)
		if err != nil {
			t.Fatal(err)
		}
		if err := Decode(packet, c.fds, like(c.m)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: got %v, want ErrProtocol", name, err)
		}
	}
}

func TestNegotiate(t *testing.T) {
	cases := []struct{ ourMin, ourMax, min, max, want uint32 }{
		{1, 1, 1, 1, 1}, {1, 3, 1, 2, 2}, {2, 3, 1, 5, 3}, {2, 3, 1, 1, 0}, {1, 1, 2, 4, 0}, {1, 1, 0, 1, 0}, {1, 3, 3, 2, 0},
	}
	for _, c := range cases {
		got, err := negotiate(c.ourMin, c.ourMax, c.min, c.max)
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%+v: got %d, %v", c, got, err)
		}
	}
	if got, err := Negotiate(MinVersion, Version); got != Version || err != nil {
		t.Errorf("this build and itself: %d, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		packet, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		fds, _ := m.check()
		_, toAgent := m.(*ToAgent)
		f.Add(packet, fds, toAgent)
	}
	f.Fuzz(func(t *testing.T, packet []byte, fds int, toAgent bool) {
		var m Message = &ToZtunnel{}
		if toAgent {
			m = &ToAgent{}
		}
		err := Decode(packet, fds, m)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("not the peer's fault: %v", err)
			}
			return
		}
		// What was accepted can be said again and means the same.
		again, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > MaxMessage {
			return
		}
		second := like(m)
		if err := Decode(again, fds, second); err != nil || !proto.Equal(m, second) {
			t.Fatalf("%v came back as %v, %v", m, second, err)
		}
	})
}
