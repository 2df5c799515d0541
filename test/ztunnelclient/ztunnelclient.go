// Package ztunnelclient is a client of the control plane that behaves as Istio's ztunnel does: it answers whether such a proxy
// could connect to a controller, be configured by it and get certificates, and what it would understand.
//
// It is written from the protocol's description alone and shares no code with the controller or with our own proxy, protobuf
// types included: field numbers, defaults and reasons to reject are spelled out here a second time, so that a mistake on either
// side shows. Tests drive it step by step; it keeps no connection alive by itself. A Client belongs to one goroutine.
package ztunnelclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// The types a ztunnel asks for.
const (
	AddressType       = "type.googleapis.com/istio.workload.Address"
	AuthorizationType = "type.googleapis.com/istio.security.Authorization"
)

const deltaMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

// Config is what a ztunnel is deployed with.
type Config struct {
	Target     string // host:port of the control plane
	Roots      *x509.CertPool
	ServerName string
	Token      string // as in the file, a newline at the end included
	ClusterID  string
	InstanceIP string
	Pod        string
	Namespace  string
	NodeName   string
	Metadata   map[string]string // ISTIO_META_X, without the prefix
	OnDemand   bool
	// Refuse, if set, makes the client reject resources as one would that does not understand them.
	Refuse func(typeURL, name string) error
}

// Client is a ztunnel's state, which outlives its connections.
type Client struct {
	cfg  Config
	conn *grpc.ClientConn

	stream grpc.ClientStream
	end    context.CancelFunc

	Workloads map[string]*Workload // by uid
	Services  map[string]*Service  // by namespace/hostname
	Policies  map[string]*Policy   // by namespace/name
	Waiting   map[string]bool      // names and addresses demanded and not answered
	Acked     map[string]bool      // types of which a response was accepted: both, and a ztunnel is ready
	Unknown   map[string]bool      // "message.number" of fields a ztunnel does not know and ignores

	versions map[string]map[string]string // of what was accepted, by type and name
}

// Event is what one response brought, in the words of the client.
type Event struct {
	Type     string
	Set      []string // names, in order
	Removed  []string
	Rejected []string // "name: reason"
}

// New makes a client without a connection.
func New(cfg Config) *Client {
	return &Client{
		cfg: cfg, Workloads: map[string]*Workload{}, Services: map[string]*Service{}, Policies: map[string]*Policy{},
		Waiting: map[string]bool{}, Acked: map[string]bool{}, Unknown: map[string]bool{},
		versions: map[string]map[string]string{AddressType: {}, AuthorizationType: {}},
	}
}

// Point makes the next connection go elsewhere: the control plane was restarted.
func (c *Client) Point(target string) { c.cfg.Target = target }

func (c *Client) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+c.cfg.Target,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: c.cfg.Roots, ServerName: c.cfg.ServerName, MinVersion: tls.VersionTLS12})),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(200<<20)))
}

// headers are those of every call. The token goes as the file has it; HTTP/2 does not allow the newline, so that one is cut.
func (c *Client) headers(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimRight(c.cfg.Token, "\n"), "clusterid", c.cfg.ClusterID)
}

// Connect opens a stream and sends the two first requests: addresses, then authorizations, each with the whole node and with
// what is held already.
func (c *Client) Connect(ctx context.Context) error {
	c.Disconnect()
	conn, err := c.dial()
	if err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	ctx, cancel := context.WithCancel(c.headers(ctx))
	c.conn, c.end = conn, cancel
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, deltaMethod)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	c.stream = stream
	for _, typ := range []string{AddressType, AuthorizationType} {
		req := request{node: c.node(), typeURL: typ, initial: c.versions[typ]}
		if typ == AddressType && c.cfg.OnDemand {
			req.subscribe, req.unsubscribe = []string{"*"}, []string{"*"}
			req.initial = map[string]string{}
			for name := range c.Waiting {
				req.initial[name] = ""
			}
			for name, v := range c.versions[typ] {
				req.initial[name] = v
			}
		}
		if err := c.stream.SendMsg(req.encode()); err != nil {
			return fmt.Errorf("first request: %w", err)
		}
	}
	return nil
}

// Disconnect ends the stream and the connection. What is held stays.
func (c *Client) Disconnect() {
	if c.conn == nil {
		return
	}
	c.end()
	_ = c.conn.Close()
	c.conn, c.stream = nil, nil
}

// Demand asks for a uid, namespace/hostname or network/address and waits for nothing: Step releases the name from Waiting.
func (c *Client) Demand(name string) error {
	c.Waiting[name] = true
	return c.stream.SendMsg(request{typeURL: AddressType, subscribe: []string{name}}.encode())
}

// Step takes one response, applies what can be applied of it, removals last, and answers.
func (c *Client) Step() (Event, error) {
	var data []byte
	if err := c.stream.RecvMsg(&data); err != nil {
		return Event{}, err
	}
	res, err := decodeResponse(data)
	if err != nil {
		return Event{}, fmt.Errorf("response: %w", err)
	}
	ev := Event{Type: res.typeURL, Removed: res.removed}
	if c.versions[res.typeURL] == nil {
		return ev, fmt.Errorf("response of type %q", res.typeURL)
	}
	for _, r := range res.resources {
		if err := c.apply(res.typeURL, r); err != nil {
			ev.Rejected = append(ev.Rejected, r.name+": "+err.Error())
			continue
		}
		ev.Set = append(ev.Set, r.name)
		c.versions[res.typeURL][r.name] = r.version
		delete(c.Waiting, r.name)
	}
	for _, name := range res.removed {
		c.remove(res.typeURL, name)
	}
	answer := request{typeURL: res.typeURL, nonce: res.nonce, complaint: strings.Join(ev.Rejected, "; ")}
	if len(ev.Rejected) == 0 {
		c.Acked[res.typeURL] = true
	}
	return ev, c.stream.SendMsg(answer.encode())
}

var errNoBody = errors.New("resource without a body")

func (c *Client) apply(typeURL string, r resource) error {
	if r.body == nil {
		return errNoBody
	}
	if c.cfg.Refuse != nil {
		if err := c.cfg.Refuse(typeURL, r.name); err != nil {
			return err
		}
	}
	d := decoder{unknown: c.Unknown}
	if typeURL == AuthorizationType {
		p, err := d.policy(r.body)
		if err == nil {
			c.Policies[r.name] = p
		}
		return err
	}
	w, s, err := d.address(r.body)
	switch {
	case err != nil:
		return err
	case w != nil:
		c.Workloads[w.UID] = w
	default:
		c.Services[s.Namespace+"/"+s.Hostname] = s
	}
	return nil
}

// remove is by name: a uid, or else a service if the name has exactly one slash.
func (c *Client) remove(typeURL, name string) {
	delete(c.versions[typeURL], name)
	delete(c.Waiting, name)
	if typeURL == AuthorizationType {
		delete(c.Policies, name)
		return
	}
	if _, ok := c.Workloads[name]; ok {
		delete(c.Workloads, name)
	} else if strings.Count(name, "/") == 1 {
		delete(c.Services, name)
	}
}

// Held is the names of a type that were accepted, sorted.
func (c *Client) Held(typeURL string) []string {
	var out []string
	for name := range c.versions[typeURL] {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// rawCodec carries messages that are encoded here.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("marshal %T", v)
	}
	return b, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshal %T", v)
	}
	*b = append([]byte(nil), data...)
	return nil
}
