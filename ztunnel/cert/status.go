package cert

import (
	"cmp"
	"crypto/x509"
	"slices"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

// Status is what an operator is shown of one identity.
type Status struct {
	Identity spiffe.ID
	// State is "Available", "Initializing" or "Unavailable: <why>", the words that istioctl knows.
	State string
	// Chain and Roots are empty without a certificate.
	Chain []*x509.Certificate
	Roots []*x509.Certificate
	// Renew is when the CA is asked next.
	Renew time.Time
	// Generation is the certificate's, 0 without one.
	Generation uint64
}

// Status lists all identities by name.
func (s *Store) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	all := make([]Status, 0, len(s.entries))
	for _, e := range s.entries {
		st := Status{Identity: e.id, State: e.stateLocked(now), Renew: e.due}
		if e.cert != nil {
			st.Chain, st.Roots, st.Generation = e.cert.Chain, e.cert.Roots, e.cert.Generation
		}
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Identity.String(), b.Identity.String()) })
	return all
}

func (e *entry) stateLocked(now time.Time) string {
	switch {
	case e.validLocked(now):
		return "Available"
	case e.err != nil:
		return "Unavailable: " + e.err.Error()
	case e.cert != nil:
		return "Unavailable: expired"
	default:
		return "Initializing"
	}
}
