package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// names sends what is no DNS to the mesh's resolver from a pod inside, over UDP and TCP. It goes on answering, this pod and
// others.
func (w *world) names(t *testing.T) {
	text, err := w.lab.DNS()
	must(t, err)
	server := netip.AddrPortFrom(netip.MustParseAddr(text), 53).String()
	question := "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" // flags and counts of one question, after the id
	packets := []string{
		"", "x", strings.Repeat("\xff", 12), strings.Repeat("\x00", 12), strings.Repeat("\xff", 60_000),
		"id" + question, // the question is missing
		"id" + question + "\xc0\x0c\x00\x01\x00\x01",         // a name that points to itself
		"id" + question + strings.Repeat("\x3f", 300),        // labels without an end
		"id\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00\x00",     // an answer
		"id\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00", // counts of everything
		"id" + question + "\x01*\x00\x00\xff\x00\xff",        // any type of any class
		"id" + question + "\x07version\x04bind\x00\x00\x10\x00\x03",
	}
	w.counted(t, "n1", "ambit_ztunnel_dns_refused", map[string]string{"reason": "Malformed"}, 100, func() {
		must(t, within(w.attacker, func() error {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "udp", server)
			if err != nil {
				return err
			}
			defer conn.Close()
			for range 500 {
				for _, p := range packets {
					_, _ = conn.Write([]byte(p)) // a full queue, or an answer of ICMP, is no matter
				}
			}
			return nil
		}))
	})
	for _, p := range append(packets, "\xff\xff", "\x00\x00", "\xff\xffx") {
		for range 20 { // the last ones stall in a message: nobody else may wait for them
			conn, err := dial(t.Context(), w.attacker, server, 5*time.Second)
			must(t, err)
			defer conn.Close()
			_, _ = conn.Write([]byte(p))
		}
	}
	for _, from := range []netlab.Pod{w.attacker, w.client, w.neighbour} {
		w.poll(t, 5*time.Second, func() error { return w.resolves(t.Context(), from) })
	}
}

// resolves asks for a name outside of the cluster.
func (w *world) resolves(ctx context.Context, from netlab.Pod) error {
	out, err := w.lab.Exec(ctx, netlab.Spec{Pod: from.Ref(), Argv: []string{"labprog", "dns", "outside.example"}})
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		return fmt.Errorf("dns in %s: %w", from.Name, err)
	}
	var answer result.DNS
	if err := json.Unmarshal([]byte(out.Stdout), &answer); err != nil {
		return err
	}
	if len(answer.Answers) != 1 || answer.Answers[0] != "192.0.2.1" {
		return fmt.Errorf("dns in %s: %+v", from.Name, answer)
	}
	return nil
}
