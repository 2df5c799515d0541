package ca

import (
	"encoding/json"
	"fmt"
	"time"
)

// Phase is where the replacement of a root stands.
//
//	stable ──begin──► distributing ──switch──► switched ──finish──► stable
//	 old signs          old signs               new signs            new signs
//	 old trusted        old, new trusted        new, old trusted     new trusted
//
// No connection is lost if whoever holds a certificate of one phase also trusts those of the next. A certificate brings the
// roots along with it and lives no longer than the overlap; so one overlap after both roots went out, nobody is left who was
// told of the old one only, and one overlap after the switch, nothing is left that the old one signed.
type Phase string

// The phases.
const (
	Stable       Phase = ""
	Distributing Phase = "distributing"
	Switched     Phase = "switched"
)

// Rotation is what is stored of a rotation.
type Rotation struct {
	Phase Phase `json:"phase,omitempty"`
	// Since is when the phase's bundle had reached everybody who does not get it with a certificate; zero: not yet.
	Since time.Time `json:"since,omitzero"`
	// Request is the operator's text (KeyRotate) that was acted on last.
	Request string `json:"request,omitempty"`
	Cause   Cause  `json:"cause,omitempty"`
}

// Cause is why a rotation began.
type Cause string

// The causes.
const (
	CauseExpiry   Cause = "expiry"
	CauseOperator Cause = "operator"
	CauseReplaced Cause = "replaced" // somebody overwrote what is stored with another root
)

// maxRequest bounds the operator's text in bytes.
const maxRequest = 256

// parseRotation reads what is stored; nothing is Stable.
func parseRotation(data []byte) (Rotation, error) {
	var r Rotation
	if len(data) == 0 {
		return r, nil
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Rotation{}, fmt.Errorf("%s: %w", KeyRotation, err)
	}
	if r.Phase != Stable && r.Phase != Distributing && r.Phase != Switched {
		return Rotation{}, fmt.Errorf("%s: unknown phase %.32q", KeyRotation, string(r.Phase))
	}
	return r, nil
}

// Windows are the times of a rotation.
type Windows struct {
	// Overlap is how long both roots are trusted before the new one signs, and again after. No certificate is made to live
	// longer.
	Overlap time.Duration
	// Settle is added to each overlap: how long replicas and files of roots may be behind.
	Settle time.Duration
}

// whole is one phase.
func (w Windows) whole() time.Duration { return w.Overlap + w.Settle }

// facts are what a step depends on besides the rotation itself.
type facts struct {
	now         time.Time
	from, to    time.Time // life of the root that signed first, in a rotation the old one
	request     string    // the operator's text
	distributed bool      // the trusted bundle has reached everybody; asked only while Since is zero
}

// step is what is to be done next.
type step int

const (
	stepNone   step = iota
	stepBegin       // make a root and have both trusted
	stepNote        // both roots are with everybody: the phase's time runs
	stepSwitch      // the new root signs
	stepFinish      // the old root is no longer trusted
)

// next decides. A root is replaced when less than a fifth of its life is left, as Istio does, or less than a rotation needs.
// One that ends before the windows do hurries its rotation: what it signed ends with it.
func (r Rotation) next(f facts, w Windows) (step, Cause) {
	switch r.Phase {
	case Stable:
		left := f.to.Sub(f.now)
		switch {
		case f.request != "" && f.request != r.Request:
			return stepBegin, CauseOperator
		case left < f.to.Sub(f.from)/5 || left < 3*w.whole():
			return stepBegin, CauseExpiry
		}
	case Distributing:
		switch {
		case !f.now.Before(f.to):
			return stepSwitch, r.Cause
		case r.Since.IsZero() && f.distributed:
			return stepNote, r.Cause
		case !r.Since.IsZero() && !f.now.Before(r.switchAt(f.to, w)):
			return stepSwitch, r.Cause
		}
	case Switched:
		if !f.now.Before(f.to) || !f.now.Before(r.Since.Add(w.whole())) {
			return stepFinish, r.Cause
		}
	}
	return stepNone, ""
}

// switchAt is when the new root is to sign: after the overlap; at the latest at three quarters of what the old root has left,
// because proxies renew at half of a certificate's life.
func (r Rotation) switchAt(oldEnds time.Time, w Windows) time.Time {
	at := r.Since.Add(w.whole())
	if latest := r.Since.Add(oldEnds.Sub(r.Since) / 4 * 3); latest.Before(at) {
		return latest
	}
	return at
}
