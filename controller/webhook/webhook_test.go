package webhook

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ambit-mesh/ambit/controller/validate"
)

func policy(spec string) string {
	return `{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p","namespace":"shop"},"spec":` + spec + `}`
}

const (
	badPort  = `{"rules":[{"to":[{"operation":{"ports":["99999"]}}]}]}`
	badPort2 = `{"rules":[{"to":[{"operation":{"ports":["99999","0"]}}]}]}`
	newField = `{"rules":[{"from":[{"source":{"principals":["a/ns/b/sa/c"],"newerLimit":["x"]}}]}]}`
)

func request(op admissionv1.Operation, group, kind, object, old string) *admissionv1.AdmissionRequest {
	req := &admissionv1.AdmissionRequest{
		UID: "u", Kind: metav1.GroupVersionKind{Group: group, Version: "v1", Kind: kind}, Operation: op, Name: "p", Namespace: "shop",
		Resource: metav1.GroupVersionResource{Group: group, Version: "v1", Resource: "authorizationpolicies"},
		Object:   runtime.RawExtension{Raw: []byte(object)},
	}
	if old != "" {
		req.OldObject.Raw = []byte(old)
	}
	return req
}

func TestReview(t *testing.T) {
	const security = "security.istio.io"
	route := `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r"},"spec":{"parentRefs":[{"kind":"Service","name":"a"}],"rules":[{"backendRefs":[{"name":"a"}]}]}}`
	host := func(extra string) string {
		return `{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"d"},"spec":{"host":"a"` + extra + `}}`
	}
	status := request(admissionv1.Update, security, "AuthorizationPolicy", policy(badPort), "")
	status.SubResource = "status"
	for _, tc := range []struct {
		name    string
		req     *admissionv1.AdmissionRequest
		allowed bool
		says    string // in the refusal, or in the warnings
	}{
		{"good", request(admissionv1.Create, security, "AuthorizationPolicy", policy(`{"rules":[{"to":[{"operation":{"ports":["80"]}}]}]}`), ""), true, ""},
		{"bad", request(admissionv1.Create, security, "AuthorizationPolicy", policy(badPort), ""), false, `spec.rules[0].to[0].operation.ports[0]: "99999" is not a port`},
		{"warned", request(admissionv1.Create, security, "AuthorizationPolicy", policy(`{}`), ""), true, "denies everything"},
		{"deleted", request(admissionv1.Delete, security, "AuthorizationPolicy", policy(badPort), ""), true, ""},
		{"status", status, true, ""},
		{"stored bad, and touched", request(admissionv1.Update, security, "AuthorizationPolicy", policy(badPort), policy(badPort)), true, "99999"},
		{"stored bad, and made worse", request(admissionv1.Update, security, "AuthorizationPolicy", policy(badPort2), policy(badPort)), false, `"0" is not a port`},
		{"newer field of a policy", request(admissionv1.Create, security, "AuthorizationPolicy", policy(newField), ""), false, "newerLimit: unknown field"},
		{"newer field elsewhere", request(admissionv1.Create, "networking.istio.io", "DestinationRule", host(`,"newer":1`), ""), true, "newer: unknown field"},
		{"newer kind", request(admissionv1.Create, security, "Newer", strings.Replace(policy(`{}`), "AuthorizationPolicy", "Newer", 1), ""), true, "kind Newer"},
		{"another's group", request(admissionv1.Create, "gateway.networking.k8s.io", "HTTPRoute", route, ""), true, "group"},
		{"another's group, unknown", request(admissionv1.Create, "acme.com", "Thing", `{"apiVersion":"acme.com/v1","kind":"Thing","metadata":{"name":"x"}}`, ""), true, ""},
		{"named by the server", request(admissionv1.Create, security, "AuthorizationPolicy", `{"apiVersion":"security.istio.io/v1","kind":"PeerAuthentication","metadata":{"generateName":"p-"},"spec":{}}`, ""), true, ""},
		{"no object", request(admissionv1.Create, security, "AuthorizationPolicy", ``, ""), false, "not JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Review(tc.req, validate.Settings{})
			said := strings.Join(got.Warnings, "\n")
			if got.Result != nil {
				said += got.Result.Message
			}
			if got.Allowed != tc.allowed || !strings.Contains(said, tc.says) || tc.says == "" && said != "" {
				t.Errorf("allowed %v, says %q; want %v, %q", got.Allowed, said, tc.allowed, tc.says)
			}
			if got.UID != tc.req.UID || !got.Allowed && (got.Result.Code != 422 || len(got.Result.Details.Causes) == 0) {
				t.Errorf("response %+v", got)
			}
		})
	}
}

