package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Query is a question as metrics see it.
type Query struct {
	Client *state.Workload // nil if unknown
	Type   uint16
	TCP    bool
}

// Refusal is why a question was not dealt with.
type Refusal string

// The refusals.
const (
	Malformed     Refusal = "Malformed"     // not a DNS query
	TooMany       Refusal = "TooMany"       // a limit on concurrent questions or connections was hit
	ClientUnknown Refusal = "ClientUnknown" // the pod did not become known in time
)

// Metrics counts; every method may be called at any time.
type Metrics interface {
	Request(q Query, outcome Outcome)
	Forwarded(q Query, took time.Duration, err error)
	Refused(q Query, why Refusal)
}

// Config is what a Server needs. All functions may be called from several goroutines.
type Config struct {
	Store *state.Store
	Pod   state.LocalKey // whose questions these are
	Names Names
	NoV6  bool // the pod has no IPv6: AAAA questions about the mesh get no records
	Dial  Dial
	// Asked is what to dial for the nameserver that the application addressed, as far as known, given the two ends of the
	// socket on which the question arrived. May be nil.
	Asked func(client, local net.Addr) (netip.AddrPort, bool)
	// Servers are asked in this order where Asked does not know, and where Dial says ErrNotKnown of what it told.
	Servers []netip.AddrPort
	Pick    func(n int) int
	Metrics Metrics // may be nil
	Log     *slog.Logger
	// Wait bounds how long a question waits for the pod to be known and the first synchronisation. Zero is 5 s.
	Wait time.Duration
	// Guard is deferred around each question, and each connection: it recovers from a panic and says so, and what panicked is
	// not answered. Nil lets panics through.
	Guard func(what string)
}

// The bounds of one pod.
const (
	maxPending = 256              // questions being forwarded or waiting
	maxConns   = 64               // TCP connections
	idleTCP    = 10 * time.Second // between questions on one
	writeTCPIn = 5 * time.Second
	readBuffer = maxUDP // of a question over UDP; longer ones are cut and so malformed
	waitState  = 5 * time.Second
)

// Server answers one pod.
type Server struct {
	cfg     Config
	pending chan struct{}
}

// New makes a server.
func New(cfg Config) *Server {
	if cfg.Metrics == nil {
		cfg.Metrics = noMetrics{}
	}
	if cfg.Guard == nil {
		cfg.Guard = func(string) {}
	}
	if cfg.Wait == 0 {
		cfg.Wait = waitState
	}
	return &Server{cfg: cfg, pending: make(chan struct{}, maxPending)}
}

// ServeUDP answers what arrives on a socket until ctx ends or the socket fails. It closes the socket. All goroutines it
// started have ended when it returns.
func (s *Server) ServeUDP(ctx context.Context, conn net.PacketConn) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, readBuffer)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			conn.Close()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("dns socket: %w", err)
		}
		s.datagram(ctx, &wg, conn, from, buf[:n])
	}
}

// datagram answers a question that came over UDP, or begins to; wg counts what is left to do. It keeps no part of raw.
func (s *Server) datagram(ctx context.Context, wg *sync.WaitGroup, conn net.PacketConn, from net.Addr, raw []byte) {
	defer s.cfg.Guard("dns")
	q, ok := s.parse(raw, false)
	if !ok {
		return
	}
	answer := func(msg []byte) {
		if msg != nil {
			conn.WriteTo(msg, from) // a client that is gone is no error of ours
		}
	}
	if msg, done := s.atOnce(q, udpSize(q)); done {
		answer(msg)
		return
	}
	select {
	case s.pending <- struct{}{}:
	default:
		s.cfg.Metrics.Refused(Query{Type: kind(q)}, TooMany)
		answer(s.refuse(q, dns.RcodeServerFailure))
		return
	}
	raw = append([]byte(nil), raw...)
	wg.Go(func() {
		defer func() { <-s.pending }()
		defer s.cfg.Guard("dns")
		answer(s.answer(ctx, q, raw, false, udpSize(q), from, conn.LocalAddr()))
	})
}

// ServeTCP answers on the connections that a listener accepts until ctx ends or the listener fails. It closes the
// listener. All goroutines it started have ended when it returns.
func (s *Server) ServeTCP(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := l.Accept()
		if err != nil {
			l.Close()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("dns listener: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			s.cfg.Metrics.Refused(Query{TCP: true}, TooMany)
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer s.cfg.Guard("dns")
			s.converse(ctx, conn)
		})
	}
}

// converse answers the questions of one connection, one after the other.
func (s *Server) converse(ctx context.Context, conn net.Conn) {
	for {
		conn.SetReadDeadline(time.Now().Add(idleTCP))
		raw, err := readTCP(conn)
		if err != nil {
			return // the client is done, or stalls
		}
		q, ok := s.parse(raw, true)
		if !ok {
			return
		}
		msg, done := s.atOnce(q, maxMessage)
		if !done {
			msg = s.answer(ctx, q, raw, true, maxMessage, conn.RemoteAddr(), conn.LocalAddr())
		}
		if msg == nil {
			return
		}
		conn.SetWriteDeadline(time.Now().Add(writeTCPIn))
		if writeTCP(conn, msg) != nil {
			return
		}
	}
}

// parse reads a query. Responses are dropped without an answer: answering them could go on for ever between two servers.
func (s *Server) parse(raw []byte, tcp bool) (*dns.Msg, bool) {
	q := new(dns.Msg)
	err := q.Unpack(raw)
	if len(raw) < headerSize || q.Response {
		s.cfg.Metrics.Refused(Query{TCP: tcp}, Malformed)
		return nil, false
	}
	if err != nil {
		q.Question, q.Answer, q.Ns, q.Extra = nil, nil, nil, nil // check will refuse it
	}
	return q, true
}

