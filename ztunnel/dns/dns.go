// Package dns answers what address a name of the mesh has, for the applications of a pod, and passes every other question
// on to the server that the application asked.
//
// Lookup is pure: a snapshot, a client and a name in, an answer out. Server is the thin part: it reads questions from
// sockets that it is given, and forwards through a dial function that it is given; it opens no socket itself and knows
// no policy. One Server serves one pod. Lookup may be called from any goroutine; a Server's methods too.
package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// TTL is how long, in seconds, applications may remember an answer of ours.
const TTL = 30

// Outcome is what is to become of a question. The zero value passes it on.
type Outcome uint8

// The outcomes.
const (
	Forward Outcome = iota // not a name of the mesh
	Found                  // there are addresses
	Empty                  // a name of the mesh without addresses of this family: NOERROR, no records
)

// String is the outcome as logs and metrics name it.
func (o Outcome) String() string {
	switch o {
	case Found:
		return "success"
	case Empty:
		return "no records"
	default:
		return "forwarded"
	}
}

// Question is what a pod asks.
type Question struct {
	Name string // without the final dot
	IPv6 bool   // AAAA, else A
	// Namespace and Network of the pod that asks.
	Namespace string
	Network   string
}

// Names says how names are completed.
type Names struct {
	// Domain is the cluster's, such as cluster.local.
	Domain string
	// Preferred is the namespace whose service is meant where several match and none is the client's or canonical.
	Preferred string
}

// Answer is what a snapshot says.
type Answer struct {
	Outcome Outcome
	// Alias is what the name stands for, if it was completed by a search domain: a CNAME leads there.
	Alias   string
	Addrs   []netip.Addr
	Service *state.Service // nil for Forward
}

// Lookup answers from a snapshot (ztunnel.md section 9). The addresses are shuffled by pick, which chooses a number in
// [0, n).
func Lookup(s *state.Snapshot, n Names, q Question, pick func(n int) int) Answer {
	name := strings.ToLower(q.Name)
	for _, c := range candidates(name, q.Namespace, n.Domain) {
		svc, wildcard := find(s, n, q, c.name)
		if svc == nil {
			continue
		}
		a := Answer{Outcome: Found, Service: svc, Addrs: addresses(s, svc, q)}
		if c.stripped != "" && !wildcard {
			a.Alias = c.stripped
		}
		if len(a.Addrs) == 0 {
			a.Outcome = Empty
		}
		for i := len(a.Addrs) - 1; i > 0; i-- {
			j := pick(i + 1)
			a.Addrs[i], a.Addrs[j] = a.Addrs[j], a.Addrs[i]
		}
		return a
	}
	return Answer{}
}

// candidate is a name that the question may mean; stripped is the question less a search domain, if one was taken off.
type candidate struct{ name, stripped string }

// candidates lists what a name may mean, best first: itself, what Kubernetes would complete it to, and the same for what
// remains when a search domain, which the application's resolver added, is taken off.
func candidates(name, namespace, domain string) []candidate {
	var out []candidate
	add := func(name, stripped string) {
		if !slices.ContainsFunc(out, func(c candidate) bool { return c.name == name }) {
			out = append(out, candidate{name, stripped})
		}
	}
	with := func(base, stripped string) {
		add(base, stripped)
		for _, full := range expansions(base, namespace, domain) {
			add(full, stripped)
		}
	}
	with(name, "")
	for _, search := range []string{namespace + ".svc." + domain, "svc." + domain, domain} {
		if base, ok := strings.CutSuffix(name, "."+search); ok && base != "" {
			with(base, base)
		}
	}
	return out
}

// expansions completes a short Kubernetes name.
func expansions(name, namespace, domain string) []string {
	svc := strings.HasSuffix(name, ".svc")
	switch strings.Count(name, ".") {
	case 0:
		return []string{name + "." + namespace + ".svc." + domain}
	case 1:
		return []string{name + ".svc." + domain, name + "." + namespace + ".svc." + domain}
	case 2:
		if svc {
			return []string{name + "." + domain, name + ".svc." + domain}
		}
		return []string{name + ".svc." + domain}
	case 3:
		if svc {
			return []string{name + "." + domain}
		}
	}
	return nil
}

// find looks for a service of exactly that hostname, then for wildcards, the most specific first.
func find(s *state.Snapshot, n Names, q Question, name string) (svc *state.Service, wildcard bool) {
	if svc := choose(s.ServicesNamed(name), n, q); svc != nil {
		return svc, false
	}
	for {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return nil, false
		}
		if svc := choose(s.ServicesNamed("*."+rest), n, q); svc != nil {
			return svc, true
		}
		name = rest
	}
}

// choose picks among the services of a hostname: the client's own, the canonical one, the preferred namespace's, the
// first.
func choose(list []*state.Service, n Names, q Question) *state.Service {
	best, score := (*state.Service)(nil), -1
	for _, svc := range list {
		if !svc.VisibleTo(q.Namespace) || !answerable(svc, n.Domain) {
			continue
		}
		rank := 0
		switch {
		case svc.Namespace == q.Namespace:
			rank = 3
		case svc.Canonical:
			rank = 2
		case n.Preferred != "" && svc.Namespace == n.Preferred:
			rank = 1
		}
		if rank > score {
			best, score = svc, rank
		}
	}
	return best
}

// answerable reports whether there can be an answer: a service without virtual address is headless in Kubernetes, but a
// name of the outside world otherwise.
func answerable(svc *state.Service, domain string) bool {
	return len(svc.VIPs) > 0 || strings.HasSuffix(svc.Hostname, ".svc."+domain)
}

// addresses are those of the asked family: the virtual ones in the client's network, or for a headless service one of
// each endpoint that takes connections.
func addresses(s *state.Snapshot, svc *state.Service, q Question) []netip.Addr {
	fits := func(ip netip.Addr) bool { return ip.Is6() == q.IPv6 && svc.Families.Accepts(ip) }
	var out []netip.Addr
	if len(svc.VIPs) > 0 {
		for _, v := range svc.VIPs {
			if v.Network == q.Network && fits(v.IP) {
				out = append(out, v.IP)
			}
		}
		return out
	}
	for _, w := range s.Endpoints(svc.Key()).All() {
		if w.Unhealthy && !svc.Balancing.AllowAll {
			continue
		}
		if i := slices.IndexFunc(w.Addresses, fits); i >= 0 {
			out = append(out, w.Addresses[i])
		}
	}
	return out
}