func post(t *testing.T, h http.Handler, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, Path, bytes.NewReader(body)))
	return w
}

func TestHTTP(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := New(Config{Log: slog.New(slog.DiscardHandler), Registry: reg})
	review := func(spec string) []byte {
		text, err := json.Marshal(admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
			Request:  request(admissionv1.Create, "security.istio.io", "AuthorizationPolicy", policy(spec), ""),
		})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, tc := range []struct {
		name   string
		body   []byte
		status int
	}{
		{"bad", review(badPort), 200},
		{"good", review(`{"rules":[{"to":[{"operation":{"ports":["80"]}}]}]}`), 200},
		{"no JSON", []byte("{"), 400},
		{"no request", []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), 400},
		{"old version", bytes.Replace(review(`{}`), []byte("admission.k8s.io/v1"), []byte("admission.k8s.io/v1beta1"), 1), 400},
		{"too large", append(review(`{}`), bytes.Repeat([]byte(" "), maxBody)...), 413},
	} {
		w := post(t, h, tc.body)
		if w.Code != tc.status {
			t.Errorf("%s: status %d, want %d: %s", tc.name, w.Code, tc.status, w.Body)
		}
		var got admissionv1.AdmissionReview
		if w.Code == 200 && (json.Unmarshal(w.Body.Bytes(), &got) != nil || got.Response == nil || got.Response.Allowed == (tc.name == "bad") || got.Kind != "AdmissionReview") {
			t.Errorf("%s: %s", tc.name, w.Body)
		}
	}
	want := `
		# HELP galley_validation_failed Objects refused, by resource. The log names each with its reason.
		# TYPE galley_validation_failed counter
		galley_validation_failed{group="security.istio.io",reason="invalid_resource",resource="authorizationpolicies",version="v1"} 1
		# HELP galley_validation_http_error Reviews that could not be answered, by HTTP status. failurePolicy decided instead: see the log.
		# TYPE galley_validation_http_error counter
		galley_validation_http_error{status="400"} 3
		galley_validation_http_error{status="413"} 1
		# HELP galley_validation_passed Objects admitted, by resource.
		# TYPE galley_validation_passed counter
		galley_validation_passed{group="security.istio.io",resource="authorizationpolicies",version="v1"} 1
	`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "galley_validation_failed", "galley_validation_passed", "galley_validation_http_error"); err != nil {
		t.Error(err)
	}
}

// FuzzReview: no request panics or is answered with nothing.
func FuzzReview(f *testing.F) {
	f.Add("security.istio.io", policy(badPort), policy(newField))
	f.Add("networking.istio.io", `{"kind":"VirtualService","apiVersion":"networking.istio.io/v1","spec":{"http":[{}]}}`, "")
	f.Fuzz(func(t *testing.T, group, object, old string) {
		got := Review(request(admissionv1.Update, group, "X", object, old), validate.Settings{})
		if got == nil || !got.Allowed && got.Result.Message == "" {
			t.Fatalf("%+v", got)
		}
		for _, w := range got.Warnings {
			if len(w) > maxWarning || strings.ContainsAny(w, "\r\n") {
				t.Fatalf("warning %q", w)
			}
		}
	})
}
