package kube

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ambit-mesh/ambit/controller/auth"
)

func jwt(claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256"}`)) + "." + enc([]byte(claims)) + "." + enc([]byte("signature"))
}

func newTestAuthenticator() *Authenticator {
	return NewAuthenticator(&Source{metrics: NewMetrics(prometheus.NewRegistry())}, "istio-ca")
}

// TestPrecheck: what the API server would refuse is refused without asking it, with a reason that helps.
func TestPrecheck(t *testing.T) {
	a := newTestAuthenticator()
	a.now = func() time.Time { return noon }
	soon, past := noon.Add(time.Hour).Unix(), noon.Add(-time.Hour).Unix()
	for _, tc := range []struct{ name, token, want string }{
		{"fine", jwt(fmt.Sprintf(`{"aud":["x","istio-ca"],"exp":%d}`, soon)), ""},
		{"one audience", jwt(fmt.Sprintf(`{"aud":"istio-ca","exp":%d}`, soon)), ""},
		{"clocks differ", jwt(fmt.Sprintf(`{"aud":"istio-ca","exp":%d}`, noon.Add(-10*time.Second).Unix())), ""},
		{"another audience", jwt(fmt.Sprintf(`{"aud":["api"],"exp":%d}`, soon)), `audience "api"`},
		{"no audience", jwt(fmt.Sprintf(`{"exp":%d}`, soon)), "audience"},
		{"no end", jwt(`{"aud":"istio-ca"}`), "never expires"},
		{"over", jwt(fmt.Sprintf(`{"aud":"istio-ca","exp":%d}`, past)), "expired"},
		{"endless", jwt(`{"aud":"istio-ca","exp":1e300}`), ""},
		{"before time", jwt(`{"aud":"istio-ca","exp":-1e300}`), "expired"},
		{"opaque", "abc", "not a JWT"},
		{"not JSON", jwt("x"), "claims"},
		{"not base64", "a.!.c", "claims"},
		{"too long", strings.Repeat("a", auth.MaxToken+1), "not a JWT"},
	} {
		_, err := a.precheck(tc.token)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v; want %q", tc.name, err, tc.want)
		}
	}
}

// FuzzPrecheck: nothing a caller sends panics before the API server is asked.
func FuzzPrecheck(f *testing.F) {
	a := newTestAuthenticator()
	f.Add(`{"aud":["istio-ca"],"exp":1}`)
	f.Add(`{"aud":{},"exp":"x"}`)
	f.Fuzz(func(_ *testing.T, claims string) {
		_, _ = a.precheck(jwt(claims))
		_, _ = a.precheck(claims)
	})
}

// TestCallerOf: only a confirmed service account with proper names is a caller.
func TestCallerOf(t *testing.T) {
	good := func() authenticationv1.TokenReviewStatus {
		return authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: []string{"istio-ca"},
			User: authenticationv1.UserInfo{Username: "system:serviceaccount:ambit-system:ambit-ztunnel", Extra: map[string]authenticationv1.ExtraValue{
				extraPod: {"z-1"}, extraUID: {"u"}, extraNode: {"n1"},
			}},
		}
	}
	want := auth.Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Pod: "z-1", PodUID: "u", Node: "n1"}
	if c, err := callerOf(good(), "istio-ca"); err != nil || c != want {
		t.Fatalf("%v %v", c, err)
	}
	for name, change := range map[string]func(*authenticationv1.TokenReviewStatus){
		"an error":          func(s *authenticationv1.TokenReviewStatus) { s.Error = "expired" },
		"not authenticated": func(s *authenticationv1.TokenReviewStatus) { s.Authenticated = false },
		"no audience":       func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil },
		"another audience":  func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"api"} },
		"a user":            func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "admin" },
		"no account":        func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:a:" },
		"a path":            func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:a/b:c" },
		"too many parts":    func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:a:b:c" },
		"a node that is no name": func(s *authenticationv1.TokenReviewStatus) {
			s.User.Extra[extraNode] = authenticationv1.ExtraValue{"a b"}
		},
	} {
		s := good()
		change(&s)
		if c, err := callerOf(s, "istio-ca"); err == nil || c != (auth.Caller{}) {
			t.Errorf("%s: %v %v", name, c, err)
		}
	}
	two := good()
	two.User.Extra[extraNode] = authenticationv1.ExtraValue{"n1", "n2"}
	if c, err := callerOf(two, "istio-ca"); err != nil || c.Node != "" {
		t.Errorf("two nodes: %v %v", c, err)
	}
}
