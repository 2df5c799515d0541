package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// Type is a resource type to ask for.
type Type struct {
	URL string
	// OnDemand asks for nothing until Session.Want does; otherwise everything is asked for.
	OnDemand bool
}

// Resource is one resource as it came. Body is the protobuf encoding; it belongs to the receiver.
type Resource struct {
	Name    string
	Version string
	Aliases []string
	Body    []byte
}

// Batch is what one response brings of one type.
type Batch struct {
	TypeURL   string
	Resources []Resource
	Removed   []string
	// First says that it is the first response for the type since the client was made.
	First bool

	nonce  string
	broken map[string]string // resources that were not even resources, by name
}

// session is the delta xDS state machine of one client over all its streams: events in, requests out. It does no I/O
// and belongs to one goroutine.
//
//	          open                      receive                 answer
//	(stream) ------> first requests     -------> Batch          -------> ACK, or NACK with names and reasons
//	                 versions held                               versions change
//
// What is held stays held while there is no stream.
type session struct {
	node  *core.Node
	types []*typeState
}

type typeState struct {
	Type
	versions map[string]string // of each accepted resource held, by name
	wanted   map[string]bool   // on demand: names and aliases asked for; true once answered
	synced   bool
}

func newSession(node *core.Node, types []Type) *session {
	s := &session{node: node}
	for _, t := range types {
		s.types = append(s.types, &typeState{Type: t, versions: map[string]string{}, wanted: map[string]bool{}})
	}
	return s
}

func (s *session) state(url string) *typeState {
	for _, t := range s.types {
		if t.URL == url {
			return t
		}
	}
	return nil
}

// open lists what to send when a stream begins: one request for each type, with what is held already, so that the
// server sends the difference only. Names are sorted, for tests and for compression.
func (s *session) open() []*discovery.DeltaDiscoveryRequest {
	var out []*discovery.DeltaDiscoveryRequest
	for _, t := range s.types {
		req := &discovery.DeltaDiscoveryRequest{Node: s.node, TypeUrl: t.URL, InitialResourceVersions: t.versions}
		if t.OnDemand {
			// Subscribed to everything and unsubscribed again: to nothing, but not by the legacy wildcard.
			req.ResourceNamesSubscribe = []string{"*"}
			req.ResourceNamesUnsubscribe = []string{"*"}
			req.InitialResourceVersions = t.initialVersions()
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, sorted(t.wanted)...)
		}
		out = append(out, req)
	}
	return out
}

// initialVersions adds the names still waited for, with no version.
func (t *typeState) initialVersions() map[string]string {
	all := make(map[string]string, len(t.versions)+len(t.wanted))
	for name, answered := range t.wanted {
		if !answered {
			all[name] = ""
		}
	}
	for name, v := range t.versions {
		all[name] = v
	}
	return all
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// errUnknownType is a response of a type that was not asked for: acknowledged and otherwise ignored.
var errUnknownType = errors.New("response of a type that was not asked for")

// receive reads a response. The error is errUnknownType or nil; the batch can be answered in both cases.
func (s *session) receive(resp *discovery.DeltaDiscoveryResponse) (Batch, error) {
	b := Batch{TypeURL: resp.GetTypeUrl(), Removed: resp.GetRemovedResources(), nonce: resp.GetNonce()}
	t := s.state(b.TypeURL)
	if t == nil {
		return b, errUnknownType
	}
	b.First = !t.synced
	b.Resources = make([]Resource, 0, len(resp.GetResources()))
	for i, r := range resp.GetResources() {
		if reason := malformed(r); reason != "" {
			if b.broken == nil {
				b.broken = map[string]string{}
			}
			name := r.GetName()
			if name == "" {
				name = fmt.Sprintf("#%d", i)
			}
			b.broken[name] = reason
			continue
		}
		b.Resources = append(b.Resources, Resource{
			Name: r.GetName(), Version: r.GetVersion(), Aliases: r.GetAliases(), Body: r.GetResource().GetValue(),
		})
	}
	return b, nil
}

func malformed(r *discovery.Resource) string {
	switch {
	case r.GetName() == "":
		return "resource without a name"
	case len(r.GetName()) > maxName:
		return "name too long"
	case r.GetResource() == nil:
		return "resource without a body"
	default:
		return ""
	}
}

// maxName bounds a resource name in bytes: longer than any name Kubernetes can give rise to.
const maxName = 2048

// answer takes note of what was accepted of a batch and says what to send back. rejected gives the reason for each
// resource that was not. A rejected resource of which an earlier version was accepted stays held at that version.
func (s *session) answer(b Batch, rejected map[string]error) *discovery.DeltaDiscoveryRequest {
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: b.TypeURL, ResponseNonce: b.nonce}
	t := s.state(b.TypeURL)
	if t == nil {
		return req
	}
	t.synced = true
	for _, r := range b.Resources {
		if rejected[r.Name] == nil {
			t.versions[r.Name] = r.Version
		}
	}
	for _, r := range b.Resources {
		t.arrived(r.Name)
		for _, a := range r.Aliases {
			t.arrived(a)
		}
	}
	for _, name := range b.Removed {
		delete(t.versions, name)
		delete(t.wanted, name)
	}
	if message := complaint(b.broken, rejected); message != "" {
		// Presence of the detail is what makes it a NACK. The code stays 0, as ztunnels send it.
		req.ErrorDetail = &rpcstatus.Status{Message: message}
	}
	return req
}

// maxComplaint bounds the text of a NACK in bytes.
const maxComplaint = 16 << 10

// complaint lists names and reasons, sorted.
func complaint(broken map[string]string, rejected map[string]error) string {
	if len(broken)+len(rejected) == 0 {
		return ""
	}
	list := make([]string, 0, len(broken)+len(rejected))
	for name, why := range broken {
		list = append(list, name+": "+why)
	}
	for name, err := range rejected {
		list = append(list, name+": "+err.Error())
	}
	slices.Sort(list)
	text := strings.Join(list, "; ")
	if len(text) > maxComplaint {
		text = fmt.Sprintf("%s... (%d in all)", text[:maxComplaint], len(list))
	}
	return strings.ToValidUTF8(text, "?")
}

func (t *typeState) arrived(name string) {
	if _, ok := t.wanted[name]; ok {
		t.wanted[name] = true
	}
}

// want asks for a resource by name or alias. known says that there is nothing to wait for: it came already, or the type
// is not on demand. The request is nil if there is nothing to send.
func (s *session) want(url, name string) (req *discovery.DeltaDiscoveryRequest, known bool) {
	t := s.state(url)
	if t == nil || !t.OnDemand {
		return nil, true
	}
	if answered, asked := t.wanted[name]; asked {
		return nil, answered
	}
	t.wanted[name] = false
	return &discovery.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: []string{name}}, false
}
