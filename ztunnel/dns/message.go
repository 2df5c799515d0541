package dns

import (
	"net/netip"

	"github.com/miekg/dns"
)

// The bounds of messages, in bytes.
const (
	minUDP     = 512   // what every client takes (RFC 1035 4.2.1)
	maxUDP     = 4096  // the most we send over UDP, and the most we announce
	maxMessage = 65535 // over TCP
	headerSize = 12
)

// refusal is an answer without records.
func refusal(q *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(q, rcode)
	m.RecursionAvailable = true
	echoEDNS(m, q)
	return m
}

// reply is the message for an answer of ours. name is as the client wrote it.
func reply(q *dns.Msg, a Answer) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	m.RecursionAvailable = true
	m.Compress = true
	owner := q.Question[0].Name
	if a.Alias != "" && len(a.Addrs) > 0 {
		target := dns.Fqdn(a.Alias)
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: target})
		owner = target
	}
	for _, ip := range a.Addrs {
		m.Answer = append(m.Answer, record(owner, ip))
	}
	echoEDNS(m, q)
	return m
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: TTL}
}

func record(name string, ip netip.Addr) dns.RR {
	if ip.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: ip.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: ip.AsSlice()}
}

// echoEDNS answers EDNS with EDNS (RFC 6891 6.1.1).
func echoEDNS(m, q *dns.Msg) {
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDP, opt.Do())
	}
}

// udpSize is how much the client takes over UDP.
func udpSize(q *dns.Msg) int {
	if opt := q.IsEdns0(); opt != nil {
		return min(max(int(opt.UDPSize()), minUDP), maxUDP)
	}
	return minUDP
}

// pack encodes, truncated to limit if need be.
func pack(m *dns.Msg, limit int) ([]byte, error) {
	m.Truncate(limit)
	return m.Pack()
}

// check says why a query cannot be answered here or passed on, as a response code; RcodeSuccess if it can.
func check(q *dns.Msg) int {
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case len(q.Question) != 1:
		return dns.RcodeFormatError
	}
	if opt := q.IsEdns0(); opt != nil && opt.Version() != 0 {
		return dns.RcodeBadVers
	}
	return dns.RcodeSuccess
}
