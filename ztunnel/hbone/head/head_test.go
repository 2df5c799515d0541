package head

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

var full = Head{
	Authority: "10.0.0.2:8080",
	Baggage: Baggage{
		Cluster: "Kubernetes", Namespace: "shop", Type: "deployment", Workload: "cart",
		Service: "cart", Version: "v1", Region: "eu", Zone: "eu-1",
	},
	Forwarded:   Forwarded{For: netip.MustParseAddrPort("[2001:db8::1]:1234"), Host: "cart.shop.svc.cluster.local"},
	Traceparent: Traceparent{Trace: [16]byte{1, 2, 15: 3}, Span: [8]byte{4, 7: 5}, Flags: 1},
	Network:     "net-2",
	Source:      "gateway",
}

func encode(fields []hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range fields {
		e.WriteField(f)
	}
	return b.Bytes()
}

func TestHeadSurvivesTheWire(t *testing.T) {
	for _, want := range []Head{full, {Authority: "[2001:db8::2]:1"}, {Authority: "cart.shop.svc.cluster.local:80", Network: "n"}} {
		fields, err := Decode(encode(want.AppendFields(nil)), MaxServerList)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRequest(fields)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
}

func TestFieldsAreWhatIstioSends(t *testing.T) {
	want := map[string]string{
		":method": "CONNECT", ":authority": "10.0.0.2:8080",
		"baggage":             "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,service.version=v1,cloud.region=eu,cloud.availability_zone=eu-1",
		"forwarded":           `for="[2001:db8::1]:1234";host=cart.shop.svc.cluster.local`,
		"traceparent":         "00-01020000000000000000000000000003-0400000000000005-01",
		"x-forwarded-network": "net-2", "x-istio-source": "gateway",
	}
	got := map[string]string{}
	for _, f := range full.AppendFields(nil) {
		got[f.Name] = f.Value
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestMalformedRequests(t *testing.T) {
	f := func(kv ...string) (out []hpack.HeaderField) {
		for i := 0; i < len(kv); i += 2 {
			out = append(out, hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
		}
		return out
	}
	for name, c := range map[string]struct {
		fields []hpack.HeaderField
		status int
	}{
		"nothing":         {f(), 0},
		"no method":       {f(":authority", "1.2.3.4:5"), 0},
		"GET":             {f(":method", "GET", ":scheme", "https", ":path", "/", ":authority", "1.2.3.4:5"), 400},
		"two methods":     {f(":method", "CONNECT", ":method", "CONNECT", ":authority", "1.2.3.4:5"), 0},
		"two authorities": {f(":method", "CONNECT", ":authority", "1.2.3.4:5", ":authority", "1.2.3.4:6"), 0},
		"no authority":    {f(":method", "CONNECT"), 400},
		"no port":         {f(":method", "CONNECT", ":authority", "1.2.3.4"), 400},
		"with path":       {f(":method", "CONNECT", ":authority", "1.2.3.4:5", ":path", "/"), 0},
		"extended":        {f(":method", "CONNECT", ":authority", "1.2.3.4:5", ":protocol", "websocket", ":path", "/", ":scheme", "https"), 400},
		"pseudo":          {f(":method", "CONNECT", ":authority", "1.2.3.4:5", ":status", "200"), 0},
		"connection":      {f(":method", "CONNECT", ":authority", "1.2.3.4:5", "connection", "close"), 0},
	} {
		_, err := ParseRequest(c.fields)
		var bad *Malformed
		if !errors.As(err, &bad) || bad.Status != c.status {
			t.Errorf("%s: got %v, want status %d", name, err, c.status)
		}
	}
}

func TestAuthority(t *testing.T) {
	for s, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1 80", "[::1]:65535": "::1 65535", "[::ffff:1.2.3.4]:1": "1.2.3.4 1",
		"a-b.c_d.svc:8080": "invalid IP 8080",
		"":                 "", ":80": "", "10.0.0.1": "", "10.0.0.1:": "", "10.0.0.1:0": "", "10.0.0.1:65536": "", "10.0.0.1:+1": "",
		"::1:80": "", "[::1]80": "", "[::1:80": "", "[1.2.3.4]:80": "", "[fe80::1%eth0]:80": "", "a b:80": "", "user@host:80": "", "h/p:80": "",
		strings.Repeat("a", 300) + ":80": "",
	} {
		a, err := ParseAuthority(s)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: accepted as %+v", s, a)
		case want != "" && err != nil:
			t.Errorf("%q: %v", s, err)
		case want != "":
			addr := a.Addr.String()
			if got := addr + " " + s[strings.LastIndexByte(s, ':')+1:]; got != want {
				t.Errorf("%q: got %s, want %s", s, got, want)
			}
		}
	}
}

func TestBaggageReadsLikeIstio(t *testing.T) {
	for in, want := range map[string]Baggage{
		"":                                     {},
		"k8s.pod.name=p":                       {Type: "pod", Workload: "p"},
		"k8s.job.name=a,k8s.cronjob.name=b":    {Type: "cronjob", Workload: "b"},
		"service.name=a,service.name=b":        {Service: "b"},
		"service.name=":                        {},
		"Service.Name=x,other=1,novalue,=,a=b": {},
		"service.version=a=b":                  {Version: "a=b"},
	} {
		if got := ParseBaggage(in); got != want {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
	}
	var b Baggage
	if got := (&Baggage{Service: "a,b", Version: "v\n", Region: "r"}).String(); got != "cloud.region=r" {
		t.Errorf("unwritable values: %q", got)
	}
	b.merge("service.name=a")
	b.merge("service.version=b")
	if b != (Baggage{Service: "a", Version: "b"}) {
		t.Errorf("two lines: %+v", b)
	}
}

func TestForwardedReadsLikeIstio(t *testing.T) {
	addr := netip.MustParseAddrPort("1.2.3.4:5")
	for in, want := range map[string]Forwarded{
		`for="1.2.3.4:5";host=a.b`: {addr, "a.b"},
		`host="a"; for=1.2.3.4:5`:  {addr, "a"},
		`for=unknown;host=`:        {},
		`proto=http;by=x`:          {},
		"host=\u00e4":              {},
	} {
		if got := ParseForwarded(in); got != want {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
	}
}

func TestResponses(t *testing.T) {
	ok := Response{Status: 200, Baggage: full.Baggage}
	got, err := ParseResponse(ok.AppendFields(nil))
	if err != nil || got != ok {
		t.Errorf("got %+v, %v", got, err)
	}
	denied := Response{Status: 401, Baggage: full.Baggage}
	if got, err := ParseResponse(denied.AppendFields(nil)); err != nil || got != (Response{Status: 401}) {
		t.Errorf("a refusal carries no baggage: got %+v, %v", got, err)
	}
	for _, s := range []string{"", "20", "2000", "abc", "099", "-20"} {
		if _, err := ParseResponse([]hpack.HeaderField{{Name: ":status", Value: s}}); err == nil {
			t.Errorf("status %q accepted", s)
		}
	}
}

func TestEveryTruncationFails(t *testing.T) {
	block := encode(full.AppendFields(nil))
	for n := range block {
		fields, err := Decode(block[:n], MaxServerList)
		if err != nil {
			continue
		}
		// A cut between two fields is a shorter head, which must lack something, never gain.
		h, err := ParseRequest(fields)
		if err == nil && h == full {
			t.Errorf("the first %d of %d bytes decode to the whole head", n, len(block))
		}
	}
	for _, s := range []string{full.Traceparent.String()} {
		for n := range s {
			if got := ParseTraceparent(s[:n]); got != (Traceparent{}) {
				t.Errorf("traceparent %q accepted", s[:n])
			}
		}
	}
}

func TestListLimit(t *testing.T) {
	fields := []hpack.HeaderField{{Name: "baggage", Value: strings.Repeat("a", MaxClientList)}}
	if _, err := Decode(encode(fields), MaxClientList); err == nil {
		t.Error("a list over the limit was accepted")
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(encode(full.AppendFields(nil)))
	f.Add(encode([]hpack.HeaderField{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "[::1]:1"}}))
	f.Fuzz(func(t *testing.T, block []byte) {
		fields, err := Decode(block, MaxServerList)
		if err != nil {
			return
		}
		h, err := ParseRequest(fields)
		if err != nil {
			return
		}
		if _, err := ParseAuthority(h.Authority); err != nil {
			t.Fatalf("accepted with authority %q", h.Authority)
		}
		// What we write of it must read as the same again, but for values that have no written form.
		again, err := ParseRequest(h.AppendFields(nil))
		if err != nil || again.Authority != h.Authority || again.Traceparent != h.Traceparent || again.Forwarded.For != h.Forwarded.For {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	r := Response{Status: 200, Baggage: full.Baggage}
	f.Add(encode(r.AppendFields(nil)))
	f.Fuzz(func(t *testing.T, block []byte) {
		fields, err := Decode(block, MaxClientList)
		if err != nil {
			return
		}
		if r, err := ParseResponse(fields); err == nil && (r.Status < 100 || r.Status > 999) {
			t.Fatalf("status %d", r.Status)
		}
	})
}

func FuzzValues(f *testing.F) {
	f.Add(full.Baggage.String(), full.Forwarded.String(), full.Traceparent.String(), full.Authority)
	f.Fuzz(func(t *testing.T, baggage, forwarded, trace, authority string) {
		b := ParseBaggage(baggage)
		if again := ParseBaggage(b.String()); again.String() != b.String() {
			t.Fatalf("baggage %q is not stable", baggage)
		}
		ParseForwarded(forwarded)
		if tp := ParseTraceparent(trace); tp != (Traceparent{}) && ParseTraceparent(tp.String()) != tp {
			t.Fatalf("traceparent %q is not stable", trace)
		}
		ParseAuthority(authority)
	})
}
