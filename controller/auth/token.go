package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Issuer is the issuer of the lab's tokens.
const Issuer = "ambit-lab"

// leeway is how far two clocks of one lab may be apart.
const leeway = 5 * time.Second

// kubernetes is the private claim of a Kubernetes token that is bound to a pod; the lab's have the same.
type kubernetes struct {
	Namespace      string `json:"namespace"`
	ServiceAccount named  `json:"serviceaccount"`
	Pod            *named `json:"pod,omitempty"`
	Node           *named `json:"node,omitempty"`
}

type named struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

type claims struct {
	jwt.Claims
	Kubernetes kubernetes `json:"kubernetes.io"`
}

// Mint makes a token for the caller that is valid from now for ttl, signed with an Ed25519 or P-256 key. The lab uses it in the
// place of kubelet's token projection.
func Mint(key crypto.Signer, c Caller, ttl time.Duration, now time.Time) (string, error) {
	alg, err := algorithm(key.Public())
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("token signer: %w", err)
	}
	cl := claims{
		Claims: jwt.Claims{
			Issuer: Issuer, Subject: "system:serviceaccount:" + c.Namespace + ":" + c.ServiceAccount, Audience: jwt.Audience{Audience},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(ttl)),
		},
		Kubernetes: kubernetes{Namespace: c.Namespace, ServiceAccount: named{Name: c.ServiceAccount}},
	}
	if c.Pod != "" {
		cl.Kubernetes.Pod = &named{c.Pod, c.PodUID}
	}
	if c.Node != "" {
		cl.Kubernetes.Node = &named{Name: c.Node}
	}
	return jwt.Signed(signer).Claims(cl).Serialize()
}

// Verifier accepts tokens made by Mint with the private half of one of its keys.
type Verifier struct {
	keys []crypto.PublicKey
	now  func() time.Time
}

// NewVerifier makes a Verifier for Ed25519 and P-256 keys. now is the clock.
func NewVerifier(keys []crypto.PublicKey, now func() time.Time) (*Verifier, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key to verify tokens with")
	}
	for _, k := range keys {
		if _, err := algorithm(k); err != nil {
			return nil, err
		}
	}
	return &Verifier{slices.Clone(keys), now}, nil
}

// Authenticate implements Authenticator.
func (v *Verifier) Authenticate(_ context.Context, token string) (Caller, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256})
	if err != nil {
		return Caller{}, errors.New("token is not a signed JWT of a known algorithm")
	}
	cl, err := v.verify(parsed)
	if err != nil {
		return Caller{}, err
	}
	if cl.Expiry == nil {
		return Caller{}, errors.New("token never expires")
	}
	expected := jwt.Expected{Issuer: Issuer, AnyAudience: jwt.Audience{Audience}, Time: v.now()}
	if err := cl.ValidateWithLeeway(expected, leeway); err != nil {
		return Caller{}, fmt.Errorf("token: %w", err)
	}
	return cl.caller()
}

func (v *Verifier) verify(token *jwt.JSONWebToken) (claims, error) {
	for _, key := range v.keys {
		alg, err := algorithm(key)
		if err != nil || len(token.Headers) != 1 || token.Headers[0].Algorithm != string(alg) {
			continue
		}
		var cl claims
		if err := token.Claims(key, &cl); err == nil {
			return cl, nil
		}
	}
	return claims{}, errors.New("token's signature is not that of a known key")
}

// caller reads who the token is for; names that no API server would give are refused, since they end up in identities.
func (c claims) caller() (Caller, error) {
	out := Caller{Namespace: c.Kubernetes.Namespace, ServiceAccount: c.Kubernetes.ServiceAccount.Name}
	if c.Kubernetes.Pod != nil {
		out.Pod, out.PodUID = c.Kubernetes.Pod.Name, c.Kubernetes.Pod.UID
	}
	if c.Kubernetes.Node != nil {
		out.Node = c.Kubernetes.Node.Name
	}
	if c.Subject != "system:serviceaccount:"+out.Namespace+":"+out.ServiceAccount {
		return Caller{}, errors.New("token's subject is not its service account")
	}
	if len(validation.IsDNS1123Label(out.Namespace)) > 0 || len(validation.IsDNS1123Subdomain(out.ServiceAccount)) > 0 {
		return Caller{}, errors.New("token names no valid service account")
	}
	if strings.ContainsAny(out.Node+out.Pod, "/ \n") {
		return Caller{}, errors.New("token names no valid node or pod")
	}
	return out, nil
}

func algorithm(key crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize == 256 {
			return jose.ES256, nil
		}
	}
	return "", fmt.Errorf("key of type %T cannot sign tokens: want Ed25519 or ECDSA P-256", key)
}
