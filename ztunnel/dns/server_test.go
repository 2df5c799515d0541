package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen binds one port for both protocols.
func listen(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var err error
	for range 100 { // the other protocol may have the port in use
		udp, e := net.ListenPacket("udp", "127.0.0.1:0")
		if e != nil {
			t.Fatal(e)
		}
		tcp, e := net.Listen("tcp", udp.LocalAddr().String())
		if e == nil {
			return udp, tcp
		}
		udp.Close()
		err = e
	}
	t.Fatal(err)
	return nil, nil
}

// upstream is a nameserver that a test scripts.
func upstream(t *testing.T, answer func(w dns.ResponseWriter, q *dns.Msg)) netip.AddrPort {
	t.Helper()
	udp, tcp := listen(t)
	u := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(answer)}
	l := &dns.Server{Listener: tcp, Handler: dns.HandlerFunc(answer)}
	done := make(chan struct{}, 2)
	for _, s := range []*dns.Server{u, l} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() {
			s.ActivateAndServe()
			done <- struct{}{}
		}()
		<-up
	}
	t.Cleanup(func() {
		u.Shutdown()
		l.Shutdown()
		<-done
		<-done
	})
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

func echo(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	switch name := q.Question[0].Name; {
	case strings.HasPrefix(name, "gone."):
		m.Rcode = dns.RcodeNameError
	case strings.HasPrefix(name, "big."):
		for i := range 200 {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(name, dns.TypeA), A: net.IPv4(192, 0, 2, byte(i))})
		}
	case q.Question[0].Qtype == dns.TypeMX:
		m.Answer = append(m.Answer, &dns.MX{Hdr: header(name, dns.TypeMX), Mx: "mail.example.org.", Preference: 5})
	default:
		m.Answer = append(m.Answer, &dns.A{Hdr: header(name, dns.TypeA), A: net.IPv4(192, 0, 2, 1)})
	}
	w.WriteMsg(m)
}

type counts struct{ requests, forwards, failures, refused atomic.Int32 }

func (c *counts) Request(Query, Outcome) { c.requests.Add(1) }
func (c *counts) Forwarded(_ Query, _ time.Duration, err error) {
	c.forwards.Add(1)
	if err != nil {
		c.failures.Add(1)
	}
}
func (c *counts) Refused(Query, Refusal) { c.refused.Add(1) }

func dialUpstream(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, server.String())
}

// serve starts a server for pod shop/web with the given lines of state.
func serve(t *testing.T, change func(*Config), lines ...string) (addr string, c *counts, store *state.Store) {
	t.Helper()
	cfg := state.Config{Node: "n1"}
	u, err := statetest.Parse(&cfg, lines)
	if err != nil {
		t.Fatal(err)
	}
	store = state.NewStore(cfg)
	store.Apply(u)
	c = &counts{}
	conf := Config{
		Store: store, Pod: state.LocalKey{Namespace: "shop", Name: "web", ServiceAccount: "web"}, Names: Names{Domain: "cluster.local"},
		Dial: dialUpstream, Pick: func(n int) int { return n - 1 }, Metrics: c, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&conf)
	}
	s := New(conf)
	udp, tcp := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- s.ServeUDP(ctx, udp) }()
	go func() { done <- s.ServeTCP(ctx, tcp) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("server ended with %v", err)
			}
		}
	})
	return udp.LocalAddr().String(), c, store
}

const podLine = "workload web ip=10.0.0.1 node=n1"

func query(t *testing.T, network, addr, name string, qtype uint16, edns int) *dns.Msg {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	if edns > 0 {
		q.SetEdns0(uint16(edns), true)
	}
	c := &dns.Client{Net: network, Timeout: 20 * time.Second}
	m, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	return m
}

