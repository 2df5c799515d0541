package telemetry

import (
	"net/netip"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

// Reporter is whose side of a connection reports it.
type Reporter uint8

// The reporters, as the metrics' label names them.
const (
	Source      Reporter = iota // the client's ztunnel: outbound
	Destination                 // the server's ztunnel: inbound
)

// String is the label's value.
func (r Reporter) String() string {
	if r == Destination {
		return "destination"
	}
	return "source"
}

// Direction is the log's word.
func (r Reporter) Direction() string {
	if r == Destination {
		return "inbound"
	}
	return "outbound"
}

// Flag is Istio's response_flags label: the class of a failure.
type Flag uint8

// The flags.
const (
	FlagNone          Flag = iota // nothing failed
	FlagDeny                      // policy denied it, or closed it later
	FlagConnect                   // could not connect, and anything unclassified
	FlagTLS                       // TLS handshake
	FlagHTTP2                     // any HTTP/2 error
	FlagNetworkPolicy             // connect timeout to the tunnel port
	FlagIdentity                  // no certificate
	FlagRevoked                   // certificate revoked
	flagEnd
)

var flagNames = [flagEnd]string{
	"-", "DENY", "CONNECT", "TLS_FAILURE", "H2_HANDSHAKE_FAILURE", "NETWORK_POLICY", "IDENTITY_ERROR", "CERT_REVOKED",
}

// String is the label's value.
func (f Flag) String() string {
	if f >= flagEnd {
		return flagNames[FlagConnect]
	}
	return flagNames[f]
}

// End is one end of a connection as metrics name it. Empty is unknown. Strings must come from configuration or be bounded
// by the caller; together they decide how many series there are.
type End struct {
	Workload          string // the deployment
	Namespace         string
	CanonicalService  string
	CanonicalRevision string // also the version
	App               string
	Cluster           string
	Region, Zone      string
	// Principal of a source is the identity that TLS proved; of a destination the one its workload must have.
	Principal spiffe.ID
}

// WorkloadEnd describes a workload of the snapshot; nil is unknown. The principal is the one that the workload must have:
// clear it, or set what TLS proved, where the end is a source.
func WorkloadEnd(w *state.Workload) End {
	if w == nil {
		return End{}
	}
	return End{
		Workload: w.WorkloadName(), Namespace: w.Namespace, CanonicalService: w.CanonicalName,
		CanonicalRevision: w.CanonicalRevision, App: w.CanonicalName, Cluster: w.ClusterID,
		Region: w.Region, Zone: w.Zone, Principal: w.Identity(),
	}
}

// Service is what a connection was meant for. Empty is unknown.
type Service struct {
	Host, Namespace, Name string
}

// ServiceOf describes a service of the snapshot; nil is unknown.
func ServiceOf(s *state.Service) Service {
	if s == nil {
		return Service{}
	}
	return Service{Host: s.Hostname, Namespace: s.Namespace, Name: s.Name}
}

// Meter counts a connection's payload bytes: from the client to the server, and back. It may be asked at any time.
type Meter interface {
	Bytes() (request, response uint64)
}

// Flow is what is known of a connection when it is opened.
type Flow struct {
	Reporter    Reporter
	Source      End
	Destination End
	Service     Service
	// Secure says that it is carried by mutual TLS.
	Secure bool
	// Start is when the connection was accepted; zero means now.
	Start time.Time
	// Meter counts bytes that the Conn's own counters do not see; nil for none.
	Meter Meter

	// What follows is for the log only.

	// Client is the TCP peer, Dial the next hop (inbound: the address that was dialled).
	Client, Dial netip.AddrPort
	// Authority is the target within the tunnel; empty without one.
	Authority string
	// SourcePod and DestinationPod are pod names.
	SourcePod, DestinationPod string
	// Plan is what route decided, for instance "hbone".
	Plan string
}

// Outcome is how a connection ended. The zero value is an orderly end.
type Outcome struct {
	Flag Flag
	// Err is why it failed; nil if it did not.
	Err error
	// Refused says that route found no way for it; FlagDeny that policy forbade it. Both are counted by Reason.
	Refused bool
	// Unserved says that it ended before it was established. Whoever can reach a pod can cause as many as they like, so that
	// the log has only so many lines of them; see LogConfig.Rate.
	Unserved bool
	// Reason is the name of the policy or route reason that settled it, Policy the rule's name, Snapshot the version of the
	// snapshot it was judged by.
	Reason   string
	Policy   state.Key
	Snapshot uint64
	// Close says who ended it: "eof", "reset", "policy change", "drain", and the like.
	Close string
}
