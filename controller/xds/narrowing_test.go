package xds

import (
	"slices"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// scopes publishes policies "ns/p:all" or "ns/p:some", each form of its own content, and workloads "w:ns/p,ns/q" that name them.
func scopes(t *testing.T, tab *Table, items ...string) {
	t.Helper()
	addr, pol := map[string]*workload.Address{}, map[string]*authz.Authorization{}
	for _, it := range items {
		name, rest, _ := strings.Cut(it, ":")
		switch {
		case !strings.Contains(name, "/"):
			addr[name] = wl(name, "n1", "")
			addr[name].GetWorkload().AuthorizationPolicies = strings.FieldsFunc(rest, func(r rune) bool { return r == ',' })
		case rest == "":
			pol[name] = nil
		case strings.HasPrefix(rest, "all"):
			pol[name] = &authz.Authorization{Name: rest, Scope: authz.Scope_NAMESPACE}
		default:
			pol[name] = &authz.Authorization{Name: rest, Scope: authz.Scope_WORKLOAD_SELECTOR}
		}
	}
	if err := tab.Publish(addr, pol, epoch); err != nil {
		t.Fatal(err)
	}
}

// TestOrderOfScopes: in which order a client hears of a policy that is for others from now on.
func TestOrderOfScopes(t *testing.T) {
	for _, c := range []struct{ name, before, after, want string }{
		{"namespace to selector", "ns/p:all w: v:", "ns/p:some w:ns/p", "+w +ns/p"},
		{"selector to namespace", "ns/p:some w:ns/p v:", "ns/p:all w:", "+ns/p +w"},
		{"new selector", "w:", "ns/p:some w:ns/p", "+ns/p +w"},
		{"rules only", "ns/p:some1 w:ns/p", "ns/p:some2", "+ns/p"},
		{"other selector and rules", "ns/p:some1 w:ns/p v:", "ns/p:some2 v:ns/p w:", "+ns/p +v +w"},
		{"nothing selected", "ns/p:all w:", "ns/p:some", "+ns/p"},
		{"renamed", "ns/p:some w:ns/p", "ns/p: ns/q:some w:ns/q", "+ns/q +w -ns/p"},
		{"renamed, with a selector now", "ns/p:all w:", "ns/p: ns/q:some w:ns/q", "+ns/q +w -ns/p"},
		{"removed", "ns/p:some w:ns/p", "ns/p: w:", "+w -ns/p"},
		{"one new, one with a selector now", "ns/p:all w:", "ns/p:some ns/q:some w:ns/p,ns/q", "+ns/q +w +ns/p"},
		{"one gone, one with a selector now", "ns/p:all ns/q:all w:", "ns/p:some ns/q: w:ns/p", "+w +ns/p -ns/q"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := NewTable()
			scopes(t, tab, strings.Fields(c.before)...)
			p := newPeer(t, tab)
			p.connect()
			p.settle()
			scopes(t, tab, strings.Fields(c.after)...)
			if got := p.settle(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if !p.s.current(tab) {
				t.Error("the client is not up to date")
			}
			scopes(t, tab, "x:")
			if got := p.settle(); got != "+x" {
				t.Errorf("later: %q", got)
			}
		})
	}
}

// TestNarrowedWhileAway: a client comes back, to another process, with a policy in a version that nobody here knows.
func TestNarrowedWhileAway(t *testing.T) {
	tab := NewTable()
	scopes(t, tab, "ns/p:all", "w:")
	p := newPeer(t, tab)
	p.connect()
	p.settle()
	p.tab = NewTable()
	scopes(t, p.tab, "ns/p:some", "ns/new:some", "w:ns/p,ns/new")
	p.connect()
	if got, want := p.settle(), "+ns/new +w +ns/p"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNarrowedWhileWorkloadsAreInFlight: the selector's new workloads are told with the next response, and the policy after that.
func TestNarrowedWhileWorkloadsAreInFlight(t *testing.T) {
	tab := NewTable()
	scopes(t, tab, "ns/p:all", "w:")
	p := newPeer(t, tab)
	p.connect()
	p.settle()
	scopes(t, tab, "w:ns/other", "ns/other:some")
	r, _ := p.next()
	p.ack(r)
	r, _ = p.next() // w, in flight
	scopes(t, tab, "ns/p:some", "w:ns/p")
	if early, got := p.next(); early != nil {
		t.Fatalf("sent before the workload that names it: %v", got)
	}
	p.ack(r)
	if _, got := p.next(); !slices.Equal(got, []string{"+w"}) {
		t.Fatalf("then %v", got)
	}
	if _, got := p.next(); !slices.Equal(got, []string{"+ns/p"}) { // w need not be answered: it comes first on the stream
		t.Fatalf("last %v", got)
	}
}

// TestNarrowedTwice: what the client holds counts, not what came between.
func TestNarrowedTwice(t *testing.T) {
	tab := NewTable()
	scopes(t, tab, "ns/p:some", "w:ns/p")
	p := newPeer(t, tab)
	p.connect()
	p.settle()
	scopes(t, tab, "ns/p:all", "w:")
	scopes(t, tab, "ns/p:some2", "w:ns/p")
	if got, want := p.settle(), "+ns/p +w"; got != want {
		t.Errorf("one that never had it for all: got %q, want %q", got, want)
	}
	scopes(t, tab, "ns/p:all", "w:")
	p.settle()
	scopes(t, tab, "ns/p:some3", "w:ns/p")
	scopes(t, tab, "ns/p:some4")
	if got, want := p.settle(), "+w +ns/p"; got != want {
		t.Errorf("one that had it: got %q, want %q", got, want)
	}
}

// TestNotCurrentWhileNarrowing: a policy that waits is part of what a change takes.
func TestNotCurrentWhileNarrowing(t *testing.T) {
	tab := NewTable()
	scopes(t, tab, "ns/p:all", "w:")
	p := newPeer(t, tab)
	p.connect()
	p.settle()
	scopes(t, tab, "ns/p:some", "ns/q:some", "w:ns/p,ns/q")
	first, got := p.next() // in flight while the next is sent
	if _, then := p.next(); !slices.Equal(got, []string{"+ns/q"}) || !slices.Equal(then, []string{"+w"}) {
		t.Fatalf("got %v and %v", got, then)
	}
	if r, _ := p.next(); r != nil || p.s.current(tab) {
		t.Error("said to be up to date with a policy outstanding")
	}
	p.ack(first)
	if _, got := p.next(); !slices.Equal(got, []string{"+ns/p"}) {
		t.Errorf("then %v", got)
	}
}