func TestLocalAnswers(t *testing.T) {
	addr, c, _ := serve(t, nil, podLine, "service shop/cart.shop.svc.cluster.local vip=10.9.0.1,10.9.0.2", "service shop/api.example.com vip=240.0.0.1")
	for _, network := range []string{"udp", "tcp"} {
		m := query(t, network, addr, "Cart.shop.svc.cluster.local.", dns.TypeA, 1232)
		if len(m.Answer) != 2 || !m.Authoritative || !m.RecursionAvailable || m.Answer[0].Header().Ttl != TTL || m.Answer[0].Header().Name != "Cart.shop.svc.cluster.local." {
			t.Errorf("%s: %v", network, m)
		}
		if opt := m.IsEdns0(); opt == nil || !opt.Do() {
			t.Errorf("%s: EDNS is not echoed", network)
		}
		m = query(t, network, addr, "cart.shop.svc.cluster.local.", dns.TypeAAAA, 0)
		if len(m.Answer) != 0 || m.Rcode != dns.RcodeSuccess || m.IsEdns0() != nil {
			t.Errorf("%s: AAAA %v", network, m)
		}
		m = query(t, network, addr, "api.example.com.shop.svc.cluster.local.", dns.TypeA, 0)
		if len(m.Answer) != 2 || m.Answer[0].(*dns.CNAME).Target != "api.example.com." || m.Answer[1].Header().Name != "api.example.com." {
			t.Errorf("%s: search domain: %v", network, m)
		}
	}
	if c.requests.Load() != 6 || c.forwards.Load() != 0 {
		t.Errorf("%d requests, %d forwards", c.requests.Load(), c.forwards.Load())
	}
}

func TestTruncation(t *testing.T) {
	lines := []string{podLine, "service shop/many.shop.svc.cluster.local"}
	for i := range 256 {
		lines = append(lines, "workload e"+netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String()+" ip="+netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String()+" svc=shop/many.shop.svc.cluster.local")
	}
	addr, _, _ := serve(t, nil, lines...)
	m := query(t, "udp", addr, "many.shop.svc.cluster.local.", dns.TypeA, 0)
	m.Compress = true
	if !m.Truncated || len(m.Answer) == 0 || m.Len() > minUDP {
		t.Errorf("over UDP: truncated=%v, %d records, %d bytes", m.Truncated, len(m.Answer), m.Len())
	}
	if n := query(t, "udp", addr, "many.shop.svc.cluster.local.", dns.TypeA, 1232); !n.Truncated || len(n.Answer) <= len(m.Answer) {
		t.Errorf("with EDNS: truncated=%v, %d records", n.Truncated, len(n.Answer))
	}
	if m := query(t, "tcp", addr, "many.shop.svc.cluster.local.", dns.TypeA, 0); m.Truncated || len(m.Answer) != 256 {
		t.Errorf("over TCP: truncated=%v, %d records", m.Truncated, len(m.Answer))
	}
}

func TestForwarding(t *testing.T) {
	server := upstream(t, echo)
	addr, c, _ := serve(t, func(c *Config) { c.Servers = []netip.AddrPort{server} }, podLine)
	for _, network := range []string{"udp", "tcp"} {
		m := query(t, network, addr, "www.example.org.", dns.TypeA, 0)
		if len(m.Answer) != 1 || m.Authoritative || !m.RecursionAvailable {
			t.Errorf("%s: %v", network, m)
		}
		if m := query(t, network, addr, "gone.example.org.", dns.TypeA, 0); m.Rcode != dns.RcodeNameError {
			t.Errorf("%s: rcode %d", network, m.Rcode)
		}
		if m := query(t, network, addr, "cart.shop.svc.cluster.local.", dns.TypeMX, 0); len(m.Answer) != 1 {
			t.Errorf("%s: MX %v", network, m)
		}
		m = query(t, network, addr, "big.example.org.", dns.TypeA, 0)
		if m.Truncated != (network == "udp") || network == "tcp" && len(m.Answer) != 200 {
			t.Errorf("%s: big answer truncated=%v, %d records", network, m.Truncated, len(m.Answer))
		}
	}
	if c.forwards.Load() != 8 || c.failures.Load() != 0 {
		t.Errorf("%d forwards, %d failures", c.forwards.Load(), c.failures.Load())
	}
}

