// Package validate answers what is wrong, or not what its author will expect, in one object of the mesh: findings with a field,
// plain words and what to write instead.
//
// An error is what no mesh could act on, or what contradicts itself: the admission webhook refuses it. A warning is what does
// something else than it seems to, or nothing. Objects are looked at one by one: whether a name leads anywhere is told by
// conditions (controller/translate), which see the cluster. What node proxies cannot check is judged as translate does it.
// The webhook (controller/webhook) and `ambit validate` call it. Pure: any goroutine, no clock, no panic on any input.
package validate

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/strict"
)

// maxFindings bounds what is said about one object.
const maxFindings = 200

// Severity is how bad a finding is.
type Severity string

// Severities, the worst first.
const (
	Error   Severity = "error"   // refused
	Warning Severity = "warning" // admitted, and said
	Info    Severity = "info"    // good to know
)

// Finding is one thing to say about an object.
type Finding struct {
	Severity   Severity `json:"severity"`
	Field      string   `json:"field,omitempty"` // spec.rules[0].from[1].source.principals[0]
	Line       int      `json:"line,omitempty"`  // in the file; 0: not known
	Message    string   `json:"message"`
	Suggestion string   `json:"suggestion,omitempty"`
	// Unknown is a field that this program's version of the type does not have.
	Unknown bool `json:"unknown,omitempty"`
}

// String is field: message; suggestion.
func (f Finding) String() string {
	s := f.Message
	if f.Field != "" {
		s = f.Field + ": " + s
	}
	if f.Suggestion != "" {
		s += "; " + f.Suggestion
	}
	return s
}

// Settings are those of the mesh that decide what an object means.
type Settings struct {
	RootNamespace string // "" for istio-system
}

// Report is what there is to say about one object.
type Report struct {
	Object   string    `json:"object"`          // Kind/namespace/name, as far as known
	Line     int       `json:"line,omitempty"`  // where it starts
	Known    bool      `json:"known"`           // its kind concerns the mesh
	Findings []Finding `json:"findings"`        // in the order of lines, then severity
	Group    string    `json:"group,omitempty"` // API group
}

// Has reports whether there is a finding of that severity.
func (r Report) Has(s Severity) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == s })
}

// Document decodes an object strictly and checks it. Objects of kinds that do not concern the mesh are checked for labels and
// annotations that look like the mesh's.
func Document(d *strict.Document, set Settings) Report {
	h, err := d.Header()
	r := Report{Line: d.Line()}
	if err != nil {
		r.Object = h.Metadata.Name
		r.Findings = []Finding{fromStrict(err)}
		return r.located(d)
	}
	r.Object, r.Group = h.String(), h.Group()
	obj := newObject(h.APIVersion, h.Kind)
	if obj == nil {
		r.Findings = unfamiliar(d, h)
		return r.located(d)
	}
	r.Known = true
	if h.Metadata.Name == "" && h.Metadata.GenerateName == "" {
		r.Findings = append(r.Findings, Finding{Severity: Error, Field: "metadata.name", Message: "a name is required"})
	}
	typed := true
	for _, e := range d.Decode(obj) {
		typed = typed && e.Unknown
		r.Findings = append(r.Findings, fromStrict(e))
	}
	if typed { // else it is only half there
		for _, e := range strict.Check(obj) {
			r.Findings = append(r.Findings, fromStrict(e))
		}
		said := r.Findings
		for _, f := range Object(obj, set) { // where a field is misspelt, its absence needs no words
			if !slices.ContainsFunc(said, func(e Finding) bool { return e.Unknown && explains(e, f) }) {
				r.Findings = append(r.Findings, f)
			}
		}
	}
	return r.located(d)
}

// explains reports whether a misspelt field is what is missing in f: it is inside f's, or beside and meant for it.
func explains(misspelt, f Finding) bool {
	if strings.HasPrefix(misspelt.Field, f.Field+".") {
		return f.Field != "spec"
	}
	cut := strings.LastIndex(f.Field, ".")
	return cut > 0 && strings.HasPrefix(misspelt.Field, f.Field[:cut+1]) && strings.Contains(misspelt.Suggestion, strconv.Quote(f.Field[cut+1:]))
}

// Object checks a typed object.
func Object(o objects.Object, set Settings) []Finding {
	c := &check{root: cmp.Or(set.RootNamespace, "istio-system")}
	c.metadata(o)
	c.spec(o)
	return c.out
}

// located fills in lines and orders findings by them, repetitions left out.
func (r Report) located(d *strict.Document) Report {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Line == 0 {
			f.Line = d.LineOf(f.Field)
		}
	}
	rank := map[Severity]int{Error: 0, Warning: 1, Info: 2}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(a.Line, b.Line), cmp.Compare(rank[a.Severity], rank[b.Severity]),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message),
		)
	})
	seen := map[string]bool{}
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool {
		key := string(f.Severity) + f.Field
		twice := f.Severity == Error && seen[key]
		seen[key] = true
		return twice
	})
	return r
}

func fromStrict(e *strict.Error) Finding {
	return Finding{Severity: Error, Field: e.Field, Line: e.Line, Message: e.Reason, Suggestion: e.Suggest, Unknown: e.Unknown}
}

// check collects the findings of one object.
type check struct {
	root string // namespace
	out  []Finding
}

func (c *check) add(s Severity, p *field.Path, use, message string) {
	if len(c.out) < maxFindings {
		c.out = append(c.out, Finding{Severity: s, Field: p.String(), Message: message, Suggestion: use})
	}
}

func (c *check) fail(p *field.Path, use, format string, args ...any) {
	c.add(Error, p, use, fmt.Sprintf(format, args...))
}

func (c *check) warn(p *field.Path, use, format string, args ...any) {
	c.add(Warning, p, use, fmt.Sprintf(format, args...))
}

func (c *check) info(p *field.Path, use, format string, args ...any) {
	c.add(Info, p, use, fmt.Sprintf(format, args...))
}

func spec(steps ...string) *field.Path {
	if len(steps) == 0 {
		return field.NewPath("spec")
	}
	return field.NewPath("spec").Child(steps[0], steps[1:]...)
}
