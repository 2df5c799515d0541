package ca

import (
	"context"
	"errors"
)

// Keys of a self-signed authority's data. The first five are those of Istio's Secret istio-ca-secret (type istio.io/ca-root),
// of which Istio fills the first two only; the others are ours, and Istio ignores them.
const (
	KeyCert  = "ca-cert.pem"
	KeyKey   = "ca-key.pem"
	KeyChain = "cert-chain.pem"
	KeyRoot  = "root-cert.pem"
	KeyOther = "key.pem"

	KeyNextCert = "ambit-next-cert.pem"     // the root that will sign, while it is being distributed
	KeyNextKey  = "ambit-next-key.pem"      // its private key
	KeyPrevious = "ambit-previous-cert.pem" // the root that signed before, while it is still trusted
	KeyRotation = "ambit-rotation.json"     // where a rotation stands
	KeyRotate   = "ambit-rotate"            // the operator's: a text that is new here starts a rotation
)

// ErrConflict says that what is stored is no longer what the caller loaded. Load again and decide anew.
var ErrConflict = errors.New("the stored authority has changed meanwhile")

// Store keeps the self-signed authority's data, private keys included, for all replicas. Implementations: Folder, and
// controller/kube's over a Secret. It is safe for concurrent use, also by several processes.
type Store interface {
	// Load gives what is stored and its version. Nil data and an empty version: nothing is stored yet.
	Load(ctx context.Context) (data map[string][]byte, version string, err error)
	// Save replaces everything that is stored, if that is still of the given version ("": nothing may be stored), and gives
	// the new version. ErrConflict: it is not, and nothing was written.
	Save(ctx context.Context, data map[string][]byte, version string) (newVersion string, err error)
}
