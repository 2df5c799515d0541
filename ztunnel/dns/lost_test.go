package dns

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// buggy panics over the first answer that is its own.
type buggy struct {
	Metrics
	once atomic.Bool
}

func (b *buggy) Request(q Query, o Outcome) {
	if o != Forward && !b.once.Swap(true) {
		panic("a bug")
	}
	b.Metrics.Request(q, o)
}

// A bug costs one question over UDP, or one connection over TCP; the others are answered.
func TestLostToABug(t *testing.T) {
	const local = "cart.shop.svc.cluster.local."
	for _, network := range []string{"udp", "tcp"} {
		for name, question := range map[string]string{"at once": local, "forwarding": "outside.example."} {
			t.Run(network+", "+name, func(t *testing.T) {
				lost := make(chan any, 8)
				addr, _, _ := serve(t, func(c *Config) {
					c.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
					c.Dial = func(context.Context, string, netip.AddrPort) (net.Conn, error) { panic("a bug") }
					if question == local {
						c.Metrics = &buggy{Metrics: c.Metrics}
					}
					c.Guard = func(string) {
						if r := recover(); r != nil {
							lost <- r
						}
					}
				}, podLine, "service shop/cart.shop.svc.cluster.local vip=10.9.0.1")
				conn, err := net.Dial(network, addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				q := new(dns.Msg)
				if err := (&dns.Conn{Conn: conn}).WriteMsg(q.SetQuestion(question, dns.TypeA)); err != nil {
					t.Fatal(err)
				}
				if r := <-lost; r != "a bug" {
					t.Errorf("recovered from %v", r)
				}
				if m := query(t, network, addr, local, dns.TypeA, 0); len(m.Answer) != 1 {
					t.Errorf("the next question: %v", m)
				}
			})
		}
	}
}
