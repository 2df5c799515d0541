package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/ambit-mesh/ambit/controller/api/spiffe"
)

var (
	epoch = time.Unix(1_700_000_000, 0)
	node1 = Caller{Namespace: "ambit-system", ServiceAccount: "ambit-ztunnel", Node: "n1", Pod: "z", PodUID: "u"}
)

func at(d time.Duration) func() time.Time { return func() time.Time { return epoch.Add(d) } }

func edKey(t testing.TB) crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestMintAndVerify(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"ed25519": edKey(t), "p256": ecKey(t, elliptic.P256())} {
		token, err := Mint(key, node1, time.Hour, epoch)
		if err != nil {
			t.Fatal(name, err)
		}
		v, err := NewVerifier([]crypto.PublicKey{edKey(t).Public(), key.Public()}, at(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Authenticate(t.Context(), token); err != nil || got != node1 {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestRefused(t *testing.T) {
	key := edKey(t)
	good, err := Mint(key, node1, time.Hour, epoch)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(change func(*claims)) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := claims{
			Claims: jwt.Claims{
				Issuer: Issuer, Subject: "system:serviceaccount:a:b", Audience: jwt.Audience{Audience},
				Expiry: jwt.NewNumericDate(epoch.Add(time.Hour)),
			},
			Kubernetes: kubernetes{Namespace: "a", ServiceAccount: named{Name: "b"}},
		}
		change(&c)
		s, err := jwt.Signed(signer).Claims(c).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	hmac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: make([]byte, 32)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := jwt.Signed(hmac).Claims(claims{}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	other, err := Mint(edKey(t), node1, time.Hour, epoch)
	if err != nil {
		t.Fatal(err)
	}
	part := strings.Split(good, ".")
	for _, tc := range []struct {
		name, token string
		now         time.Duration
		want        string
	}{
		{"fine", sign(func(*claims) {}), 0, ""},
		{"expired", good, 2 * time.Hour, "expired"},
		{"not yet", good, -time.Hour, "not valid yet"},
		{"another key", other, 0, "not that of a known key"},
		{"changed", part[0] + "." + part[1] + "x." + part[2], 0, "not"},
		{"no signature", part[0] + "." + part[1] + ".", 0, "not"},
		{"algorithm none", "eyJhbGciOiJub25lIn0." + part[1] + ".", 0, "not a signed JWT"},
		{"symmetric", symmetric, 0, "not a signed JWT"},
		{"nonsense", "x", 0, "not a signed JWT"},
		{"another audience", sign(func(c *claims) { c.Audience = jwt.Audience{"x"} }), 0, "audience"},
		{"another issuer", sign(func(c *claims) { c.Issuer = "x" }), 0, "issuer"},
		{"no end", sign(func(c *claims) { c.Expiry = nil }), 0, "never expires"},
		{"subject", sign(func(c *claims) { c.Subject = "system:serviceaccount:a:c" }), 0, "subject"},
		{"namespace", sign(func(c *claims) {
			c.Kubernetes.Namespace = "a/../b"
			c.Subject = "system:serviceaccount:a/../b:b"
		}), 0, "no valid service account"},
		{"node", sign(func(c *claims) { c.Kubernetes.Node = &named{Name: "a/b"} }), 0, "no valid node"},
	} {
		v, err := NewVerifier([]crypto.PublicKey{key.Public()}, at(tc.now))
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Authenticate(t.Context(), tc.token)
		if tc.want == "" {
			if err != nil || got.Account() != "a/b" {
				t.Errorf("%s: %v %v", tc.name, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || got != (Caller{}) {
			t.Errorf("%s: %v %v; want %s", tc.name, got, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), tc.token) && len(tc.token) > 8 {
			t.Errorf("%s: the error holds the token", tc.name)
		}
	}
}

func TestKeysRefused(t *testing.T) {
	if _, err := NewVerifier(nil, time.Now); err == nil {
		t.Error("no keys")
	}
	if _, err := NewVerifier([]crypto.PublicKey{ecKey(t, elliptic.P384()).Public()}, time.Now); err == nil {
		t.Error("a key of another curve")
	}
}

func TestCreateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	first, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if !first.(ed25519.PrivateKey).Equal(second) {
		t.Error("an existing key was replaced")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	pub, err := LoadPublicKey(path + ".pub")
	if err != nil || !first.Public().(ed25519.PublicKey).Equal(pub) {
		t.Errorf("public half: %v %v", pub, err)
	}
	if _, err := LoadKey(path + ".pub"); err == nil {
		t.Error("a public key was read as a private one")
	}
}

// FuzzToken: no token but the one that was minted is accepted, and none panics.
func FuzzToken(f *testing.F) {
	key := edKey(f)
	good, err := Mint(key, node1, time.Hour, epoch)
	if err != nil {
		f.Fatal(err)
	}
	v, err := NewVerifier([]crypto.PublicKey{key.Public()}, at(0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if got, err := v.Authenticate(t.Context(), token); err == nil && got != node1 {
			t.Fatalf("%q is %v", token, got)
		}
	})
}

// FuzzClaims: whatever a key signed, a caller that comes out of it has the names of one account and makes a valid identity.
func FuzzClaims(f *testing.F) {
	key := edKey(f)
	v, err := NewVerifier([]crypto.PublicKey{key.Public()}, at(0))
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"iss":"ambit-lab","sub":"system:serviceaccount:a:b","aud":["istio-ca"],"exp":1700003600,"kubernetes.io":{"namespace":"a","serviceaccount":{"name":"b"},"pod":{"name":"p","uid":"u"},"node":{"name":"n"}}}`))
	f.Add([]byte(`{"iss":"ambit-lab","sub":"system:serviceaccount:a/..:b","aud":"istio-ca","exp":1700003600,"kubernetes.io":{"namespace":"a/..","serviceaccount":{"name":"b"}}}`))
	f.Add([]byte(`{"exp":-1,"aud":{},"kubernetes.io":[]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Authenticate(t.Context(), token)
		if err != nil {
			return
		}
		id := spiffe.ID{TrustDomain: "td", Namespace: got.Namespace, ServiceAccount: got.ServiceAccount}
		if err := id.Validate(); err != nil || strings.ContainsAny(got.Node+got.Pod, "/ \n") {
			t.Fatalf("%s: %+v %v", payload, got, err)
		}
	})
}
