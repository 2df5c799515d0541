package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync/atomic"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/auth"
	xdsclient "github.com/ambit-mesh/ambit/controller/client"
)

const method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

// window is that of package controller/client: the connections are as a node proxy's are.
const window = 1 << 20

// client is one node proxy: a connection and a stream of its own, both types as wildcards, every response acknowledged.
type client struct {
	fleet *Fleet
	node  string
	conn  *grpc.ClientConn
	count map[string]int // resources received, by type
	began map[string]bool
	whole chan struct{} // closed when the first state is here
	done  bool
	first bool // the one that learns versions
	bytes atomic.Int64
}

func (f *Fleet) dial(node string) (*client, error) {
	creds := credentials.NewTLS(&tls.Config{RootCAs: f.roots, ServerName: f.cfg.ServerName, MinVersion: tls.VersionTLS13})
	conn, err := grpc.NewClient(f.cfg.Address, grpc.WithTransportCredentials(creds),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		return nil, err
	}
	return &client{fleet: f, node: node, conn: conn, count: map[string]int{}, began: map[string]bool{}, whole: make(chan struct{})}, nil
}

// run serves the stream until the connection is closed.
func (c *client) run(ctx context.Context, known bool) error {
	token, err := auth.Mint(c.fleet.key, auth.Caller{
		Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Node: c.node, Pod: "ztunnel-" + c.node,
	}, tokenLife, now())
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if err := c.subscribe(stream, known); err != nil {
		return err
	}
	for {
		var msg raw
		if err := stream.RecvMsg(&msg); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		at := Now()
		c.bytes.Add(int64(len(msg)))
		r, err := parseResponse(msg)
		if err != nil {
			return err
		}
		if err := c.take(r, at, known); err != nil {
			return err
		}
		ack, err := proto.Marshal(&discovery.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: r.nonce})
		if err != nil {
			return err
		}
		msg = ack
		if err := stream.SendMsg(&msg); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
}

func (c *client) subscribe(stream grpc.ClientStream, known bool) error {
	node, err := xdsclient.Node(xdsclient.NodeConfig{Pod: "ztunnel-" + c.node, Namespace: "ambit-system", Node: c.node, Cluster: "Kubernetes", Version: "1.0.0"})
	if err != nil {
		return err
	}
	for _, url := range []string{workload.AddressTypeURL, authz.TypeURL} {
		req, err := proto.Marshal(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: url})
		if err != nil {
			return err
		}
		msg := raw(req)
		if known {
			msg = append(msg, c.fleet.known.encoded(url)...)
		}
		if err := stream.SendMsg(&msg); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	return nil
}

// take counts what came, notes the revisions that changes carry, and sees when the first state is whole.
func (c *client) take(r response, at int64, known bool) error {
	c.count[r.typeURL] += len(r.resources)
	c.began[r.typeURL] = true
	if c.first {
		for _, b := range r.resources {
			if err := c.fleet.known.learn(r.typeURL, b); err != nil {
				return err
			}
		}
	}
	if c.done {
		for _, b := range r.resources {
			if err := c.change(r.typeURL, b, at); err != nil {
				return err
			}
		}
		return nil
	}
	enough := c.count[workload.AddressTypeURL] >= c.fleet.cfg.Addresses && c.count[authz.TypeURL] >= c.fleet.cfg.Policies
	if enough || known && c.began[workload.AddressTypeURL] && c.began[authz.TypeURL] {
		c.done = true
		close(c.whole)
	}
	return nil
}

// change notes which revision a changed workload has.
func (c *client) change(typeURL string, b []byte, at int64) error {
	if typeURL != workload.AddressTypeURL {
		return nil
	}
	res, err := parseResource(b)
	if err != nil {
		return err
	}
	var a workload.Address
	if err := proto.Unmarshal(res.content, &a); err != nil {
		return fmt.Errorf("%s: %w", res.name, err)
	}
	if rev := a.GetWorkload().GetCanonicalRevision(); strings.HasPrefix(rev, "c") {
		c.fleet.arrivals.note(rev, at)
	}
	return nil
}

func rootPool(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no root certificate")
	}
	return pool, nil
}

// initialVersion is one entry of initial_resource_versions, field 5 of a request.
func initialVersion(b, name, version []byte) []byte {
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(name)) + protowire.SizeTag(2) + protowire.SizeBytes(len(version))
	b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.BytesType), uint64(size))
	b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), name)
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), version)
}
