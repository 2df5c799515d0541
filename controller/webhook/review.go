package webhook

import (
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/strict"
	"github.com/ambit-mesh/ambit/controller/validate"
)

const (
	// maxWarnings and maxWarning are within what the API server passes on: 4,096 characters in all, 256 each.
	maxWarnings, maxWarning = 16, 256
	maxCauses               = 32
)

// Review answers one request.
func Review(req *admissionv1.AdmissionRequest, set validate.Settings) *admissionv1.AdmissionResponse {
	out := &admissionv1.AdmissionResponse{UID: req.UID, Allowed: true}
	if req.SubResource != "" || req.Operation != admissionv1.Create && req.Operation != admissionv1.Update {
		return out
	}
	errs, warnings := judge(req, req.Object.Raw, set)
	if len(errs) > 0 && req.Operation == admissionv1.Update {
		errs, warnings = sparing(req, errs, warnings, set)
	}
	for _, f := range warnings {
		if len(out.Warnings) == maxWarnings {
			break
		}
		out.Warnings = append(out.Warnings, clip(f.String()))
	}
	if len(errs) > 0 {
		out.Allowed, out.Result = false, refusal(req, errs)
	}
	return out
}

// judge divides findings into those that refuse and those that are said.
func judge(req *admissionv1.AdmissionRequest, text []byte, set validate.Settings) (errs, warnings []validate.Finding) {
	doc, err := strict.JSON(text)
	if err != nil {
		f := validate.Finding{Severity: validate.Error, Field: err.Field, Message: err.Reason}
		return []validate.Finding{f}, nil
	}
	for _, f := range validate.Document(doc, set).Findings {
		switch {
		case f.Severity == validate.Error && refuses(req.Kind.Group, f):
			errs = append(errs, f)
		case f.Severity != validate.Info:
			warnings = append(warnings, f)
		}
	}
	return errs, warnings
}

// refuses reports whether an error of an object of that group refuses it.
func refuses(group string, f validate.Finding) bool {
	switch {
	case !strings.HasSuffix(group, ".istio.io"):
		return false
	case f.Unknown: // of a newer version, which the API server has checked
		return group == "security.istio.io" && f.Field != "kind"
	default:
		return true
	}
}

// sparing turns errors that the stored object has already into warnings, so that it can be changed, and deleted by finalizers.
func sparing(req *admissionv1.AdmissionRequest, errs, warnings []validate.Finding, set validate.Settings) (left, said []validate.Finding) {
	old, _ := judge(req, req.OldObject.Raw, set)
	had := map[string]bool{}
	for _, f := range old {
		had[f.String()] = true
	}
	for _, f := range errs {
		if had[f.String()] {
			warnings = append(warnings, f)
		} else {
			left = append(left, f)
		}
	}
	return left, warnings
}

// refusal is what kubectl prints.
func refusal(req *admissionv1.AdmissionRequest, errs []validate.Finding) *metav1.Status {
	details := &metav1.StatusDetails{Name: req.Name, Group: req.Kind.Group, Kind: req.Kind.Kind, UID: req.UID}
	var words []string
	for i, f := range errs {
		if i == maxCauses {
			words = append(words, fmt.Sprintf("and %d more", len(errs)-maxCauses))
			break
		}
		words = append(words, f.String())
		details.Causes = append(details.Causes, metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: f.Field, Message: strings.TrimPrefix(f.String(), f.Field+": ")})
	}
	return &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: strings.Join(words, "\n"), Details: details,
	}
}

// clip keeps a warning within what an HTTP header may hold.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxWarning {
		s = strings.ToValidUTF8(s[:maxWarning-3], "") + "..."
	}
	return s
}
