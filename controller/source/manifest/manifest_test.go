package manifest

import (
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/controller/objects"
)

func TestDecode(t *testing.T) {
	items, problems := Decode("shop.yaml", []byte(`
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {istio.io/dataplane-mode: ambient}
---
# nothing here
---
{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"status":{"podIPs":[{"ip":"10.0.0.1"}]}}
---
apiVersion: v1
kind: List
items:
- apiVersion: security.istio.io/v1beta1
  kind: AuthorizationPolicy
  metadata: {name: p, namespace: shop, creationTimestamp: 2024-01-02T03:04:05Z}
  spec:
    rules:
    - from: [{source: {principals: ["*"]}}]
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web}
- apiVersion: networking.istio.io/v1alpha3
  kind: ServiceEntry
  metadata: {name: s, namespace: shop}
  spec: {hosts: [a.example], resolution: STATIC, ports: [{number: 80, name: http}]}
  status: {addresses: [{value: 240.240.0.1, host: a.example}], something: newer}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for _, it := range items {
		got = append(got, it.Key.String())
	}
	want := "Namespace/shop Pod/default/a AuthorizationPolicy/shop/p ServiceEntry/shop/s"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
	if items[2].Object.GetCreationTimestamp().Year() != 2024 {
		t.Error("creation time was not read")
	}
}

func TestProblems(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n"
	policy := "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n"
	for _, tc := range []struct{ name, in, want string }{
		{"unknown field", pod + "spec:\n  nodName: x\n", "f.yaml:6: Pod/default/a: spec.nodName: unknown field"},
		{"unknown nested field", pod + "spec:\n  containers:\n  - name: c\n    ports:\n    - conainerPort: 1\n", "f.yaml:9: Pod/default/a: spec.containers[0].ports[0].conainerPort: unknown field"},
		{"wrong type", pod + "spec:\n  nodeName: n\n  hostNetwork: 1\n", "f.yaml:7: Pod/default/a: spec.hostNetwork: cannot use a number here: want bool"},
		{"wrong nested type", pod + "spec:\n  containers:\n  - ports:\n    - containerPort: http\n", "f.yaml:8: Pod/default/a: spec.containers[0].ports[0].containerPort: cannot use a string here: want int32"},
		{"duplicate field", pod + "metadata:\n  name: b\n", "f.yaml:5: metadata: field is already set in line 3"},
		{"duplicate object", pod + "---\n" + pod, "f.yaml:6: Pod/default/a: metadata.name: same object as in line 1"},
		{"bad address", pod + "status:\n  podIPs:\n  - ip: 10.0.0\n", `f.yaml:7: Pod/default/a: status.podIPs[0].ip: "10.0.0" is not an IP address`},
		{"proto unknown field", policy + "spec:\n  rules:\n  - from:\n    - source:\n        principal: [a]\n", "f.yaml:9: AuthorizationPolicy/default/p: spec.rules[0].from[0].source.principal: unknown field"},
		{"proto wrong type", policy + "spec:\n  rules:\n  - to:\n    - operation:\n        ports: 80\n", "f.yaml:9: AuthorizationPolicy/default/p: spec.rules[0].to[0].operation.ports: unexpected token 80"},
		{"proto bad enum", policy + "spec:\n  action: DENNY\n", `f.yaml:6: AuthorizationPolicy/default/p: spec.action: unknown value "DENNY": did you mean "DENY"?`},
		{"proto unknown top field", policy + "specs: {}\n", "f.yaml:5: AuthorizationPolicy/default/p: specs: unknown field"},
		{"proto metadata", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: p\n  lables: {}\n", "f.yaml:5: PeerAuthentication/default/p: metadata.lables: unknown field"},
		{"unknown kind", "apiVersion: security.istio.io/v1\nkind: AuthorisationPolicy\nmetadata: {name: p}\n", "f.yaml:2: AuthorisationPolicy/default/p: kind: kind AuthorisationPolicy of security.istio.io/v1 is not known"},
		{"no kind", "a: b\n", "f.yaml:1: kind: apiVersion and kind are required"},
		{"no name", "apiVersion: v1\nkind: Pod\n", "f.yaml:1: Pod/default/: metadata.name: a name is required"},
		{"bad name", "apiVersion: v1\nkind: Pod\nmetadata: {name: a/b}\n", "f.yaml:3: Pod/default/a/b: metadata.name: a lowercase RFC 1123"},
		{"not yaml", "apiVersion: v1\n\tkind: Pod\n", "f.yaml:2: not YAML: found a tab character"},
		{"not an object", "- a\n", "f.yaml:1: document is not an object"},
		{"hosts", "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: p}\nspec: {}\n", "spec.hosts: at least one host"},
		{"label", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    app: a b\n", "f.yaml:6: Pod/default/a: metadata.labels.app: a valid label"},
		{"bool in a label", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    app: yes\n", "f.yaml:6: Pod/default/a: metadata.labels.app: cannot use a bool here: want string"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, problems := Decode("f.yaml", []byte(tc.in))
			if len(problems) == 0 {
				t.Fatalf("no problem; want %s", tc.want)
			}
			if got := problems[0].Error(); !strings.Contains(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// A few lines of aliases must not become gigabytes.
func TestAliasBomb(t *testing.T) {
	in := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		in += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "]\n"
	}
	_, problems := Decode("bomb.yaml", []byte(in))
	if len(problems) != 1 || !strings.Contains(problems[0].Reason, "excessive aliasing") && !strings.Contains(problems[0].Reason, "too large") {
		t.Errorf("got %v", problems)
	}
}

// FuzzDecode: no input panics, and what decodes has a kind and a name.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {podIPs: [{ip: 10.0.0.1}]}\n"))
	f.Add([]byte("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {portLevelMtls: {80: {mode: STRICT}}}\n"))
	f.Add([]byte("a: &a [*a]\n---\n? [x]\n: 0x_1\n<<: *a\n"))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		items, problems := Decode("fuzz", data)
		for _, p := range problems {
			if p.Reason == "" {
				t.Fatalf("problem without a reason: %#v", p)
			}
		}
		for _, it := range items {
			if it.Key.Kind == "" || it.Key.Name == "" || it.Object == nil || it.Key.Kind == objects.Pod && it.Key.Namespace == "" {
				t.Fatalf("item %#v", it.Key)
			}
		}
	})
}
