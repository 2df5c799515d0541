package enroll

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Selector enrols the pods whose own labels and whose namespace's labels both match. An empty list matches everything.
type Selector struct {
	Pod, Namespace []Requirement
}

// Matches tells whether both halves do.
func (s Selector) Matches(pod, namespace map[string]string) bool {
	return all(s.Pod, pod) && all(s.Namespace, namespace)
}

func all(list []Requirement, labels map[string]string) bool {
	return !slices.ContainsFunc(list, func(r Requirement) bool { return !r.Matches(labels) })
}

// Op is a label selector's operator, spelled as in Kubernetes.
type Op string

const (
	In           Op = "In"
	NotIn        Op = "NotIn" // also where the label is absent, as in Kubernetes
	Exists       Op = "Exists"
	DoesNotExist Op = "DoesNotExist"
)

// Requirement is one condition on a label.
type Requirement struct {
	Key    string   `json:"key"`
	Op     Op       `json:"operator"`
	Values []string `json:"values"`
}

// Matches tells whether labels satisfy r. An operator that is not known matches nothing.
func (r Requirement) Matches(labels map[string]string) bool {
	value, present := labels[r.Key]
	switch r.Op {
	case In:
		return present && slices.Contains(r.Values, value)
	case NotIn:
		return !present || !slices.Contains(r.Values, value)
	case Exists:
		return present
	case DoesNotExist:
		return !present
	default:
		return false
	}
}

func (r Requirement) check() error {
	if r.Key == "" {
		return fmt.Errorf("a requirement without a key")
	}
	switch r.Op {
	case In, NotIn:
		if len(r.Values) == 0 {
			return fmt.Errorf("%s %s needs values", r.Key, r.Op)
		}
	case Exists, DoesNotExist:
		if len(r.Values) > 0 {
			return fmt.Errorf("%s %s takes no values", r.Key, r.Op)
		}
	default:
		return fmt.Errorf("%s has the unknown operator %q", r.Key, r.Op)
	}
	return nil
}

// DefaultSelectors are Istio's: the pod asks for it, or the namespace does and the pod does not decline.
func DefaultSelectors() []Selector {
	return []Selector{
		{Pod: []Requirement{{Key: labelMode, Op: In, Values: []string{"ambient"}}}},
		{
			Pod:       []Requirement{{Key: labelMode, Op: NotIn, Values: []string{"none"}}},
			Namespace: []Requirement{{Key: labelMode, Op: In, Values: []string{"ambient"}}},
		},
	}
}

type labelSelector struct {
	MatchLabels      map[string]string `json:"matchLabels"`
	MatchExpressions []Requirement     `json:"matchExpressions"`
}

// ParseSelectors reads the JSON form of Istio's AMBIENT_ENABLEMENT_SELECTOR: a list of podSelector and namespaceSelector.
// An empty list is an error, since it would enrol nothing, and so is what it does not know.
func ParseSelectors(text []byte) ([]Selector, error) {
	var list []struct {
		Pod       labelSelector `json:"podSelector"`
		Namespace labelSelector `json:"namespaceSelector"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("enablement selectors: %w", err)
	}
	if d.More() {
		return nil, fmt.Errorf("enablement selectors: something follows the list")
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("enablement selectors: the list is empty")
	}
	var selectors []Selector
	for i, entry := range list {
		pod, err := entry.Pod.requirements()
		if err != nil {
			return nil, fmt.Errorf("enablement selector %d: podSelector: %w", i+1, err)
		}
		namespace, err := entry.Namespace.requirements()
		if err != nil {
			return nil, fmt.Errorf("enablement selector %d: namespaceSelector: %w", i+1, err)
		}
		selectors = append(selectors, Selector{Pod: pod, Namespace: namespace})
	}
	return selectors, nil
}

func (l labelSelector) requirements() ([]Requirement, error) {
	var list []Requirement
	for key, value := range l.MatchLabels {
		list = append(list, Requirement{Key: key, Op: In, Values: []string{value}})
	}
	list = append(list, l.MatchExpressions...)
	for _, r := range list {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
