package validate

import (
	"slices"
	"strconv"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
)

func (r *route) rewrite(h *networkingapi.HTTPRoute) {
	w, p := h.GetRewrite(), r.at.Child("rewrite")
	if w == nil {
		return
	}
	x := w.GetUriRegexRewrite()
	if w.GetUri() == "" && w.GetAuthority() == "" && x == nil {
		r.fail(p, "", "one of uri, authority and uriRegexRewrite is required")
	}
	if w.GetUri() != "" && x != nil {
		r.fail(p.Child("uriRegexRewrite"), "keep one of the two", "uri and uriRegexRewrite exclude each other")
	}
	if x != nil {
		r.regex(p.Child("uriRegexRewrite", "match"), x.GetMatch())
		if x.GetMatch() == "" || x.GetRewrite() == "" {
			r.fail(p.Child("uriRegexRewrite"), "", "match and rewrite are both required")
		}
	}
}

func (r *route) mirror(h *networkingapi.HTTPRoute) {
	if h.GetMirror() != nil && len(h.GetMirrors()) > 0 {
		r.fail(r.at.Child("mirror"), "keep mirrors", "mirror and mirrors exclude each other")
	}
	if h.GetMirror() != nil {
		r.destination(r.at.Child("mirror"), h.GetMirror())
	}
	if h.GetMirrorPercentage() != nil {
		r.percent(r.at.Child("mirrorPercentage", "value"), h.GetMirrorPercentage().GetValue())
	}
	//lint:ignore SA1019 users still write it
	if old := h.GetMirrorPercent(); old != nil {
		r.percent(r.at.Child("mirrorPercent"), float64(old.GetValue()))
	}
	for i, m := range h.GetMirrors() {
		at := r.at.Child("mirrors").Index(i)
		r.destination(at.Child("destination"), m.GetDestination())
		if m.GetPercentage() != nil {
			r.percent(at.Child("percentage", "value"), m.GetPercentage().GetValue())
		}
	}
}

var retryOn = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx", "refused-stream",
	"retriable-status-codes", "retriable-headers", "http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal",
	"resource-exhausted", "unavailable",
}

func (r *route) retries(s *networkingapi.HTTPRetry) {
	p := r.at.Child("retries")
	if s == nil {
		return
	}
	if s.GetAttempts() < 0 {
		r.fail(p.Child("attempts"), "", "%d is negative", s.GetAttempts())
	}
	if s.GetAttempts() == 0 && (s.GetRetryOn() != "" || s.GetPerTryTimeout() != nil || s.GetBackoff() != nil) {
		r.fail(p.Child("attempts"), "set attempts, or leave the others out", "0 attempts switch retries off: nothing else goes with it")
	}
	r.atLeast(p.Child("perTryTimeout"), s.GetPerTryTimeout(), 1)
	r.atLeast(p.Child("backoff"), s.GetBackoff(), 1)
	for on := range strings.SplitSeq(s.GetRetryOn(), ",") {
		on = strings.TrimSpace(on)
		if n, err := strconv.Atoi(on); err == nil {
			if n < 200 || n > 599 {
				r.fail(p.Child("retryOn"), "", "%d is not a status: want 200 to 599", n)
			}
			continue
		}
		if on != "" && !slices.Contains(retryOn, on) {
			r.fail(p.Child("retryOn"), oneOf(on, retryOn...), "%q is not known", clip(on))
		}
	}
}

var grpcStatus = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

func (r *route) fault(f *networkingapi.HTTPFaultInjection) {
	p := r.at.Child("fault")
	if f == nil {
		return
	}
	if f.GetDelay() == nil && f.GetAbort() == nil {
		r.fail(p, "", "one of delay and abort is required")
	}
	if d := f.GetDelay(); d != nil {
		if d.GetFixedDelay() == nil {
			r.fail(p.Child("delay", "fixedDelay"), "", "a delay is required")
		}
		r.atLeast(p.Child("delay", "fixedDelay"), d.GetFixedDelay(), 1)
		r.percent(p.Child("delay", "percentage", "value"), d.GetPercentage().GetValue())
		//lint:ignore SA1019 users still write it
		old := d.GetPercent()
		r.percent(p.Child("delay", "percent"), float64(old))
		if d.GetPercentage() == nil && old == 0 {
			r.warn(p.Child("delay", "percentage"), "", "without a percentage no request is delayed")
		}
	}
	a := f.GetAbort()
	if a == nil {
		return
	}
	at := p.Child("abort")
	r.percent(at.Child("percentage", "value"), a.GetPercentage().GetValue())
	if a.GetPercentage() == nil {
		r.warn(at.Child("percentage"), "", "without a percentage no request is aborted")
	}
	switch e := a.GetErrorType().(type) {
	case *networkingapi.HTTPFaultInjection_Abort_HttpStatus:
		if e.HttpStatus < 200 || e.HttpStatus > 599 {
			r.fail(at.Child("httpStatus"), "", "%d is not a status: want 200 to 599", e.HttpStatus)
		}
	case *networkingapi.HTTPFaultInjection_Abort_GrpcStatus:
		if !slices.Contains(grpcStatus, e.GrpcStatus) {
			r.fail(at.Child("grpcStatus"), oneOf(e.GrpcStatus, grpcStatus...), "%q is not a gRPC status", clip(e.GrpcStatus))
		}
	case *networkingapi.HTTPFaultInjection_Abort_Http2Error:
		r.fail(at.Child("http2Error"), "use httpStatus or grpcStatus", "is not supported")
	default:
		r.fail(at, "", "one of httpStatus and grpcStatus is required")
	}
}

var corsMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}

func (r *route) cors(s *networkingapi.CorsPolicy) {
	p := r.at.Child("corsPolicy")
	for i, o := range s.GetAllowOrigins() {
		r.text(p.Child("allowOrigins").Index(i), o, false)
	}
	for i, m := range s.GetAllowMethods() {
		if !slices.Contains(corsMethods, m) {
			r.fail(p.Child("allowMethods").Index(i), oneOf(m, corsMethods...), "method %q is not known", clip(m))
		}
	}
	for name, list := range map[string][]string{"allowHeaders": s.GetAllowHeaders(), "exposeHeaders": s.GetExposeHeaders()} {
		for i, h := range list {
			r.headerName(p.Child(name).Index(i), h)
		}
	}
	if d := s.GetMaxAge(); d != nil && (d.GetNanos() != 0 || d.GetSeconds() < 0) {
		r.fail(p.Child("maxAge"), "", "want whole seconds, not below 0")
	}
	if x := s.GetAllowCredentials(); x.GetValue() && slices.ContainsFunc(s.GetAllowOrigins(), func(o *networkingapi.StringMatch) bool {
		return o.GetExact() == "*" || o.GetRegex() == ".*"
	}) {
		r.warn(p.Child("allowCredentials"), "name the origins", "credentials are allowed from every origin")
	}
}
