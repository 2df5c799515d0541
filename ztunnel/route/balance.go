package route

import (
	"cmp"
	"slices"
	"sort"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// tier is endpoints of equal standing, with the running sum of their weights for a choice in logarithmic time.
type tier struct {
	rank      int
	endpoints []*state.Workload
	sums      []int // sums[i] is the weight of endpoints[:i+1]
}

// question is what the order of a service's endpoints depends on besides the service and the endpoints themselves.
type question struct {
	place       *state.Place
	network     string
	cluster     string
	port        uint16
	forWaypoint bool
}

// tiersOf orders the usable endpoints of a service as seen from src, best tier first. Tiers beyond the first serve when
// the first could not be reached. The result is remembered with the endpoints.
func tiersOf(svc *state.Service, eps *state.Endpoints, src *state.Workload, port uint16, forWaypoint bool) []tier {
	q := question{src.Place, src.Network, src.ClusterID, port, forWaypoint}
	return eps.Derive(q, func() any { return makeTiers(svc, eps, src, port, forWaypoint) }).([]tier)
}

func makeTiers(svc *state.Service, eps *state.Endpoints, src *state.Workload, port uint16, forWaypoint bool) []tier {
	byRank := map[int]*tier{}
	for _, w := range eps.All() {
		if w.Capacity == 0 || !usable(svc, w, src, port, forWaypoint) {
			continue
		}
		rank, ok := rankOf(svc.Balancing, src, w)
		if !ok {
			continue
		}
		t := byRank[rank]
		if t == nil {
			t = &tier{rank: rank}
			byRank[rank] = t
		}
		sum := int(w.Capacity)
		if n := len(t.sums); n > 0 {
			sum += t.sums[n-1]
		}
		t.endpoints, t.sums = append(t.endpoints, w), append(t.sums, sum)
	}
	tiers := make([]tier, 0, len(byRank))
	for _, t := range byRank {
		tiers = append(tiers, *t)
	}
	slices.SortFunc(tiers, func(a, b tier) int { return cmp.Compare(b.rank, a.rank) })
	return tiers
}

// usable reports whether w can take connections to a port of the service (ztunnel.md 3.5).
func usable(svc *state.Service, w, src *state.Workload, port uint16, forWaypoint bool) bool {
	if w.Unhealthy && !svc.Balancing.AllowAll {
		return false
	}
	if len(w.Addresses) == 0 && w.Hostname == "" && (w.Network == src.Network || w.Gateway == nil) {
		return false
	}
	if forWaypoint && w.AppTunnel.Present {
		return true
	}
	_, ok := targetPort(svc, w, port)
	return ok
}

// targetPort is the port of w behind a port of the service: what the endpoint says, else what the service says, else
// the service's own port where an application tunnel replaces the port anyway.
func targetPort(svc *state.Service, w *state.Workload, port uint16) (uint16, bool) {
	p, listed := svc.Port(port)
	if listed {
		if m, ok := w.Membership(svc.Key()); ok {
			if t := m.Target(port); t != 0 {
				return t, true
			}
		}
		if p.Target != 0 {
			return p.Target, true
		}
	}
	if w.AppTunnel.Port != 0 {
		return port, true
	}
	return 0, false
}

// rankOf says how well w suits src: higher is better; false excludes it.
func rankOf(b state.Balancing, src, w *state.Workload) (int, bool) {
	switch b.Mode {
	case state.ModeStrict:
		for _, s := range b.Preference {
			if !near(s, src, w) {
				return 0, false
			}
		}
		return 0, true
	case state.ModeFailover:
		return failoverRank(b.Preference, src, w), true
	default:
		return 0, true
	}
}

// failoverRank counts matches up to the first mismatch. A leading network preference weighs more than all others
// together, and a mismatch there does not end the count: remote endpoints are ordered by the rest.
func failoverRank(preference []state.Scope, src, w *state.Workload) int {
	rank := 0
	for i, s := range preference {
		switch match := near(s, src, w); {
		case match && i == 0 && s == state.ScopeNetwork:
			rank += len(preference)
		case match:
			rank++
		case i == 0 && s == state.ScopeNetwork:
		default:
			return rank
		}
	}
	return rank
}

// near compares one field, alone: equal zones do not imply equal regions.
func near(s state.Scope, src, w *state.Workload) bool {
	switch s {
	case state.ScopeRegion:
		return src.Region == w.Region
	case state.ScopeZone:
		return src.Zone == w.Zone
	case state.ScopeSubzone:
		return src.Subzone == w.Subzone
	case state.ScopeNode:
		return src.Node == w.Node
	case state.ScopeCluster:
		return src.ClusterID == w.ClusterID
	case state.ScopeNetwork:
		return src.Network == w.Network
	default:
		return false
	}
}

// choose picks an endpoint by weight from the best tier that has one not to be avoided, or nil.
func choose(tiers []tier, avoid []string, pick Pick) *state.Workload {
	for i := range tiers {
		t := &tiers[i]
		if len(avoid) > 0 {
			t = t.less(avoid)
		}
		if len(t.endpoints) == 0 {
			continue
		}
		n := pick(t.sums[len(t.sums)-1])
		return t.endpoints[sort.SearchInts(t.sums, n+1)]
	}
	return nil
}

// less is the tier without the endpoints to be avoided.
func (t *tier) less(avoid []string) *tier {
	out := &tier{rank: t.rank}
	sum := 0
	for _, w := range t.endpoints {
		if slices.Contains(avoid, w.UID) {
			continue
		}
		sum += int(w.Capacity)
		out.endpoints, out.sums = append(out.endpoints, w), append(out.sums, sum)
	}
	return out
}
