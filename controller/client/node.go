package client

import (
	"fmt"
	"net/netip"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// NodeConfig is who asks.
type NodeConfig struct {
	IP        netip.Addr // of the pod; invalid is written as 1.1.1.1, as ztunnels do
	Pod       string
	Namespace string
	Node      string // the Kubernetes node
	Cluster   string
	Version   string
	// Metadata is sent besides, and wins.
	Metadata map[string]string
}

// Node is the xDS node of a node proxy (ztunnel.md 6.4).
func Node(cfg NodeConfig) (*core.Node, error) {
	ip := "1.1.1.1"
	if cfg.IP.IsValid() {
		ip = cfg.IP.String()
	}
	fields := map[string]any{"NAME": cfg.Pod, "NAMESPACE": cfg.Namespace, "INSTANCE_IPS": ip, "NODE_NAME": cfg.Node}
	if cfg.Cluster != "" {
		fields["CLUSTER_ID"] = cfg.Cluster
	}
	if cfg.Version != "" {
		fields["ISTIO_VERSION"] = cfg.Version
	}
	for k, v := range cfg.Metadata {
		fields[k] = v
	}
	metadata, err := structpb.NewStruct(fields)
	if err != nil {
		return nil, fmt.Errorf("node metadata: %w", err)
	}
	return &core.Node{
		Id:       fmt.Sprintf("ztunnel~%s~%s.%s~%s.svc.cluster.local", ip, cfg.Pod, cfg.Namespace, cfg.Namespace),
		Metadata: metadata,
	}, nil
}
