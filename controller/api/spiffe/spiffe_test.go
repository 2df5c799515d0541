package spiffe

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("a", MaxLength)
	for _, tc := range []struct {
		in   string
		want ID
		err  string // part of the error; "" means it must parse
	}{
		{in: "spiffe://cluster.local/ns/shop/sa/cart", want: ID{"cluster.local", "shop", "cart"}},
		{in: "spiffe://td_1-x/ns/A.b/sa/C_d", want: ID{"td_1-x", "A.b", "C_d"}},
		{in: "", err: "no spiffe id"},
		{in: "cluster.local/ns/shop/sa/cart", err: "want scheme"},
		{in: "SPIFFE://cluster.local/ns/shop/sa/cart", err: "want scheme"},
		{in: "https://cluster.local/ns/shop/sa/cart", err: "want scheme"},
		{in: "spiffe://cluster.local/ns/shop/sa/cart/", err: "want <trust domain>"},
		{in: "spiffe://cluster.local/ns/shop/sa", err: "want <trust domain>"},
		{in: "spiffe://cluster.local/sa/shop/ns/cart", err: "want <trust domain>"},
		{in: "spiffe:///ns/shop/sa/cart", err: "empty trust domain"},
		{in: "spiffe://cluster.local/ns//sa/cart", err: "namespace"},
		{in: "spiffe://cluster.local/ns/shop/sa/", err: "service account"},
		{in: "spiffe://cluster.local/ns/../sa/cart", err: "namespace"},
		{in: "spiffe://Cluster.local/ns/shop/sa/cart", err: "trust domain"},
		{in: "spiffe://cluster.local:80/ns/shop/sa/cart", err: "trust domain"},
		{in: "spiffe://user@cluster.local/ns/shop/sa/cart", err: "trust domain"},
		{in: "spiffe://cluster.local/ns/shop/sa/cart?x", err: "service account"},
		{in: "spiffe://cluster.local/ns/shop/sa/cart#x", err: "service account"},
		{in: "spiffe://cluster.local/ns/sh%6fp/sa/cart", err: "namespace"},
		{in: "spiffe://cluster.local/ns/shop/sa/c\x00rt", err: "service account"},
		{in: "spiffe://cluster.local/ns/shöp/sa/cart", err: "namespace"},
		{in: "spiffe://cluster.local/ns/shop/sa/" + long, err: "want at most"},
		{in: "spiffe://" + long[:256] + "/ns/shop/sa/cart", err: "trust domain of 256"},
	} {
		got, err := Parse(tc.in)
		switch {
		case tc.err == "" && (err != nil || got != tc.want):
			t.Errorf("Parse(%q) = %v, %v; want %v", tc.in, got, err, tc.want)
		case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err) || got != ID{}):
			t.Errorf("Parse(%.80q) = %v, %v; want error with %q", tc.in, got, err, tc.err)
		}
		if tc.err == "" && got.String() != tc.in {
			t.Errorf("Parse(%q).String() = %q", tc.in, got)
		}
	}
}

func TestZero(t *testing.T) {
	if s := (ID{}).String(); s != "" {
		t.Errorf("zero id prints %q", s)
	}
	if err := (ID{}).Validate(); err == nil {
		t.Error("zero id is valid")
	}
}

func TestText(t *testing.T) {
	in := map[string]ID{"a": {"td", "ns", "sa"}, "none": {}}
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]ID
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	if out["a"] != in["a"] || out["none"] != in["none"] {
		t.Errorf("%s decoded as %v", data, out)
	}
	if err := json.Unmarshal([]byte(`{"a":"spiffe://x"}`), &out); err == nil {
		t.Error("a malformed id decoded")
	}
}

func TestFromCertificate(t *testing.T) {
	uri := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	good := uri("spiffe://td/ns/a/sa/b")
	if id, err := FromCertificate(&x509.Certificate{URIs: []*url.URL{good}}); err != nil || id != (ID{"td", "a", "b"}) {
		t.Errorf("one name: %v, %v", id, err)
	}
	for _, cert := range []*x509.Certificate{nil, {}, {DNSNames: []string{"a"}}} {
		if _, err := FromCertificate(cert); !errors.Is(err, ErrNone) {
			t.Errorf("no uri name: %v", err)
		}
	}
	if _, err := FromCertificate(&x509.Certificate{URIs: []*url.URL{good, good}}); err == nil {
		t.Error("two uri names were accepted")
	}
	if _, err := FromCertificate(&x509.Certificate{URIs: []*url.URL{uri("https://a/b")}}); err == nil {
		t.Error("an https name was accepted")
	}
}

// FuzzParse: nothing panics, and what parses prints as it was written.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "spiffe://cluster.local/ns/shop/sa/cart", "spiffe://a/ns/b/sa/c/", "spiffe://a/ns/../sa/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Parse(s)
		if err != nil {
			if id != (ID{}) {
				t.Fatalf("error %v with id %v", err, id)
			}
			return
		}
		if id.String() != s {
			t.Fatalf("%q prints as %q", s, id)
		}
		if err := id.Validate(); err != nil {
			t.Fatalf("%q parsed but is not valid: %v", s, err)
		}
	})
}
