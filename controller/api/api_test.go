package api_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/ca"
	"github.com/ambit-mesh/ambit/controller/api/workload"
)

// The numbers are Istio's and a renumbered field would be read as another one, silently. They are written down here a
// second time, from the specification.
func TestFieldNumbers(t *testing.T) {
	for _, tc := range []struct {
		msg  protoreflect.ProtoMessage
		name protoreflect.FullName
		want []string // by number, "" where unused
	}{
		{&workload.Address{}, "istio.workload.Address", []string{"workload", "service"}},
		{&workload.Service{}, "istio.workload.Service", []string{
			"name", "namespace", "hostname", "addresses", "ports", "subject_alt_names", "waypoint",
			"load_balancing", "ip_families", "extensions", "canonical", "ingress_use_waypoint", "weighted_waypoints", "visibility",
		}},
		{&workload.Workload{}, "istio.workload.Workload", []string{
			"name", "namespace", "addresses", "network", "tunnel_protocol", "trust_domain",
			"service_account", "waypoint", "node", "canonical_name", "canonical_revision", "workload_type", "workload_name", "native_tunnel", "",
			"authorization_policies", "status", "cluster_id", "network_gateway", "uid", "hostname", "services", "application_tunnel", "locality",
			"network_mode", "extensions", "capacity",
		}},
		{&workload.Port{}, "istio.workload.Port", []string{"service_port", "target_port", "app_protocol"}},
		{&workload.PortList{}, "istio.workload.PortList", []string{"ports"}},
		{&workload.NetworkAddress{}, "istio.workload.NetworkAddress", []string{"network", "address", "length"}},
		{&workload.NamespacedHostname{}, "istio.workload.NamespacedHostname", []string{"namespace", "hostname"}},
		{&workload.GatewayAddress{}, "istio.workload.GatewayAddress", []string{"hostname", "address", "hbone_mtls_port"}},
		{&workload.WeightedWaypoint{}, "istio.workload.WeightedWaypoint", []string{"destination", "weight"}},
		{&workload.LoadBalancing{}, "istio.workload.LoadBalancing", []string{"routing_preference", "mode", "health_policy"}},
		{&workload.ApplicationTunnel{}, "istio.workload.ApplicationTunnel", []string{"protocol", "port"}},
		{&workload.Locality{}, "istio.workload.Locality", []string{"region", "zone", "subzone"}},
		{&workload.Extension{}, "istio.workload.Extension", []string{"name", "config"}},
		{&authz.Authorization{}, "istio.security.Authorization", []string{"name", "namespace", "scope", "action", "groups", "dry_run", "extensions"}},
		{&authz.Group{}, "istio.security.Group", []string{"rules"}},
		{&authz.Rules{}, "istio.security.Rules", []string{"", "matches"}},
		{&authz.Match{}, "istio.security.Match", []string{
			"namespaces", "not_namespaces", "principals", "not_principals", "source_ips", "not_source_ips",
			"destination_ips", "not_destination_ips", "destination_ports", "not_destination_ports", "service_accounts", "not_service_accounts", "extensions",
		}},
		{&authz.Address{}, "istio.security.Address", []string{"address", "length"}},
		{&authz.ServiceAccountMatch{}, "istio.security.ServiceAccountMatch", []string{"namespace", "serviceAccount"}},
		{&authz.StringMatch{}, "istio.security.StringMatch", []string{"exact", "prefix", "suffix", "presence"}},
		{&ca.IstioCertificateRequest{}, "istio.v1.auth.IstioCertificateRequest", []string{"csr", "", "validity_duration", "metadata"}},
		{&ca.IstioCertificateResponse{}, "istio.v1.auth.IstioCertificateResponse", []string{"cert_chain"}},
	} {
		desc := tc.msg.ProtoReflect().Descriptor()
		if desc.FullName() != tc.name {
			t.Errorf("%s is called %s", tc.name, desc.FullName())
		}
		used := 0
		for i, name := range tc.want {
			if name == "" {
				continue
			}
			used++
			if f := desc.Fields().ByNumber(protoreflect.FieldNumber(i + 1)); f == nil || string(f.Name()) != name {
				t.Errorf("%s field %d: got %v, want %s", tc.name, i+1, f, name)
			}
		}
		if desc.Fields().Len() != used {
			t.Errorf("%s has %d fields, want %d", tc.name, desc.Fields().Len(), used)
		}
	}
	if ca.IstioCertificateService_CreateCertificate_FullMethodName != "/istio.v1.auth.IstioCertificateService/CreateCertificate" {
		t.Errorf("method is %s", ca.IstioCertificateService_CreateCertificate_FullMethodName)
	}
}

func TestEnumNumbers(t *testing.T) {
	for _, tc := range []struct {
		enum protoreflect.Enum
		want []string
	}{
		{workload.TunnelProtocol(0), []string{"NONE", "HBONE", "LEGACY_ISTIO_MTLS"}},
		{workload.WorkloadStatus(0), []string{"HEALTHY", "UNHEALTHY"}},
		{workload.WorkloadType(0), []string{"DEPLOYMENT", "CRONJOB", "POD", "JOB"}},
		{workload.AppProtocol(0), []string{"UNKNOWN", "HTTP11", "HTTP2", "GRPC", "TCP", "TLS"}},
		{workload.NetworkMode(0), []string{"STANDARD", "HOST_NETWORK"}},
		{workload.IPFamilies(0), []string{"AUTOMATIC", "IPV4_ONLY", "IPV6_ONLY", "DUAL"}},
		{workload.LoadBalancing_Scope(0), []string{"UNSPECIFIED_SCOPE", "REGION", "ZONE", "SUBZONE", "NODE", "CLUSTER", "NETWORK"}},
		{workload.LoadBalancing_Mode(0), []string{"UNSPECIFIED_MODE", "STRICT", "FAILOVER", "PASSTHROUGH"}},
		{workload.LoadBalancing_HealthPolicy(0), []string{"ONLY_HEALTHY", "ALLOW_ALL"}},
		{workload.Service_Visibility(0), []string{"PUBLIC", "NAMESPACE"}},
		{workload.ApplicationTunnel_Protocol(0), []string{"NONE", "PROXY"}},
		{authz.Scope(0), []string{"GLOBAL", "NAMESPACE", "WORKLOAD_SELECTOR"}},
		{authz.Action(0), []string{"ALLOW", "DENY"}},
	} {
		values := tc.enum.Descriptor().Values()
		if values.Len() != len(tc.want) {
			t.Errorf("%s has %d values, want %d", tc.enum.Descriptor().FullName(), values.Len(), len(tc.want))
		}
		for i, name := range tc.want {
			if v := values.ByNumber(protoreflect.EnumNumber(i)); v == nil || string(v.Name()) != name {
				t.Errorf("%s %d: got %v, want %s", tc.enum.Descriptor().FullName(), i, v, name)
			}
		}
	}
}
