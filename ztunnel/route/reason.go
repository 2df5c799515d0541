package route

// String is the name of the constant in lower case.
func (k Kind) String() string {
	names := [...]string{"refuse", "hold", "direct", "same-node", "hbone", "waypoint", "gateway"}
	if int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// Reason explains a plan. It is the label of metrics, logs and tests.
type Reason uint8

// The reasons; Resolve's and ResolveInbound's comments say when each applies.
const (
	Unresolved         Reason = iota // the zero value: nobody decided
	NotSynced                        // hold: the first full synchronisation has not ended
	SourceUnknown                    // hold: the connecting workload is not known
	AddressUnknown                   // hold: an unknown address inside the mesh's own ranges
	IllegalPort                      // refuse: a port of the mesh itself
	NoEndpoints                      // refuse: the service has no usable endpoint (left)
	NoServicePort                    // refuse: the service does not have this port
	WaypointUnresolved               // refuse: a waypoint is configured and cannot be reached
	GatewayMissing                   // refuse: another network, and no (resolvable) gateway into it
	NoAddress                        // refuse: the chosen endpoint has no address
	CrossNetwork                     // refuse: only services can be reached in another network
	NoIdentity                       // refuse: nothing says who the far end must be
	AuthorityInvalid                 // refuse (400): the authority is not host:port
	AuthorityMismatch                // refuse (400): the authority is not the address that was dialled
	ServiceUnknown                   // refuse (503): the authority names no service of this workload

	Unknown         // direct: an address outside the mesh
	PassthroughMode // direct: the service asks for its address as it is
	NoTunnel        // direct: the endpoint takes no tunnel
	ToWorkload      // tunnel to an endpoint
	ToWaypoint      // tunnel to a waypoint
	ToGateway       // tunnel through a gateway
	reasonEnd
)

var reasonNames = [reasonEnd]string{
	"Unresolved", "NotSynced", "SourceUnknown", "AddressUnknown", "IllegalPort", "NoEndpoints", "NoServicePort",
	"WaypointUnresolved", "GatewayMissing", "NoAddress", "CrossNetwork", "NoIdentity", "AuthorityInvalid", "AuthorityMismatch",
	"ServiceUnknown", "Unknown", "PassthroughMode", "NoTunnel", "ToWorkload", "ToWaypoint", "ToGateway",
}

// String is the name of the constant.
func (r Reason) String() string {
	if r >= reasonEnd {
		return "Invalid"
	}
	return reasonNames[r]
}

// Reasons lists all of them.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonEnd)
	for r := range reasonEnd {
		all = append(all, r)
	}
	return all
}
