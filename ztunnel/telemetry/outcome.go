package telemetry

import (
	"errors"
	"fmt"

	"github.com/ambit-mesh/ambit/ztunnel/state"
)

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

// Ended is the outcome of a connection that was carried: err is nil if both directions came to their end, else one side, the
// client or the server, has reset it.
func Ended(err error, byClient bool) Outcome {
	switch {
	case err == nil:
		return Outcome{Close: "eof"}
	case byClient:
		return Outcome{Close: "reset by client"}
	default:
		return Outcome{Close: "reset by server"}
	}
}

// TunnelLost is the outcome of a connection whose tunnel broke.
func TunnelLost(err error) Outcome {
	return Outcome{Flag: FlagHTTP2, Err: err, Close: "tunnel lost"}
}

// LostToBug is the outcome of a connection that a panic of ours has ended.
func LostToBug() Outcome { return Outcome{Flag: FlagConnect, Err: errBug, Close: "bug"} }

var errBug = errors.New("lost to a bug of the ztunnel; its log has the stack")

// CutFor is the outcome with the ztunnel's own reason for the end.
func (o Outcome) CutFor(why string) Outcome {
	o.Err, o.Close = fmt.Errorf("closed by the ztunnel: %s", why), why
	return o
}
