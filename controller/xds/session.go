package xds

import (
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

const (
	// grace is how long workloads wait for the client to ask for policies too, so that those go out first. Proxies ask for
	// both at once, but the first request may be megabytes long.
	grace = 100 * time.Millisecond
	// proxyGrace is the same for node proxies, which never do without policies: an early workload would be unprotected.
	proxyGrace = 5 * time.Second
	// answerWithin is how long a client may leave a response unanswered.
	answerWithin = time.Minute
)

// session is what one stream has been told: a pure state machine, without clock, lock or connection.
//
//	request ──► subscription ──next──► response in flight (nonce) ──ACK or NACK──► next
//
// One response of a type is in flight at a time; what changes meanwhile is in the next one, in its newest form. Policies go
// out before the workloads that name them and are removed after; those that gain a selector go out after, see narrowing.go.
type session struct {
	node  string // workloads on it are always wanted by a client that asks by name
	grace time.Duration
	subs  map[string]*subscription
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
	brought  holding           // what a client with wildcard brought along; empty once answered
	initial  map[string]string // what one without brought along; nil once answered
	late     []string          // names that were gone before the client connected, to be told when removals may go
	narrowed map[string]bool   // policies that wait for the workloads that name them
	started  bool              // answered for the first time
	upserts  uint64            // sequence number up to which changes were sent
	removals uint64            // the same of removals
	nonce    string            // of the response in flight; "" for none
	count    uint64            // of responses
	sent     string            // version of the newest response
	sentAt   time.Time         // of that
	acked    string
	rejections
}

func newSession(n node) *session {
	s := &session{node: n.node, grace: grace, subs: map[string]*subscription{}}
	if n.role == proxyRole {
		s.grace = proxyGrace
	}
	return s
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
func (s *session) request(req *request, now time.Time) (outcome, error) {
	url := req.typeURL
	if url != workload.AddressTypeURL && url != authz.TypeURL {
		return subscribed, status.Errorf(codes.InvalidArgument, "type %q is not served here", clip(url))
	}
	if req.err != nil {
		return subscribed, req.err
	}
	sub, known := s.subs[url]
	if !known {
		sub = &subscription{
			typeURL: url, since: now, names: map[string]bool{}, services: map[string]bool{}, held: map[string]bool{},
			wildcard: len(req.subscribe) == 0,
		}
		s.subs[url] = sub
	}
	if err := sub.change(req.subscribe, req.unsubscribe); err != nil {
		return subscribed, err
	}
	if !known {
		return subscribed, sub.bring(&req.held)
	}
	req.held.free() // only the first request of a type may bring one along
	if req.nonce == "" {
		return subscribed, nil
	}
	if req.nonce != sub.nonce {
		return stale, nil
	}
	sub.nonce = ""
	if req.rejects {
		sub.reject(req.complaint)
		return rejected, nil
	}
	sub.acked = sub.sent
	sub.accept()
	return acknowledged, nil
}

// bring notes what a client holds from an earlier stream. One that asks by name holds what it named before.
func (sub *subscription) bring(h *holding) error {
	if sub.wildcard {
		sub.brought, *h = *h, holding{}
		return nil
	}
	sub.initial = h.versions()
	h.free()
	for name := range sub.initial {
		if err := sub.add(name); err != nil {
			return err
		}
	}
	return nil
}

func (sub *subscription) change(add, remove []string) error {
	was := sub.wildcard
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
	if sub.started && sub.wildcard != was {
		return status.Error(codes.InvalidArgument, "a stream is for everything or by name from its first response on: open another")
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
		k := t.kinds[sub.typeURL]
		sub.review(k)
		if sub.started && sub.removals < k.floor {
			return nil, 0, errTooFarBehind
		}
		if sub.nonce == "" {
			continue
		}
		left := answerWithin - now.Sub(sub.sentAt)
		if left <= 0 {
			return nil, 0, errUnanswered
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	if r, more := s.turn(t, pol, adr, now); r != nil {
		r.stamp(t, s.subs[r.typeURL], now)
		return r, 0, nil
	} else if more > 0 && (wait == 0 || more < wait) {
		wait = more
	}
	return nil, wait, nil
}

var (
	errTooFarBehind = status.Error(codes.Unavailable, "client is too far behind: reconnect to be told what is gone")
	errUnanswered   = status.Errorf(codes.DeadlineExceeded, "a response was neither accepted nor rejected within %s", answerWithin)
)

// turn decides which type may speak next: policies before the workloads that name them, their removal after.
func (s *session) turn(t *Table, pol, adr *subscription, now time.Time) (r *response, wait time.Duration) {
	if pol != nil && pol.nonce == "" {
		what := unnarrowed
		if adr == nil {
			what = all
		}
		if r := s.respond(t, pol, what); r != nil {
			return r, 0
		}
	}
	if adr == nil {
		return nil, 0
	}
	if adr.nonce == "" {
		if pol == nil && !adr.started {
			if left := s.grace - now.Sub(adr.since); left > 0 {
				return nil, left
			}
		}
		if pol != nil && (!pol.started || t.kinds[authz.TypeURL].upsertAfter(pol.upserts)) {
			return nil, 0
		}
		if r := s.respond(t, adr, all); r != nil {
			return r, 0
		}
	}
	switch {
	case pol == nil || pol.nonce != "":
		return nil, 0
	case adr.nonce == "": // workloads are up to date and accepted: policies nobody names may go
		return s.respond(t, pol, all), 0
	case len(pol.narrowed) > 0 && !t.kinds[workload.AddressTypeURL].upsertAfter(adr.upserts):
		return s.respond(t, pol, upserts), 0 // workloads are on their way, and what follows comes after them
	default:
		return nil, 0
	}
}

// extent is what a response may say.
type extent int

const (
	unnarrowed extent = iota // new and changed resources but for policies that gained a selector
	upserts                  // all new and changed resources
	all                      // and removals
)

// respond makes the next response of a type; nil if there is nothing to say. What is not in its extent has to wait.
func (s *session) respond(t *Table, sub *subscription, what extent) *response {
	k := t.kinds[sub.typeURL]
	first, removals := !sub.started, what == all
	if !first && len(sub.ask)+len(sub.late) == 0 && (what == unnarrowed || len(sub.narrowed) == 0) && (k.newest == nil || k.newest.seq <= min(sub.upserts, sub.removals)) {
		sub.upserts = t.seq
		if removals {
			sub.removals = t.seq
		}
		return nil // of the two types usually one has not changed
	}
	r := &response{typeURL: sub.typeURL, first: first}
	switch {
	case sub.wildcard && first:
		s.everything(k, sub, r, what)
		sub.removals = t.seq
		if !removals {
			sub.late, r.removed = r.removed, nil
		}
	case sub.wildcard:
		s.since(k, sub, r, what)
	case first:
		s.onNode(k, sub, r)
		sub.removals = t.seq
	default:
		s.wantedSince(k, sub, r, what)
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
	sub.brought.free()
	return r
}

// stamp makes r the response in flight. The nonce is unique in the stream.
func (r *response) stamp(t *Table, sub *subscription, now time.Time) {
	sub.count++
	sub.nonce = strconv.FormatUint(sub.count, 36) + "-" + strconv.FormatUint(t.seq, 36)
	r.nonce, r.version = sub.nonce, strconv.FormatUint(t.seq, 10)
	sub.sent, sub.sentAt = r.version, now
}

// everything is the first answer to a wildcard: all but what the client holds already, and the end of what is gone. A policy
// that it holds in another version may be for more workloads there.
func (s *session) everything(k *kind, sub *subscription, r *response, what extent) {
	if sub.brought.n == 0 {
		r.frames, r.size = k.full()
		return
	}
	if sub.brought.n == k.live && sub.brought.sum == k.contents.sum {
		return // the common end of a reconnect: nothing has changed
	}
	outdated := map[string]bool{} // policies
	k.contents.missing(&sub.brought, func(e *entry) {
		if what == unnarrowed && outdated[e.name] {
			sub.postpone(e)
			return
		}
		r.add(e.frame)
	}, func(name []byte) {
		e := k.entries[string(name)]
		switch {
		case e == nil || e.gone:
			r.removed = append(r.removed, string(name))
		case e.scoped != nil && e.scoped.selects:
			outdated[e.name] = true
		}
	})
}

// since is what changed for a wildcard.
func (s *session) since(k *kind, sub *subscription, r *response, what extent) {
	removals := what == all
	if removals {
		for _, name := range sub.late {
			if e := k.entries[name]; e == nil || e.gone {
				r.removed = append(r.removed, name)
			}
		}
		sub.late = nil
	}
	if what != unnarrowed {
		sub.postponed(k, r)
	}
	for e := k.newest; e != nil && (e.seq > sub.upserts || e.seq > sub.removals); e = e.older {
		switch {
		case e.gone && removals && e.seq > sub.removals:
			r.removed = append(r.removed, e.name)
		case !e.gone && e.seq > sub.upserts && (what != unnarrowed || !sub.postpones(e)):
			r.add(e.frame)
		}
	}
}

// opening reports that what the client holds is not known yet, or that its first answers are on their way: while it is,
// memory is spent on it.
func (s *session) opening() bool {
	for _, sub := range s.subs {
		if !sub.started || sub.count == 1 && sub.nonce != "" {
			return true
		}
	}
	return false
}

// current reports that nothing is left to say about what was published.
func (s *session) current(t *Table) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, sub := range s.subs {
		if sub.nonce == "" && sub.upserts < t.seq || len(sub.narrowed) > 0 || t.kinds[sub.typeURL].upsertAfter(sub.upserts) {
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
