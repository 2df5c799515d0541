package validate

import (
	"strings"

	securityapi "istio.io/api/security/v1beta1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// conditions are the keys of `when`.
var conditions = []string{
	"source.ip", "source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain", "destination.ip", "destination.port",
	"remote.ip", "request.headers", "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims",
	"connection.sni",
}

// when reports whether a node proxy can check the condition.
func (r *rule) when(p *field.Path, w *securityapi.Condition) bool {
	key := w.GetKey()
	one, l4 := map[string]func(*field.Path, string){
		"source.ip": r.address, "source.namespace": r.wildcard, "source.principal": r.principal, "source.serviceAccount": r.account,
		"source.trustDomain": r.trustDomain, "destination.ip": r.address, "destination.port": r.portText,
	}[key]
	switch {
	case l4:
	case key == "remote.ip":
		one = r.address
	case !r.key(p.Child("key"), key):
		return true // whatever was meant
	}
	if r.lists(p, list{"values", w.GetValues(), one}, list{"notValues", w.GetNotValues(), one}) == 0 {
		r.fail(p, "", "values or notValues are required")
	}
	if r.action == securityapi.AuthorizationPolicy_CUSTOM && (strings.HasPrefix(key, "request.auth.") || strings.HasPrefix(key, "source.") && key != "source.ip") {
		r.fail(p.Child("key"), "decide by identity in an ALLOW or DENY policy beside it", "CUSTOM rules cannot match identities")
	}
	if !l4 {
		r.needsWaypoint(p.Child("key"), []string{key})
	}
	return l4
}

// key checks a key that node proxies do not know, and reports whether anybody does.
func (r *rule) key(p *field.Path, key string) bool {
	name, rest, bracket := strings.Cut(key, "[")
	switch {
	case key == "":
		r.fail(p, "", "a key is required")
		return false
	case name == "request.headers" || name == "request.auth.claims":
		if !bracket || !strings.HasSuffix(rest, "]") || rest == "]" {
			r.fail(p, "write "+name+"[name]", "%q lacks the name in brackets", clip(key))
		} else if header := strings.TrimSuffix(rest, "]"); name == "request.headers" {
			r.headerName(p, header)
		}
	case key == "request.auth.principal", key == "request.auth.audiences", key == "request.auth.presenter", key == "connection.sni":
	case strings.HasPrefix(key, "experimental."):
		r.warn(p, "", "%q is Envoy's own, which this mesh does not know: an ALLOW rule with it allows nothing", clip(key))
	default:
		r.fail(p, oneOf(key, conditions...), "condition %q is not known", clip(key))
		return false
	}
	return true
}
