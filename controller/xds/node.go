package xds

import (
	"net/netip"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ambit-mesh/ambit/controller/auth"
)

// proxyRole is the type in a node proxy's id.
const proxyRole = "ztunnel"

// maxNodeName is the longest that Kubernetes gives, in bytes.
const maxNodeName = 253

// node is what a client says of itself.
type node struct {
	id      string // ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local
	role    string
	node    string // Kubernetes node; "" if it does not say
	version string
	cluster string
}

// parseNode reads the node of a stream's first request and holds it against the token: nobody may speak for another namespace
// or another node.
func parseNode(n *core.Node, caller auth.Caller) (node, error) {
	if n == nil {
		return node{}, status.Error(codes.InvalidArgument, "first request without a node")
	}
	part := strings.SplitN(n.GetId(), "~", 5)
	if len(part) != 4 || len(n.GetId()) > 1024 {
		return node{}, status.Errorf(codes.InvalidArgument, "node id %q: want type~ip~pod.namespace~domain", clip(n.GetId()))
	}
	if _, err := netip.ParseAddr(part[1]); err != nil {
		return node{}, status.Errorf(codes.InvalidArgument, "node id %q: no ip address", clip(n.GetId()))
	}
	_, namespace, _ := strings.Cut(part[2], ".")
	meta := func(key string) string { return n.GetMetadata().GetFields()[key].GetStringValue() }
	if m := meta("NAMESPACE"); m != "" {
		namespace = m
	}
	if namespace != caller.Namespace {
		return node{}, status.Errorf(codes.PermissionDenied, "node is of namespace %q, its token of %q", clip(namespace), caller.Namespace)
	}
	if sa := meta("SERVICE_ACCOUNT"); sa != "" && sa != caller.ServiceAccount {
		return node{}, status.Errorf(codes.PermissionDenied, "node is of service account %q, its token of %q", clip(sa), caller.ServiceAccount)
	}
	where := meta("NODE_NAME")
	if len(where) > maxNodeName {
		return node{}, status.Errorf(codes.InvalidArgument, "node name of %d bytes", len(where))
	}
	if caller.Node != "" {
		if where != "" && where != caller.Node {
			return node{}, status.Errorf(codes.PermissionDenied, "node says it is on %q, its token says %q", clip(where), caller.Node)
		}
		where = caller.Node
	}
	return node{id: n.GetId(), role: part[0], node: where, version: clip(meta("ISTIO_VERSION")), cluster: clip(meta("CLUSTER_ID"))}, nil
}
