package kube

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// merge is the fields of a status as they are to be, given the status as it is: ours replaced, everybody else's kept. Fields that
// stay out of it do not change. A condition keeps its time as long as its status does.
func merge(status map[string]any, want objects.Status, now time.Time) map[string]any {
	out := map[string]any{}
	kind := want.Key.Kind
	switch kind {
	case objects.HTTPRoute, objects.GRPCRoute:
		out["parents"] = mergeParents(list(status["parents"]), want, now)
		return out
	}
	out["conditions"] = mergeConditions(list(status["conditions"]), want.Conditions, want.Generation, now, func(t string) bool { return owned(kind, t) })
	if kind == objects.Gateway && len(want.Listeners) > 0 {
		out["listeners"] = mergeListeners(list(status["listeners"]), want, now)
	}
	if kind == objects.ServiceEntry && (len(want.Addresses) > 0 || status["addresses"] != nil) {
		addresses := []any{}
		for _, a := range sortedAddresses(want.Addresses) {
			addresses = append(addresses, map[string]any{"host": a.Host, "value": a.Value})
		}
		out["addresses"] = addresses
	}
	return out
}

// mergeConditions keeps the order of what is there; new ones come last.
func mergeConditions(have []any, want []objects.Condition, generation int64, now time.Time, ours func(string) bool) []any {
	out := []any{}
	done := map[string]bool{}
	for _, h := range have {
		old, _ := h.(map[string]any)
		t, _ := old["type"].(string)
		i := slices.IndexFunc(want, func(c objects.Condition) bool { return c.Type == t })
		switch {
		case i >= 0 && !done[t]:
			out = append(out, conditionJSON(want[i], old, generation, now))
			done[t] = true
		case i < 0 && !ours(t):
			out = append(out, h)
		}
	}
	for _, c := range want {
		if !done[c.Type] {
			out = append(out, conditionJSON(c, nil, generation, now))
		}
	}
	return out
}

func conditionJSON(c objects.Condition, old map[string]any, generation int64, now time.Time) map[string]any {
	out := map[string]any{
		"type": c.Type, "status": statusText(c.Status), "reason": c.Reason, "message": c.Message,
		"lastTransitionTime": now.UTC().Format(time.RFC3339),
	}
	if since, ok := old["lastTransitionTime"].(string); ok && old["status"] == out["status"] {
		out["lastTransitionTime"] = since
	}
	if generation != 0 {
		out["observedGeneration"] = generation
	}
	return out
}

func all(string) bool { return true }

func mergeListeners(have []any, want objects.Status, now time.Time) []any {
	out := []any{}
	for _, l := range want.Listeners {
		kinds := []any{}
		for _, k := range l.SupportedKinds {
			kinds = append(kinds, map[string]any{"group": k.Group, "kind": k.Kind})
		}
		var old []any
		for _, h := range have {
			if m, ok := h.(map[string]any); ok && m["name"] == l.Name {
				old = list(m["conditions"])
			}
		}
		out = append(out, map[string]any{
			"name": l.Name, "attachedRoutes": int64(l.AttachedRoutes), "supportedKinds": kinds,
			"conditions": mergeConditions(old, l.Conditions, want.Generation, now, all),
		})
	}
	return out
}

// mergeParents replaces the entries of our controller name.
func mergeParents(have []any, want objects.Status, now time.Time) []any {
	out := []any{}
	before := map[objects.ParentRef][]any{}
	for _, h := range have {
		m, _ := h.(map[string]any)
		if m["controllerName"] != controllerName {
			out = append(out, h)
			continue
		}
		var ref wireRef
		if r, ok := m["parentRef"].(map[string]any); ok && runtime.DefaultUnstructuredConverter.FromUnstructured(r, &ref) == nil {
			before[ref.parse()] = list(m["conditions"])
		}
	}
	for _, p := range want.Parents {
		ref := map[string]any{"name": p.Ref.Name}
		if p.Ref.Group != "" || p.Ref.Kind == "Service" { // left out, it is Gateway API's own; Services are of the core's
			ref["group"] = p.Ref.Group
		}
		for field, value := range map[string]string{"kind": p.Ref.Kind, "namespace": p.Ref.Namespace, "sectionName": p.Ref.Section} {
			if value != "" {
				ref[field] = value
			}
		}
		if p.Ref.Port != 0 {
			ref["port"] = int64(p.Ref.Port)
		}
		out = append(out, map[string]any{
			"parentRef": ref, "controllerName": controllerName,
			"conditions": mergeConditions(before[p.Ref], p.Conditions, want.Generation, now, all),
		})
	}
	return out
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