// atOnce answers what needs no waiting: what is malformed, and names of the mesh.
func (s *Server) atOnce(q *dns.Msg, limit int) (msg []byte, done bool) {
	if rcode := check(q); rcode != dns.RcodeSuccess {
		s.cfg.Metrics.Refused(Query{Type: kind(q), TCP: limit == maxMessage}, Malformed)
		return s.refuse(q, rcode), true
	}
	if !aboutAddress(q) {
		return nil, false
	}
	snap := s.cfg.Store.Load()
	w := snap.Local(s.cfg.Pod)
	if w == nil || !snap.Synced() {
		return nil, false
	}
	return s.local(snap, w, q, limit)
}

// local answers from a snapshot; false means that the question is to be passed on.
func (s *Server) local(snap *state.Snapshot, w *state.Workload, q *dns.Msg, limit int) ([]byte, bool) {
	one := q.Question[0]
	a := Lookup(snap, s.cfg.Names, Question{
		Name: trimDot(one.Name), IPv6: one.Qtype == dns.TypeAAAA, Namespace: w.Namespace, Network: w.Network,
	}, s.cfg.Pick)
	s.cfg.Metrics.Request(Query{Client: w, Type: one.Qtype, TCP: limit == maxMessage}, a.Outcome)
	if a.Outcome == Forward {
		return nil, false
	}
	if s.cfg.NoV6 && one.Qtype == dns.TypeAAAA {
		a.Addrs = nil
	}
	msg, err := pack(reply(q, a), limit)
	if err != nil {
		s.cfg.Log.Error("dns answer cannot be encoded", "err", err, "pod", s.cfg.Pod.Namespace+"/"+s.cfg.Pod.Name)
		return s.refuse(q, dns.RcodeServerFailure), true
	}
	s.cfg.Log.Debug("dns", "pod", s.cfg.Pod.Namespace+"/"+s.cfg.Pod.Name, "query", one.Name, "result", a.Outcome.String(), "endpoints", len(a.Addrs))
	return msg, true
}

// answer deals with what may take time: a pod not known yet, and forwarding. nil means that there is nothing to say,
// because the server ends.
func (s *Server) answer(ctx context.Context, q *dns.Msg, raw []byte, tcp bool, limit int, client, local net.Addr) []byte {
	query := Query{Type: kind(q), TCP: tcp}
	snap := s.cfg.Store.Load()
	w := snap.Local(s.cfg.Pod)
	waited := w == nil || !snap.Synced()
	if waited {
		wait, cancel := context.WithTimeout(ctx, s.cfg.Wait)
		defer cancel()
		var err error
		snap, err = s.cfg.Store.Wait(wait, func(n *state.Snapshot) bool {
			w = n.Local(s.cfg.Pod)
			return w != nil && n.Synced()
		})
		if err != nil {
			s.cfg.Metrics.Refused(query, ClientUnknown)
			return s.refuse(q, dns.RcodeServerFailure)
		}
	}
	query.Client = w
	if waited && aboutAddress(q) {
		if msg, done := s.local(snap, w, q, limit); done {
			return msg
		}
	}
	if !aboutAddress(q) {
		s.cfg.Metrics.Request(query, Forward)
	}
	begun := time.Now()
	msg, err := forward(ctx, s.cfg.Dial, s.serversFor(client, local), tcp, dns.Id(), raw, q)
	if errors.Is(err, ErrNotKnown) {
		msg, err = forward(ctx, s.cfg.Dial, s.cfg.Servers, tcp, dns.Id(), raw, q)
	}
	if err == nil {
		msg, err = fit(msg, limit)
	}
	s.cfg.Metrics.Forwarded(query, time.Since(begun), err)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil
		}
		s.cfg.Log.DebugContext(ctx, "dns forwarding came to nothing", "pod", s.cfg.Pod.Namespace+"/"+s.cfg.Pod.Name, "query", q.Question[0].Name, "err", err)
		return s.refuse(q, dns.RcodeServerFailure)
	}
	return msg
}

// serversFor is whom to ask: the one that the application addressed, and nobody else, if that is known.
func (s *Server) serversFor(client, local net.Addr) []netip.AddrPort {
	if s.cfg.Asked != nil {
		if server, ok := s.cfg.Asked(client, local); ok {
			return []netip.AddrPort{server}
		}
	}
	return s.cfg.Servers
}

// refuse encodes a refusal; nil if even that cannot be.
func (s *Server) refuse(q *dns.Msg, rcode int) []byte {
	msg, err := refusal(q, rcode).Pack()
	if err != nil {
		return nil
	}
	return msg
}

// aboutAddress reports a question that the mesh may know the answer to.
func aboutAddress(q *dns.Msg) bool {
	one := q.Question[0]
	return one.Qclass == dns.ClassINET && (one.Qtype == dns.TypeA || one.Qtype == dns.TypeAAAA)
}

func kind(q *dns.Msg) uint16 {
	if len(q.Question) == 0 {
		return 0
	}
	return q.Question[0].Qtype
}

func trimDot(name string) string {
	if n := len(name); n > 1 && name[n-1] == '.' {
		return name[:n-1]
	}
	return name
}

type noMetrics struct{}

func (noMetrics) Request(Query, Outcome)                {}
func (noMetrics) Forwarded(Query, time.Duration, error) {}
func (noMetrics) Refused(Query, Refusal)                {}
