// Package spiffe answers who a workload is: a typed SPIFFE id of the one shape Kubernetes meshes use,
// spiffe://<trust domain>/ns/<namespace>/sa/<service account>.
//
// It parses, formats and reads ids out of certificates; it verifies nothing. Everyone uses it, so that no identity is
// passed on as a string. IDs are values: comparable, usable as map keys, safe for concurrent use.
package spiffe

import (
	"errors"
	"fmt"
	"strings"
)

const (
	scheme = "spiffe://"

	// MaxLength bounds an id in bytes (SPIFFE-ID section 2.4 requires support for 2048 and forbids more).
	MaxLength = 2048
	// maxTrustDomain bounds a trust domain in bytes (SPIFFE-ID section 2.1).
	maxTrustDomain = 255
)

// ID is the identity of a workload. The zero value is no identity.
type ID struct {
	TrustDomain    string
	Namespace      string
	ServiceAccount string
}

// ErrNone says that there was no identity to read where one was expected.
var ErrNone = errors.New("no spiffe id")

// Parse reads an id with its scheme. It accepts exactly the form that String writes and nothing else: no user, port,
// query, fragment, escape, empty segment or trailing slash.
func Parse(s string) (ID, error) {
	if s == "" {
		return ID{}, ErrNone
	}
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return ID{}, fmt.Errorf("spiffe id %s: want scheme %s", quote(s), scheme)
	}
	return ParsePrincipal(rest)
}

// ParsePrincipal reads an id without its scheme, the form in which policies name principals.
func ParsePrincipal(s string) (ID, error) {
	if len(s)+len(scheme) > MaxLength {
		return ID{}, fmt.Errorf("spiffe id of %d bytes: want at most %d", len(s)+len(scheme), MaxLength)
	}
	part := strings.Split(s, "/")
	if len(part) != 5 || part[1] != "ns" || part[3] != "sa" {
		return ID{}, fmt.Errorf("spiffe id %s: want <trust domain>/ns/<namespace>/sa/<service account>", quote(s))
	}
	id := ID{TrustDomain: part[0], Namespace: part[2], ServiceAccount: part[4]}
	if err := id.Validate(); err != nil {
		return ID{}, fmt.Errorf("spiffe id %s: %w", quote(s), err)
	}
	return id, nil
}

// Validate reports whether every part is one that Parse would accept. An id that was put together by hand is checked with
// it before it is written anywhere.
func (id ID) Validate() error {
	if err := ValidateTrustDomain(id.TrustDomain); err != nil {
		return err
	}
	if err := validateSegment("namespace", id.Namespace); err != nil {
		return err
	}
	if err := validateSegment("service account", id.ServiceAccount); err != nil {
		return err
	}
	if n := len(id.String()); n > MaxLength {
		return fmt.Errorf("%d bytes: want at most %d", n, MaxLength)
	}
	return nil
}

// String is the id as a URI, or "" for the zero value.
func (id ID) String() string {
	if id == (ID{}) {
		return ""
	}
	return scheme + id.Principal()
}

// Principal is the id without its scheme, or "" for the zero value.
func (id ID) Principal() string {
	if id == (ID{}) {
		return ""
	}
	return id.TrustDomain + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

// MarshalText writes the id as String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote; an empty text is the zero value.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ValidateTrustDomain reports whether td may be a trust domain: lower-case letters, digits, dot, dash and underscore.
func ValidateTrustDomain(td string) error {
	if td == "" {
		return errors.New("empty trust domain")
	}
	if len(td) > maxTrustDomain {
		return fmt.Errorf("trust domain of %d bytes: want at most %d", len(td), maxTrustDomain)
	}
	for i := range len(td) {
		if c := td[i]; !isLower(c) && !isDigit(c) && !isPunct(c) {
			return fmt.Errorf("trust domain %s: byte %q is not allowed", quote(td), c)
		}
	}
	return nil
}

// validateSegment applies the rules for path segments (SPIFFE-ID section 2.2).
func validateSegment(what, s string) error {
	if s == "" || s == "." || s == ".." {
		return fmt.Errorf("%s %q is not allowed", what, s)
	}
	for i := range len(s) {
		if c := s[i]; !isLower(c) && !isDigit(c) && !isPunct(c) && (c < 'A' || c > 'Z') {
			return fmt.Errorf("%s %s: byte %q is not allowed", what, quote(s), c)
		}
	}
	return nil
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isPunct(c byte) bool { return c == '.' || c == '-' || c == '_' }

// quote shows a hostile string in an error without letting it grow the log.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
