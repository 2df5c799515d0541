package auth

import (
	"context"
	"errors"
	"fmt"
)

// Named is an authenticator with the name by which its errors are told apart.
type Named struct {
	Name string
	Authenticator
}

// Chain accepts a token that one of its authenticators accepts, asked in order. If none does, the error holds each one's. The
// cheap come first: a token that is not the lab's is known as such without asking an API server.
type Chain []Named

// Authenticate implements Authenticator.
func (c Chain) Authenticate(ctx context.Context, token string) (Caller, error) {
	var all []error
	for _, a := range c {
		caller, err := a.Authenticate(ctx, token)
		if err == nil {
			return caller, nil
		}
		all = append(all, fmt.Errorf("%s: %w", a.Name, err))
	}
	if len(all) == 0 {
		return Caller{}, errors.New("no way to check tokens is configured")
	}
	return Caller{}, errors.Join(all...)
}
