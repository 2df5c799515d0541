package validate

import "slices"

// mark is a label or annotation that the mesh reads, or that Istio's own programs leave behind and nobody need heed.
type mark struct {
	key    string
	on     []string // kinds; nil for any
	values []string // "" for any name, "bool" for booleans of an agent, else the values; nil for anything
}

var marks = struct{ labels, annotations []mark }{
	labels: []mark{
		{"istio.io/dataplane-mode", []string{"Namespace", "Pod"}, []string{"ambient", "none"}},
		{"istio.io/use-waypoint", []string{"Namespace", "Service", "ServiceEntry", "Pod", "WorkloadEntry"}, []string{""}},
		{"istio.io/use-waypoint-namespace", []string{"Namespace", "Service", "ServiceEntry", "Pod", "WorkloadEntry"}, []string{""}},
		{"istio.io/use-waypoint-canary", []string{"Namespace", "Service", "ServiceEntry"}, []string{""}},
		{"istio.io/use-waypoint-canary-namespace", []string{"Namespace", "Service", "ServiceEntry"}, []string{""}},
		{"istio.io/waypoint-for", []string{"Gateway", "GatewayClass"}, []string{"service", "workload", "all", "none"}},
		{"istio.io/ingress-use-waypoint", []string{"Namespace", "Service"}, []string{"true", "false"}},
		{"networking.istio.io/enable-autoallocate-ip", []string{"ServiceEntry"}, []string{"true", "false"}},
		{"networking.istio.io/tunnel", []string{"Pod", "WorkloadEntry"}, nil},
		{"ambit.io/strict-capture", []string{"Namespace"}, []string{"bool"}},
		{"istio.io/tag", nil, nil},
		{"security.istio.io/tlsMode", nil, nil},
		{"topology.istio.io/network", nil, nil},
		{"topology.istio.io/cluster", nil, nil},
		{"topology.istio.io/subzone", nil, nil},
		{"service.istio.io/canonical-name", nil, nil},
		{"service.istio.io/canonical-revision", nil, nil},
		{"service.istio.io/workload-name", nil, nil},
		{"gateway.istio.io/managed", nil, nil},
		{"operator.istio.io/component", nil, nil},
		{"operator.istio.io/managed", nil, nil},
		{"operator.istio.io/version", nil, nil},
		{"gateway.networking.k8s.io/gateway-name", nil, nil},
		{"gateway.networking.k8s.io/gateway-class-name", nil, nil},
	},
	annotations: []mark{
		{"istio.io/dry-run", []string{"AuthorizationPolicy"}, nil}, // its value: authorizationPolicy
		{"ambit.io/bypass-missing-waypoint", []string{"Namespace", "Service", "ServiceEntry", "Pod", "WorkloadEntry"}, []string{"true", "false"}},
		{"ambit.io/admit-past-waypoint", []string{"Namespace", "Service", "ServiceEntry"}, []string{"true", "false"}},
		{"ambit.io/strict-capture", []string{"Pod"}, []string{"bool"}},
		{"ambient.istio.io/bypass-inbound-capture", []string{"Pod"}, []string{"bool"}},
		{"ambient.istio.io/dns-capture", []string{"Pod"}, []string{"bool"}},
		{"ambient.istio.io/redirection", []string{"Pod"}, []string{"enabled", "pending"}},
		{"ambient.istio.io/waypoint-inbound-binding", []string{"Gateway", "GatewayClass"}, nil},
		{"networking.istio.io/traffic-distribution", []string{"Service", "Namespace", "ServiceEntry"}, []string{"PreferClose", "PreferSameZone", "PreferSameNode"}},
		{"networking.istio.io/exportTo", []string{"Service"}, nil},
		{"istio.io/use-waypoint-canary-weight", nil, nil},
		{"istio.io/connect-strategy", nil, nil},
		{"sidecar.istio.io/status", nil, nil},
		{"galley.istio.io/analyze-suppress", nil, nil},
		{"gateway.istio.io/name-override", nil, nil},
		{"gateway.istio.io/service-account", nil, nil},
		{"gateway.istio.io/controller-version", nil, nil},
		{"istio.io/autoRegistrationGroup", nil, nil},
		{"istio.io/connectedAt", nil, nil},
		{"istio.io/disconnectedAt", nil, nil},
		{"istio.io/rev", nil, nil},
	},
}

func find(list []mark, key string) (mark, bool) {
	i := slices.IndexFunc(list, func(m mark) bool { return m.key == key })
	if i < 0 {
		return mark{}, false
	}
	return list[i], true
}