// TestServersAreTriedInTurn: a server that cannot be dialled is followed by the next; with none left it is SERVFAIL.
func TestServersAreTriedInTurn(t *testing.T) {
	server := upstream(t, echo)
	dead := netip.MustParseAddrPort("192.0.2.1:53")
	dial := func(ctx context.Context, network string, s netip.AddrPort) (net.Conn, error) {
		if s == dead {
			return nil, errors.New("no route to host")
		}
		return dialUpstream(ctx, network, s)
	}
	addr, _, _ := serve(t, func(c *Config) { c.Dial, c.Servers = dial, []netip.AddrPort{dead, server} }, podLine)
	if m := query(t, "udp", addr, "www.example.org.", dns.TypeA, 0); len(m.Answer) != 1 {
		t.Errorf("second server: %v", m)
	}
	asked := func(client, local net.Addr) (netip.AddrPort, bool) { return dead, true }
	addr, c, _ := serve(t, func(c *Config) { c.Dial, c.Servers, c.Asked = dial, []netip.AddrPort{server}, asked }, podLine)
	if m := query(t, "udp", addr, "www.example.org.", dns.TypeA, 0); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("the server that was addressed does not answer, and another was asked: %v", m)
	}
	if c.failures.Load() != 1 {
		t.Errorf("%d failures", c.failures.Load())
	}
	nobody := func(ctx context.Context, network string, s netip.AddrPort) (net.Conn, error) {
		if s == dead {
			return nil, fmt.Errorf("dial: %w", ErrNotKnown)
		}
		return dialUpstream(ctx, network, s)
	}
	addr, _, _ = serve(t, func(c *Config) { c.Dial, c.Servers, c.Asked = nobody, []netip.AddrPort{server}, asked }, podLine)
	if m := query(t, "udp", addr, "www.example.org.", dns.TypeA, 0); len(m.Answer) != 1 {
		t.Errorf("nothing tells which server was addressed, and none was asked: %v", m)
	}
}

// TestSpoofedAnswersAreIgnored: only the answer to the question that was asked counts.
func TestSpoofedAnswersAreIgnored(t *testing.T) {
	server := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if _, udp := w.RemoteAddr().(*net.UDPAddr); !udp {
			return
		}
		bad := new(dns.Msg)
		bad.SetReply(q)
		bad.Id++
		bad.Answer = []dns.RR{&dns.A{Hdr: header(q.Question[0].Name, dns.TypeA), A: net.IPv4(6, 6, 6, 6)}}
		w.WriteMsg(bad)
		bad.Id--
		bad.Question[0].Name = "evil.example.org."
		w.WriteMsg(bad)
		w.Write([]byte{1, 2, 3})
		bad.SetReply(q)
		bad.Response = false
		w.WriteMsg(bad)
		echo(w, q)
	})
	addr, _, _ := serve(t, func(c *Config) { c.Servers = []netip.AddrPort{server} }, podLine)
	m := query(t, "udp", addr, "www.example.org.", dns.TypeA, 0)
	if len(m.Answer) != 1 || !m.Answer[0].(*dns.A).A.Equal(net.IPv4(192, 0, 2, 1)) {
		t.Errorf("%v", m)
	}
}

func TestRefusals(t *testing.T) {
	addr, c, _ := serve(t, nil, podLine)
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	rcode := func(raw []byte) int {
		t.Helper()
		conn.Write(raw)
		buf := make([]byte, 512)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatal(err)
		}
		return m.Rcode
	}
	build := func(change func(*dns.Msg)) []byte {
		q := new(dns.Msg)
		q.SetQuestion("www.example.org.", dns.TypeA)
		change(q)
		raw, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if got := rcode(build(func(q *dns.Msg) { q.Opcode = dns.OpcodeNotify })); got != dns.RcodeNotImplemented {
		t.Errorf("NOTIFY: %d", got)
	}
	if got := rcode(build(func(q *dns.Msg) { q.Question = nil })); got != dns.RcodeFormatError {
		t.Errorf("no question: %d", got)
	}
	if got := rcode(build(func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) })); got != dns.RcodeFormatError {
		t.Errorf("two questions: %d", got)
	}
	if got := rcode(build(func(q *dns.Msg) {})[:20]); got != dns.RcodeFormatError {
		t.Errorf("cut: %d", got)
	}
	if got := rcode(build(func(q *dns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) })); got != dns.RcodeBadVers&0xf && got != dns.RcodeBadVers {
		t.Errorf("EDNS version 1: %d", got)
	}
	// Nothing to forward to.
	if got := rcode(build(func(q *dns.Msg) {})); got != dns.RcodeServerFailure {
		t.Errorf("no nameserver: %d", got)
	}
	// Neither responses nor fragments of a header are answered: the next answer is to the next question.
	conn.Write(build(func(q *dns.Msg) { q.Response = true }))
	conn.Write([]byte{1, 2, 3})
	if got := rcode(build(func(q *dns.Msg) { q.Opcode = dns.OpcodeNotify })); got != dns.RcodeNotImplemented {
		t.Errorf("after noise: %d", got)
	}
	if c.refused.Load() < 7 {
		t.Errorf("%d refusals counted", c.refused.Load())
	}
}

