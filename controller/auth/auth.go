// Package auth answers who is calling: it turns a bearer token into a service account and the node it runs on, and a client
// certificate into a service account.
//
// It decides nothing about what the caller may do. The controller's xDS and certificate services ask Calls for every stream and
// call. Tokens of the lab are verified here; Kubernetes' TokenReview implements the same interface, and Chain tries several.
package auth

import (
	"context"
	"errors"
	"log/slog"
)

// Audience is what a token for the mesh's control plane must be meant for.
const Audience = "istio-ca"

// MaxToken bounds a token in bytes.
const MaxToken = 16 << 10

// Caller is an authenticated service account. Node and Pod are empty if the token is not bound to a pod.
type Caller struct {
	Namespace      string
	ServiceAccount string
	Node           string
	Pod            string
	PodUID         string
}

// Account is "namespace/service account".
func (c Caller) Account() string { return c.Namespace + "/" + c.ServiceAccount }

// LogValue names the caller in logs.
func (c Caller) LogValue() slog.Value {
	return slog.GroupValue(slog.String("account", c.Account()), slog.String("node", c.Node), slog.String("pod", c.Pod))
}

// Authenticator verifies tokens. It is safe for concurrent use. An error says why; it never holds the token.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (Caller, error)
}

// ErrUnavailable is in the chain of an error that says nothing about the token: whoever could check it gives no answer now. The
// caller may try again.
var ErrUnavailable = errors.New("tokens cannot be checked now")

// ErrNoToken says that a call came without a bearer token.
var ErrNoToken = errors.New("no bearer token")
