package translate

import (
	"crypto/sha256"
	"encoding/hex"

	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/objects"
)

// kindShared is that of units which no object stands for: policies that several workloads name.
const kindShared objects.Kind = "~shared"

const onlyPrefix = "ambit_waypoint_only_"

// sharedPolicy is named after what it says, so that it never changes: workloads with the same guards name the same one, and it
// is there as long as one does.
type sharedPolicy struct {
	policy *authz.Authorization
	users  set[objects.Key]
}

// guardPolicy names the policy by which a node proxy admits to a workload's guarded ports the waypoints only; "" if no port is
// guarded.
//
// It is a DENY of everybody else: an ALLOW of the waypoints would let in whom other policies allow, and would shut the ports
// that are not guarded. A guard of no usable waypoint shuts its ports.
func (t *Translator) guardPolicy(user objects.Key, ports portGuards) string {
	if len(ports) == 0 {
		return ""
	}
	out := &authz.Authorization{Namespace: user.Namespace, Scope: authz.Scope_WORKLOAD_SELECTOR, Action: authz.Action_DENY}
	for _, r := range ports.rules() {
		m := &authz.Match{DestinationPorts: r.ports}
		for _, gw := range r.waypoints {
			for _, account := range t.accounts[gw] {
				for _, p := range t.aliases(t.set.TrustDomain + "/ns/" + gw.Namespace + "/sa/" + account) {
					m.NotPrincipals = append(m.NotPrincipals, &authz.StringMatch{MatchType: &authz.StringMatch_Exact{Exact: p}})
				}
			}
		}
		out.Groups = append(out.Groups, &authz.Group{Rules: []*authz.Rules{{Matches: []*authz.Match{m}}}})
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(out)
	if err != nil { // some name is not UTF-8: no API server stores such, and the workload's own encoding fails too
		return ""
	}
	sum := sha256.Sum256(data)
	out.Name = onlyPrefix + hex.EncodeToString(sum[:8])
	t.share(user, out)
	return PolicyName(out)
}

func sharedKey(p *authz.Authorization) objects.Key {
	return objects.Key{Kind: kindShared, Namespace: p.Namespace, Name: p.Name}
}

// share notes that a unit names the policy.
func (t *Translator) share(user objects.Key, p *authz.Authorization) {
	key := sharedKey(p)
	s := t.shared[key]
	if s == nil {
		s = &sharedPolicy{policy: p, users: set[objects.Key]{}}
		t.shared[key] = s
	}
	s.users.add(user)
	t.sharing[user] = key
	if len(s.users) == 1 {
		t.dirty.add(key)
	}
}

// release drops what a unit named the last time it was made.
func (t *Translator) release(user objects.Key) {
	key, ok := t.sharing[user]
	if !ok {
		return
	}
	delete(t.sharing, user)
	if s := t.shared[key]; s != nil {
		delete(s.users, user)
		if len(s.users) == 0 {
			t.dirty.add(key)
		}
	}
}

// sharedUnit is the unit of a shared policy.
func (t *Translator) sharedUnit(key objects.Key) unit {
	s := t.shared[key]
	if s == nil || len(s.users) == 0 {
		delete(t.shared, key)
		return unit{}
	}
	return unit{policies: []*authz.Authorization{s.policy}}
}
