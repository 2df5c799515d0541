package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// ErrNoCredentials says that a call came with neither a bearer token nor a client certificate.
var ErrNoCredentials = errors.New("no bearer token and no client certificate")

// Calls authenticates gRPC calls, by bearer token, client certificate or both. It is a value, safe for concurrent use.
//
//	certificate  token    outcome
//	none         none     ErrNoCredentials
//	none         good     the token's caller, with pod and node
//	good         none     the certificate's service account; where it runs is not known
//	good         good     the token's caller if both are of one service account, else refused
//	bad          any      refused: who shows a certificate means it
//	any          bad      refused
type Calls struct {
	Tokens Authenticator
	// Certificates checks client certificates; nil refuses calls that come with one.
	Certificates *Certificates
	// Known, if set, is told of every caller that was authenticated, with the context of its method.
	Known func(context.Context, Caller)
}

// Authenticate names the caller of the gRPC method that ctx belongs to. The error says which credential was refused and why.
func (c Calls) Authenticate(ctx context.Context) (Caller, error) {
	caller, err := c.caller(ctx)
	if err == nil && c.Known != nil {
		c.Known(ctx, caller)
	}
	return caller, err
}

func (c Calls) caller(ctx context.Context) (Caller, error) {
	byCert, shown, err := c.certificate(ctx)
	if err != nil {
		return Caller{}, fmt.Errorf("client certificate: %w", err)
	}
	token, err := bearer(ctx)
	switch {
	case errors.Is(err, ErrNoToken) && shown:
		return byCert, nil
	case errors.Is(err, ErrNoToken):
		return Caller{}, ErrNoCredentials
	case err != nil:
		return Caller{}, err
	}
	byToken, err := c.Tokens.Authenticate(ctx, token)
	if err != nil {
		return Caller{}, err
	}
	if shown && byCert.Account() != byToken.Account() {
		return Caller{}, fmt.Errorf("client certificate is of %s, bearer token of %s", byCert.Account(), byToken.Account())
	}
	return byToken, nil
}

// Code is what a caller is told of an error of Authenticate: that it is refused, or that it may try again.
func Code(err error) codes.Code {
	if errors.Is(err, ErrUnavailable) {
		return codes.Unavailable
	}
	return codes.Unauthenticated
}

// certificate is the caller by its certificate; shown is false if it has none.
func (c Calls) certificate(ctx context.Context) (caller Caller, shown bool, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Caller{}, false, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return Caller{}, false, nil
	}
	if c.Certificates == nil {
		return Caller{}, true, errors.New("not accepted here")
	}
	caller, err = c.Certificates.Verify(info.State.PeerCertificates)
	return caller, true, err
}

// bearer is the token in a call's authorization header. ErrNoToken: there is no such header.
func bearer(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	switch len(values) {
	case 0:
		return "", ErrNoToken
	case 1:
	default:
		return "", errors.New("more than one authorization header")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return "", errors.New("authorization header holds no bearer token")
	}
	token = strings.TrimSpace(token) // proxies send the token file as it is, newline included
	switch {
	case token == "":
		return "", errors.New("bearer token is empty")
	case len(token) > MaxToken:
		return "", fmt.Errorf("bearer token of %d bytes: want at most %d", len(token), MaxToken)
	}
	return token, nil
}
