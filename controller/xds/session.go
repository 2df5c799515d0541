package xds

import (
	"fmt"
	"strconv"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

const (
	// maxNames bounds what one client may ask for by name.
	maxNames = 200_000
	// grace is how long workloads wait for the client to ask for policies too, so that those go out first. Proxies ask for
	// both at once.
	grace = 100 * time.Millisecond
)

// session is what one stream has been told: a pure state machine, without clock, lock or connection.
//
//	request ──► subscription ──next──► response in flight (nonce) ──ACK or NACK──► next
//
// One response of a type is in flight at a time; what changes meanwhile is in the next one, in its newest form. Policies go
// out before the workloads that name them and are removed after.
type session struct {
	node string // workloads on it are always wanted by a client that asks by name
	subs map[string]*subscription
}

// subscription is a session's share of one type.
type subscription struct {
	typeURL  string
	since    time.Time // of the first request
	wildcard bool
	names    map[string]bool   // asked for by name
	services map[string]bool   // of names: those that are services; their endpoints are wanted too
	ask      []string          // names not yet answered
	held     map[string]bool   // what a client without wildcard was sent
	initial  map[string]string // versions the client brought along; nil once answered
	late     []string          // names that were gone before the client connected, to be told when removals may go
	started  bool              // answered for the first time
	upserts  uint64            // sequence number up to which changes were sent
	removals uint64            // the same of removals
	nonce    string            // of the response in flight; "" for none
	count    uint64            // of responses
	sent     string            // version of the newest response
	acked    string
	nack     string // the client's words, "" after an ACK
	nacks    uint64
}

func newSession(node string) *session {
	return &session{node: node, subs: map[string]*subscription{}}
}

// outcome says what a request was, for logs and metrics.
type outcome int

const (
	subscribed outcome = iota // a new subscription or a change of one
	acknowledged
	rejected
	stale // a nonce that is not in flight
)

// request takes a client's message. An error ends the stream.
func (s *session) request(req *discovery.DeltaDiscoveryRequest, now time.Time) (outcome, error) {
	url := req.GetTypeUrl()
	if url != workload.AddressTypeURL && url != authz.TypeURL {
		return subscribed, status.Errorf(codes.InvalidArgument, "type %q is not served here", clip(url))
	}
	sub, known := s.subs[url]
	if !known {
		sub = &subscription{
			typeURL: url, since: now, initial: req.GetInitialResourceVersions(), names: map[string]bool{},
			services: map[string]bool{}, held: map[string]bool{},
		}
		sub.wildcard = len(req.GetResourceNamesSubscribe()) == 0
		s.subs[url] = sub
	}
	if err := sub.change(req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe()); err != nil {
		return subscribed, err
	}
	if !known && !sub.wildcard { // a client that reconnects holds what it named before
		for name := range sub.initial {
			if err := sub.add(name); err != nil {
				return subscribed, err
			}
		}
	}
	if req.GetResponseNonce() == "" || !known {
		return subscribed, nil
	}
	if req.GetResponseNonce() != sub.nonce {
		return stale, nil
	}
	sub.nonce = ""
	if e := req.GetErrorDetail(); e != nil {
		sub.nack = clip(e.GetMessage())
		if sub.nack == "" {
			sub.nack = "no reason given"
		}
		sub.nacks++
		return rejected, nil
	}
	sub.acked, sub.nack = sub.sent, ""
	return acknowledged, nil
}

func (sub *subscription) change(add, remove []string) error {
	for _, name := range add {
		if name == "*" {
			sub.wildcard = true
			continue
		}
		if err := sub.add(name); err != nil {
			return err
		}
	}
	for _, name := range remove {
		if name == "*" {
			sub.wildcard = false
			continue
		}
		delete(sub.names, name)
		delete(sub.services, name)
		delete(sub.held, name)
	}
	return nil
}

func (sub *subscription) add(name string) error {
	if len(sub.names) >= maxNames || len(sub.ask) >= maxNames {
		return status.Errorf(codes.ResourceExhausted, "more than %d names asked for", maxNames)
	}
	sub.names[name] = true
	sub.ask = append(sub.ask, name)
	return nil
}

// next is the response to send now, or nil. wait, if not zero, is when to ask again even if nothing changes.
func (s *session) next(t *Table, now time.Time) (r *response, wait time.Duration, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.seq == 0 {
		return nil, 0, nil
	}
	pol, adr := s.subs[authz.TypeURL], s.subs[workload.AddressTypeURL]
	for _, sub := range s.subs {
		if sub.started && sub.removals < t.kinds[sub.typeURL].floor {
			return nil, 0, status.Error(codes.Unavailable, "client is too far behind: reconnect to be told what is gone")
		}
	}
	if pol != nil && pol.nonce == "" {
		if r := s.respond(t, pol, adr == nil); r != nil {
			return r, 0, nil
		}
	}
	if adr != nil && adr.nonce == "" {
		if pol == nil && !adr.started {
			if left := grace - now.Sub(adr.since); left > 0 {
				return nil, left, nil
			}
		}
		if pol == nil || pol.started && !t.kinds[authz.TypeURL].upsertAfter(pol.upserts) {
			if r := s.respond(t, adr, true); r != nil {
				return r, 0, nil
			}
			if pol != nil && pol.nonce == "" { // workloads are up to date and accepted: policies nobody names may go
				return s.respond(t, pol, true), 0, nil
			}
		}
	}
	return nil, 0, nil
}

// respond makes the next response of a type; nil if there is nothing to say. Removals may have to wait.
func (s *session) respond(t *Table, sub *subscription, removals bool) *response {
	k := t.kinds[sub.typeURL]
	first := !sub.started
	r := &response{typeURL: sub.typeURL, first: first}
	switch {
	case sub.wildcard && first:
		s.everything(k, sub, r)
		sub.removals = t.seq
		if !removals {
			sub.late, r.removed = r.removed, nil
		}
	case sub.wildcard:
		s.since(k, sub, r, removals)
	case first:
		s.onNode(k, sub, r)
		sub.removals = t.seq
	default:
		s.wantedSince(k, sub, r, removals)
	}
	s.answer(k, sub, r)
	sub.upserts = t.seq
	if removals {
		sub.removals = t.seq
	}
	if !first && len(r.frames) == 0 && len(r.removed) == 0 {
		return nil
	}
	sub.started, sub.initial = true, nil
	sub.count++
	sub.nonce = strconv.FormatUint(sub.count, 36) + "-" + strconv.FormatUint(t.seq, 36)
	r.nonce, r.version = sub.nonce, strconv.FormatUint(t.seq, 10)
	sub.sent = r.version
	return r
}

// everything is the first answer to a wildcard: all but what the client holds already, and the end of what is gone.
func (s *session) everything(k *kind, sub *subscription, r *response) {
	for e := k.oldest; e != nil; e = e.newer {
		if !e.gone && sub.initial[e.name] != e.version {
			r.frames = append(r.frames, e.frame)
		}
	}
	for name := range sub.initial {
		if e := k.entries[name]; e == nil || e.gone {
			r.removed = append(r.removed, name)
		}
	}
}

// since is what changed for a wildcard.
func (s *session) since(k *kind, sub *subscription, r *response, removals bool) {
	if removals {
		for _, name := range sub.late {
			if e := k.entries[name]; e == nil || e.gone {
				r.removed = append(r.removed, name)
			}
		}
		sub.late = nil
	}
	for e := k.newest; e != nil && (e.seq > sub.upserts || e.seq > sub.removals); e = e.older {
		switch {
		case e.gone && removals && e.seq > sub.removals:
			r.removed = append(r.removed, e.name)
		case !e.gone && e.seq > sub.upserts:
			r.frames = append(r.frames, e.frame)
		}
	}
}

// current reports that nothing is left to say about what was published.
func (s *session) current(t *Table) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, sub := range s.subs {
		if sub.nonce == "" && sub.upserts < t.seq || t.kinds[sub.typeURL].upsertAfter(sub.upserts) {
			return false
		}
	}
	return true
}

func (k *kind) upsertAfter(seq uint64) bool {
	for e := k.newest; e != nil && e.seq > seq; e = e.older {
		if !e.gone {
			return true
		}
	}
	return false
}

func clip(s string) string {
	const most = 512
	if len(s) > most {
		return fmt.Sprintf("%s... (%d bytes)", s[:most], len(s))
	}
	return s
}
