package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/ambit-mesh/ambit/test/programs/result"
)

// dnsQuestion asks one question of the resolver in /etc/resolv.conf or of --server and shows the answer. It uses an
// unconnected socket over UDP, so that the answer's source address is what the kernel shows an application.
func dnsQuestion(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dns", flag.ContinueOnError)
	server := flags.String("server", "", "ip:port; empty: first nameserver of resolv.conf")
	kind := flags.String("type", "A", "record type")
	tcp := flags.Bool("tcp", false, "over TCP")
	timeout := flags.Duration("timeout", 3*time.Second, "limit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *server == "" {
		conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil || len(conf.Servers) == 0 {
			return fmt.Errorf("no nameserver in /etc/resolv.conf: %w", err)
		}
		*server = net.JoinHostPort(conf.Servers[0], "53")
	}
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(flags.Arg(0)), dns.StringToType[*kind])
	out := result.DNS{Server: *server}
	var answer *dns.Msg
	var err error
	if *tcp {
		out.From = *server
		answer, _, err = (&dns.Client{Net: "tcp", Timeout: *timeout}).ExchangeContext(ctx, question, *server)
	} else {
		answer, out.From, err = askUnconnected(question, *server, *timeout)
	}
	if err != nil {
		return err
	}
	out.Rcode = dns.RcodeToString[answer.Rcode]
	for _, record := range answer.Answer {
		switch record := record.(type) {
		case *dns.A:
			out.Answers = append(out.Answers, record.A.String())
		case *dns.AAAA:
			out.Answers = append(out.Answers, record.AAAA.String())
		default:
			out.Answers = append(out.Answers, record.String())
		}
	}
	return show(out)
}

func askUnconnected(question *dns.Msg, server string, timeout time.Duration) (*dns.Msg, string, error) {
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		return nil, "", err
	}
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	packed, err := question.Pack()
	if err != nil {
		return nil, "", err
	}
	if _, err := conn.WriteToUDP(packed, to); err != nil {
		return nil, "", err
	}
	buf := make([]byte, 64<<10)
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		return nil, "", err
	}
	answer := new(dns.Msg)
	if err := answer.Unpack(buf[:n]); err != nil {
		return nil, "", err
	}
	if answer.Id != question.Id {
		return nil, "", fmt.Errorf("answer to another question")
	}
	return answer, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()).String(), nil
}
