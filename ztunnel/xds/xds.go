// Package xds answers what the control plane's resources mean to this node: it turns workload and authorization
// protobufs into state, strictly, and feeds a Store from controller/client.
//
// It judges resources, not connections. A resource that cannot be understood in full is refused with a reason (a NACK),
// and what was accepted before stays in force; a match is never widened by dropping what could not be read. Decoding is
// pure and may be done from any goroutine; a Feed belongs to the client's Run.
//
// Where this differs from Istio's ztunnel (ztunnel.md 5.4, 6.1):
//
//	input                                             ztunnel                  here
//	address or prefix of wrong length in a policy     entry dropped            resource refused
//	port above 65535                                  truncated                resource refused
//	unknown field, extension or match in a policy     ignored                  ALLOW: that part never matches;
//	                                                                           DENY: that part always matches
//	empty match in a DENY (only L7 attributes)        never matches            always matches
//	refused policy of which no version is known       as if it did not exist   connections it may concern are denied
//	name in the envelope differs from the content     accepted                 resource refused
package xds

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// decodeAddress reads an Address resource: one of the two results is not nil if there is no error.
func decodeAddress(name string, body []byte) (*state.Workload, *state.Service, error) {
	var a workload.Address
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, &a); err != nil {
		return nil, nil, fmt.Errorf("address: %w", err)
	}
	switch t := a.GetType().(type) {
	case *workload.Address_Workload:
		w, err := toWorkload(t.Workload)
		if err != nil {
			return nil, nil, fmt.Errorf("workload: %w", err)
		}
		if w.UID != name {
			return nil, nil, fmt.Errorf("workload: resource is named otherwise than its uid %s", quote(w.UID))
		}
		w.UID = name // one string for both
		return w, nil, nil
	case *workload.Address_Service:
		s, err := toService(t.Service)
		if err != nil {
			return nil, nil, fmt.Errorf("service: %w", err)
		}
		if s.Key().String() != name {
			return nil, nil, fmt.Errorf("service: resource is named otherwise than %s", quote(s.Key().String()))
		}
		return nil, s, nil
	default:
		return nil, nil, errors.New("address: neither workload nor service")
	}
}

// decodePolicy reads an Authorization resource. With an error there is still a policy: one that is Broken, to stand for
// it where no earlier version is known. It is nil only if the name says nothing.
func decodePolicy(name string, body []byte) (*state.Policy, error) {
	key, ok := state.ParseKey(name)
	if !ok {
		return nil, fmt.Errorf("policy: name %s: want namespace/name", quote(name))
	}
	var a authz.Authorization
	if err := proto.Unmarshal(body, &a); err != nil {
		// Whom it concerns is unknown: at least whoever names it, and its namespace.
		return &state.Policy{Key: key, Scope: state.ScopeNamespace, Broken: "not a protobuf"}, fmt.Errorf("policy: %w", err)
	}
	p, err := toPolicy(key, &a)
	if err != nil {
		broken := &state.Policy{Key: key, Scope: state.ScopeNamespace, DryRun: a.GetDryRun(), Broken: err.Error()}
		if scope, err := toScope(a.GetScope()); err == nil {
			broken.Scope = scope
		}
		return broken, fmt.Errorf("policy: %w", err)
	}
	return p, nil
}

// The bounds of single values. Those of messages and lists are the transport's.
const (
	maxText = 1024
)

// text checks a name: bounded, and without control characters, which have no business in logs and keys.
func text(what, s string) error {
	if len(s) > maxText {
		return fmt.Errorf("%s has %d bytes: want at most %d", what, len(s), maxText)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%s %s has a control character", what, quote(s))
	}
	return nil
}

// label is a text that must not be empty and is part of "namespace/name" keys.
func label(what, s string) error {
	if s == "" {
		return fmt.Errorf("empty %s", what)
	}
	if strings.Contains(s, "/") {
		return fmt.Errorf("%s %s has a slash", what, quote(s))
	}
	return text(what, s)
}

// quote shows a hostile string without letting it grow the log.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "..."
	}
	return fmt.Sprintf("%q", s)
}

func toAddr(b []byte) (netip.Addr, error) {
	ip, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.Addr{}, fmt.Errorf("address of %d bytes: want 4 or 16", len(b))
	}
	return ip.Unmap(), nil
}

// toPrefix reads an address and a prefix length, which for a v4-mapped address counts from the mapped form.
func toPrefix(b []byte, length uint32) (netip.Prefix, error) {
	ip, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("address of %d bytes: want 4 or 16", len(b))
	}
	if length > uint32(ip.BitLen()) {
		return netip.Prefix{}, fmt.Errorf("prefix length %d of %s: want at most %d", length, ip, ip.BitLen())
	}
	if ip.Is4In6() && length >= 96 {
		ip, length = ip.Unmap(), length-96
	}
	return ip.Prefix(int(length))
}

func toPort(what string, n uint32) (uint16, error) {
	if n > 65535 {
		return 0, fmt.Errorf("%s %d: want at most 65535", what, n)
	}
	return uint16(n), nil
}
