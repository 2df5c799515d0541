package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// dnsServer is the cluster's DNS as pods outside the mesh know it: Services of the manifest folder under cluster.local, and
// names given by --record as the rest of the world. It reads the folder anew for each question: always right, never fast.
func dnsServer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dnsd", flag.ContinueOnError)
	addr := flags.String("listen", ":53", "address, UDP and TCP")
	dir := flags.String("manifests", "", "folder of Kubernetes manifests")
	d := &directory{records: map[string][]net.IP{}}
	flags.Func("record", "name=ip of the outside world (may be repeated)", func(v string) error {
		name, ip, ok := strings.Cut(v, "=")
		if !ok || net.ParseIP(ip) == nil {
			return fmt.Errorf("%q is not name=ip", v)
		}
		d.records[dns.Fqdn(name)] = append(d.records[dns.Fqdn(name)], net.ParseIP(ip))
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	d.dir = *dir
	packet, err := net.ListenPacket("udp", *addr)
	if err != nil {
		return err
	}
	stream, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Println("listening", packet.LocalAddr())
	udp, tcp := &dns.Server{PacketConn: packet, Handler: d}, &dns.Server{Listener: stream, Handler: d}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(udp.ActivateAndServe)
	group.Go(tcp.ActivateAndServe)
	group.Go(func() error {
		<-ctx.Done()
		packet.Close()
		return stream.Close()
	})
	if err := group.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// directory answers from the folder and from the fixed records.
type directory struct {
	dir     string
	records map[string][]net.IP
}

// ServeDNS answers A and AAAA; any other type of a known name has no records.
func (d *directory) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(question)
	answer.Authoritative, answer.RecursionAvailable = true, true
	if len(question.Question) != 1 {
		answer.Rcode = dns.RcodeFormatError
		_ = w.WriteMsg(answer)
		return
	}
	q := question.Question[0]
	ips, known := d.lookup(strings.ToLower(q.Name))
	if !known {
		answer.Rcode = dns.RcodeNameError
	}
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 5}
	for _, ip := range ips {
		switch v4 := ip.To4(); {
		case q.Qtype == dns.TypeA && v4 != nil:
			answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: v4})
		case q.Qtype == dns.TypeAAAA && v4 == nil:
			answer.Answer = append(answer.Answer, &dns.AAAA{Hdr: header, AAAA: ip})
		}
	}
	fmt.Printf("question name=%s type=%s from=%s answers=%d\n", q.Name, dns.TypeToString[q.Qtype], w.RemoteAddr(), len(answer.Answer))
	_ = w.WriteMsg(answer)
}

func (d *directory) lookup(name string) (ips []net.IP, known bool) {
	if ips, ok := d.records[name]; ok {
		return ips, true
	}
	host, ok := strings.CutSuffix(name, ".svc.cluster.local.")
	if !ok {
		return nil, false
	}
	files, _ := filepath.Glob(filepath.Join(d.dir, "*.yaml"))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // removed meanwhile
		}
		for _, doc := range bytes.Split(content, []byte("\n---")) {
			var svc corev1.Service
			if yaml.Unmarshal(doc, &svc) != nil || svc.Kind != "Service" || host != svc.Name+"."+svc.Namespace {
				continue
			}
			known = true
			for _, ip := range append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...) {
				if parsed := net.ParseIP(ip); parsed != nil && !contains(ips, parsed) {
					ips = append(ips, parsed)
				}
			}
		}
	}
	return ips, known
}

func contains(ips []net.IP, ip net.IP) bool {
	for _, have := range ips {
		if have.Equal(ip) {
			return true
		}
	}
	return false
}
