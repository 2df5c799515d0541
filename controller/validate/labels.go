package validate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/strict"
)

// metadata checks what labels and annotations ask of the mesh.
func (c *check) metadata(o objects.Object) {
	c.marked(field.NewPath("metadata"), kindOf(o), o.GetLabels(), o.GetAnnotations())
}

// kindOf is the kind of a typed object, which may not say it itself.
func kindOf(o objects.Object) string {
	if k := o.GetObjectKind().GroupVersionKind().Kind; k != "" {
		return k
	}
	if kinds, _, err := scheme().ObjectKinds(o); err == nil && len(kinds) > 0 {
		return kinds[0].Kind
	}
	return ""
}

func (c *check) marked(p *field.Path, kind string, labels, annotations map[string]string) {
	for k, v := range labels {
		c.mark(p.Child("labels").Key(clip(k)), "label", kind, k, v, marks.labels, marks.annotations)
	}
	for k, v := range annotations {
		c.mark(p.Child("annotations").Key(clip(k)), "annotation", kind, k, v, marks.annotations, marks.labels)
	}
	at := p.Child("labels")
	_, waypoint := labels["istio.io/use-waypoint"]
	if _, ns := labels["istio.io/use-waypoint-namespace"]; ns && !waypoint {
		c.warn(at.Key("istio.io/use-waypoint-namespace"), "name the waypoint in istio.io/use-waypoint", "without istio.io/use-waypoint it does nothing")
	}
	if kind == "Namespace" && labels["istio.io/dataplane-mode"] == "ambient" {
		if v, ok := labels["istio-injection"]; ok && v == "enabled" {
			c.warn(at.Key("istio-injection"), "remove one of the two", "asks for sidecars, istio.io/dataplane-mode for none: pods that get a sidecar stay out of the mesh")
		}
	}
	if v := labels["istio.io/use-waypoint"]; kind == "Namespace" && v != "" && v != "none" && labels["istio.io/dataplane-mode"] == "" {
		c.warn(at.Key("istio.io/use-waypoint"), "add istio.io/dataplane-mode: ambient", "the namespace is not in the mesh: traffic from outside the mesh goes past the waypoint")
	}
}

func (c *check) mark(p *field.Path, what, kind, key, value string, list, others []mark) {
	m, ok := find(list, key)
	if !ok {
		if i := idleMark(what, key); i != nil {
			c.idle(p, kind, value, i)
			return
		}
		c.unknownMark(p, what, key, list, others)
		return
	}
	if m.on != nil && kind != "" && !slices.Contains(m.on, kind) {
		c.warn(p, "it is read on "+strings.Join(m.on, ", "), "%s %s does nothing on a %s", what, key, clip(kind))
		return
	}
	switch {
	case key == "networking.istio.io/exportTo":
		if strings.TrimSpace(value) != "*" {
			c.warn(p, "remove it; an AuthorizationPolicy refuses callers", "without effect in ambient mode: the Service is visible to every namespace")
		}
	case m.values == nil:
	case slices.Equal(m.values, []string{"bool"}):
		if _, err := strconv.ParseBool(value); err != nil {
			c.warn(p, `use "true" or "false"`, "%q is not a boolean: the pod is not admitted to the mesh, and told so in an event", clip(value))
		}
	case slices.Equal(m.values, []string{""}):
		if len(validation.IsDNS1123Subdomain(value)) > 0 {
			c.warn(p, "write the name alone", "%q is not a name", clip(value))
		}
	case key == "istio.io/waypoint-for" && !slices.Contains(m.values, value):
		c.warn(p, oneOf(value, m.values...), "value %q is not known: the waypoint takes no traffic, and what asks for it is refused", clip(value))
	case !slices.Contains(m.values, value):
		c.warn(p, oneOf(value, m.values...), "value %q is not known: it is ignored", clip(value))
	}
}

func (c *check) unknownMark(p *field.Path, what, key string, list, others []mark) {
	if _, other := find(others, key); other {
		instead := "an annotation"
		if what == "annotation" {
			instead = "a label"
		}
		c.warn(p, "make it "+instead, "%s is %s: as %s it does nothing", key, instead, article(what))
		return
	}
	domain, name, ok := strings.Cut(key, "/")
	ours := ok && (strings.HasSuffix(domain, "istio.io") || strings.HasSuffix(domain, "ambit.io"))
	var known, names []string
	for _, m := range list {
		_, n, _ := strings.Cut(m.key, "/")
		known, names = append(known, m.key), append(names, n)
	}
	near := strict.Nearest(key, known)
	switch {
	case near != "" && (ours || strings.Contains(domain, "istio") || strings.Contains(domain, "ambit")):
		c.warn(p, fmt.Sprintf("did you mean %q?", near), "%s is not known: it does nothing", clip(key))
	case ours && slices.Contains(names, name):
		c.warn(p, fmt.Sprintf("did you mean %q?", known[slices.Index(names, name)]), "%s is not known: it does nothing", clip(key))
	case !ok && slices.Contains([]string{"dataplane-mode", "use-waypoint", "waypoint-for"}, key):
		c.warn(p, fmt.Sprintf("did you mean %q?", "istio.io/"+key), "%s is not known: it does nothing", key)
	case ours:
		c.info(p, "", "%s is not known to this mesh", clip(key))
	}
}

func article(word string) string {
	if word == "annotation" {
		return "an " + word
	}
	return "a " + word
}

func (c *check) pod(p *corev1.Pod) {
	if p.Spec.HostNetwork && p.Labels["istio.io/dataplane-mode"] == "ambient" {
		c.warn(spec("hostNetwork"), "", "pods on the host's network are never in the mesh, whatever their labels")
	}
}

func (c *check) service(s *corev1.Service) {
	known := []string{"http", "http2", "https", "grpc", "grpc-web", "tls", "tcp", "mongo", "mysql", "redis", "kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"}
	for i, p := range s.Spec.Ports {
		if p.AppProtocol != nil && !slices.Contains(known, strings.ToLower(*p.AppProtocol)) {
			if near := strict.Nearest(*p.AppProtocol, known); near != "" {
				c.warn(spec("ports").Index(i).Child("appProtocol"), fmt.Sprintf("did you mean %q?", near), "protocol %q is not known: it is taken for TCP", clip(*p.AppProtocol))
			}
		}
	}
}

// foreign looks at an object of another kind: its labels, and those of the pods it makes, may be meant for the mesh.
func (c *check) foreign(d *strict.Document, kind string) {
	var view struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     struct {
			Template struct {
				Metadata metav1.ObjectMeta `json:"metadata"`
			} `json:"template"`
		} `json:"spec"`
	}
	if d.Loosely(&view) != nil {
		return // not for us to judge
	}
	c.marked(field.NewPath("metadata"), kind, view.Metadata.Labels, view.Metadata.Annotations)
	pods := view.Spec.Template.Metadata
	c.marked(spec("template", "metadata"), "Pod", pods.Labels, pods.Annotations)
}