// TestUnknownPodIsAwaited: questions of a pod that has not arrived wait for it, and fail in the end.
func TestUnknownPodIsAwaited(t *testing.T) {
	addr, _, store := serve(t, nil, "service shop/cart.shop.svc.cluster.local vip=10.9.0.1")
	got := make(chan *dns.Msg)
	go func() {
		q := new(dns.Msg)
		q.SetQuestion("cart.", dns.TypeA)
		m, _, _ := (&dns.Client{Timeout: 20 * time.Second}).Exchange(q, addr)
		got <- m
	}()
	cfg := state.Config{}
	u, err := statetest.Parse(&cfg, []string{podLine})
	if err != nil {
		t.Fatal(err)
	}
	store.Apply(u)
	if m := <-got; m == nil || len(m.Answer) != 1 {
		t.Errorf("after the pod arrived: %v", m)
	}
	addr, c, _ := serve(t, func(c *Config) { c.Wait = time.Nanosecond }, "service shop/cart.shop.svc.cluster.local vip=10.9.0.1")
	if m := query(t, "udp", addr, "cart.", dns.TypeA, 0); m.Rcode != dns.RcodeServerFailure || c.refused.Load() != 1 {
		t.Errorf("never arrived: %v", m)
	}
}

// TestTooManyPending: with a nameserver that never answers, the limit holds and the mesh's own names are still answered.
func TestTooManyPending(t *testing.T) {
	block := make(chan struct{})
	dial := func(ctx context.Context, network string, s netip.AddrPort) (net.Conn, error) {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return nil, errors.New("never")
	}
	addr, c, _ := serve(t, func(c *Config) { c.Dial, c.Servers = dial, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")} },
		podLine, "service shop/cart.shop.svc.cluster.local vip=10.9.0.1")
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q := new(dns.Msg)
	q.SetQuestion("www.example.org.", dns.TypeA)
	raw, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 512)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	for c.refused.Load() == 0 {
		conn.Write(raw)
		if c.requests.Load() > maxPending+1000 {
			t.Fatal("no limit")
		}
	}
	if n, err := conn.Read(buf); err != nil || n == 0 {
		t.Fatalf("the refused one got no answer: %v", err)
	}
	// The flood may have filled the server's socket, and UDP loses: ask again, as a resolver does.
	own := new(dns.Msg)
	own.SetQuestion("cart.shop.svc.cluster.local.", dns.TypeA)
	for {
		m, _, err := (&dns.Client{Timeout: time.Second}).Exchange(own, addr)
		if err == nil && len(m.Answer) == 1 {
			break
		}
		if err == nil || t.Context().Err() != nil {
			t.Fatalf("own names while the limit is hit: %v, %v", m, err)
		}
	}
	close(block)
}

// FuzzQuery sends anything to the parser and the answerer.
func FuzzQuery(f *testing.F) {
	q := new(dns.Msg)
	q.SetQuestion("cart.shop.svc.cluster.local.", dns.TypeA)
	q.SetEdns0(1232, true)
	raw, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	for n := range raw {
		f.Add(raw[:n])
	}
	f.Add(raw)
	cfg := state.Config{}
	u, err := statetest.Parse(&cfg, []string{podLine, "service shop/cart.shop.svc.cluster.local vip=10.9.0.1"})
	if err != nil {
		f.Fatal(err)
	}
	store := state.NewStore(cfg)
	store.Apply(u)
	s := New(Config{
		Store: store, Pod: state.LocalKey{Namespace: "shop", Name: "web", ServiceAccount: "web"}, Names: Names{Domain: "cluster.local"},
		Pick: func(int) int { return 0 }, Log: slog.New(slog.DiscardHandler),
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, ok := s.parse(raw, false)
		if !ok {
			return
		}
		msg, done := s.atOnce(q, udpSize(q))
		if done && len(msg) > maxUDP {
			t.Fatalf("answer of %d bytes", len(msg))
		}
		if done && msg != nil {
			if err := new(dns.Msg).Unpack(msg); err != nil {
				t.Fatalf("answer cannot be read: %v", err)
			}
		}
		if !done && len(raw) >= headerSize {
			answers(raw, raw, q)
			if _, err := fit(raw, 100); err == nil && len(raw) > 100 {
				ours(raw, 1)
			}
		}
	})
}
