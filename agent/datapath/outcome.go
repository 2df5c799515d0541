package datapath

import "github.com/ambit-mesh/ambit/bpf"

// Outcome is something that the kernel programs count. Its String is the metric's label.
type Outcome uint32

// The outcomes.
const (
	ConnectCaptured     = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_CONNECT_CAPTURED)
	ConnectLocal        = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_CONNECT_LOCAL)         // to loopback, link-local or the pod itself: left alone
	ConnectDeniedFull   = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_CONNECT_DENIED_FULL)   // no slot
	ConnectDeniedFamily = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_CONNECT_DENIED_FAMILY) // the pod has no address of that family
	ConnectDeniedMemory = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_CONNECT_DENIED_MEMORY) // no socket storage
	DNSCapturedTCP      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_DNS_CAPTURED_TCP)
	DNSCapturedUDP      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_DNS_CAPTURED_UDP)
	DNSDenied           = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_DNS_DENIED)          // no socket storage, or no address of that family
	DNSForward          = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_DNS_FORWARD)         // a resolver's socket was connected to the nameserver that a client asked
	DNSForwardUnknown   = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_DNS_FORWARD_UNKNOWN) // no such client: refused
	UDPUnprotected      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_UDP_UNPROTECTED)     // connect or first send of UDP that is no DNS
	BindPresented       = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_BIND_PRESENTED)
	BindDeniedFull      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_BIND_DENIED_FULL)
	BindDeniedPort      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_BIND_DENIED_PORT) // an application wanted a port of the mesh
	AddressCarried      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_ADDRESS_CARRIED)  // an accepted socket knows its original destination or true client
	AddressMissing      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_ADDRESS_MISSING)  // accepted by the mesh without one: marked, the ztunnel resets it
	AddressLost         = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_ADDRESS_LOST)     // could not be carried (should stay 0)
	LookupOutbound      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_OUTBOUND)
	LookupInbound       = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_INBOUND)
	LookupHBONE         = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_HBONE)
	LookupDNS           = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_DNS)
	LookupSelf          = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_SELF) // the pod to itself
	LookupBypass        = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_BYPASS)
	LookupProbe         = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_PROBE)
	LookupDropped       = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_DROPPED)      // no listener: the kernel resets
	LookupDroppedPort   = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_LOOKUP_DROPPED_PORT) // the pod itself, straight to a port of the mesh
	ProbeAdmitted       = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_PROBE_ADMITTED)
	ProbeFull           = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_PROBE_FULL)
	ProbeStranger       = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_PROBE_STRANGER) // another process of the host's namespace, to a declared probe port: not exempt
	EgressMesh          = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_MESH)
	EgressControl       = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_CONTROL) // RST, or a bare ACK of a connection that is closed already
	EgressProbe         = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_PROBE)
	EgressOlder         = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_OLDER)
	EgressNotTCP        = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_NOT_TCP)
	EgressBypass        = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_BYPASS)      // the application's own answers, inbound capture being off
	EgressApplication   = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_APPLICATION) // a connection of the application's that was not captured
	EgressRaw           = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_RAW)         // a raw or packet socket
	EgressNoSocket      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_NO_SOCKET)
	EgressUnparsed      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_UNPARSED)
	EgressDropped       = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_EGRESS_DROPPED) // of the last four, in strict capture
	OlderTagged         = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_OLDER_TAGGED)
	OlderDestroyed      = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_OLDER_DESTROYED)
	SlotSwept           = Outcome(bpf.ConnectAmbitOutcomeAMBIT_OUT_SLOT_SWEPT) // counted by the agent
)

const outcomes = int(bpf.ConnectAmbitOutcomeAMBIT_OUTCOMES)

var outcomeNames = [outcomes]string{
	ConnectCaptured:     "connect_captured",
	ConnectLocal:        "connect_local",
	ConnectDeniedFull:   "connect_denied_full",
	ConnectDeniedFamily: "connect_denied_family",
	ConnectDeniedMemory: "connect_denied_memory",
	DNSCapturedTCP:      "dns_captured_tcp",
	DNSCapturedUDP:      "dns_captured_udp",
	DNSDenied:           "dns_denied",
	DNSForward:          "dns_forward",
	DNSForwardUnknown:   "dns_forward_unknown",
	UDPUnprotected:      "udp_unprotected",
	BindPresented:       "bind_presented",
	BindDeniedFull:      "bind_denied_full",
	BindDeniedPort:      "bind_denied_port",
	AddressCarried:      "address_carried",
	AddressMissing:      "address_missing",
	AddressLost:         "address_lost",
	LookupOutbound:      "lookup_outbound",
	LookupInbound:       "lookup_inbound",
	LookupHBONE:         "lookup_hbone",
	LookupDNS:           "lookup_dns",
	LookupSelf:          "lookup_self",
	LookupBypass:        "lookup_bypass",
	LookupProbe:         "lookup_probe",
	LookupDropped:       "lookup_dropped",
	LookupDroppedPort:   "lookup_dropped_port",
	ProbeAdmitted:       "probe_admitted",
	ProbeFull:           "probe_full",
	ProbeStranger:       "probe_stranger",
	EgressMesh:          "egress_mesh",
	EgressControl:       "egress_control",
	EgressProbe:         "egress_probe",
	EgressOlder:         "egress_older",
	EgressNotTCP:        "egress_not_tcp",
	EgressBypass:        "egress_bypass",
	EgressApplication:   "egress_application",
	EgressRaw:           "egress_raw",
	EgressNoSocket:      "egress_no_socket",
	EgressUnparsed:      "egress_unparsed",
	EgressDropped:       "egress_dropped",
	OlderTagged:         "older_tagged",
	OlderDestroyed:      "older_destroyed",
	SlotSwept:           "slot_swept",
}

// String is the outcome's name in lower case with underscores.
func (o Outcome) String() string {
	if int(o) < outcomes && outcomeNames[o] != "" {
		return outcomeNames[o]
	}
	return "unknown"
}
