package policy

// Reason says why. It is the label of metrics, logs and tests.
type Reason uint8

// The reasons; the package comment says when each applies.
const (
	Unjudged        Reason = iota // the zero value: nobody decided, so denied
	NotSynced                     // the first full synchronisation has not ended
	WorkloadUnknown               // the destination workload is not known here
	PolicyMissing                 // a policy that the workload names has not arrived
	PolicyInvalid                 // a policy that applies could not be parsed
	ExplicitDeny                  // a DENY policy matched
	MTLSRequired                  // a DENY made from STRICT mutual TLS matched
	NoAllowMatched                // ALLOW policies apply and none matched
	NoPolicy                      // no ALLOW policy applies
	ExplicitAllow                 // an ALLOW policy matched
	reasonEnd
)

var reasonNames = [reasonEnd]string{
	"Unjudged", "NotSynced", "WorkloadUnknown", "PolicyMissing", "PolicyInvalid", "ExplicitDeny", "MTLSRequired",
	"NoAllowMatched", "NoPolicy", "ExplicitAllow",
}

// String is the name of the constant.
func (r Reason) String() string {
	if r >= reasonEnd {
		return "Unknown"
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

// Pending reports whether a denial for this reason is likely to change by itself as state arrives, so that a new
// connection is worth holding for a moment, and a live one is not to be closed at once.
func (r Reason) Pending() bool {
	switch r {
	case NotSynced, WorkloadUnknown, PolicyMissing, PolicyInvalid:
		return true
	default:
		return false
	}
}
