package kube

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ambit-mesh/ambit/controller/objects"
)

var (
	service = objects.Key{Kind: objects.Service, Namespace: "shop", Name: "cart"}
	bound   = objects.Condition{Type: "istio.io/WaypointBound", Status: true, Reason: "WaypointAccepted", Message: "bound to shop/waypoint"}
	unbound = objects.Condition{Type: "istio.io/WaypointBound", Reason: "AttachmentDenied", Message: "no"}
	noon    = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
)

const (
	earlier = "2026-11-01T00:00:00Z"
	present = "2026-11-25T12:00:00Z"
)

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMerge: what is ours is replaced, what is not stays, and after the merge the status says what was wanted.
func TestMerge(t *testing.T) {
	gateway := objects.Key{Kind: objects.Gateway, Namespace: "shop", Name: "waypoint"}
	route := objects.Key{Kind: objects.HTTPRoute, Namespace: "shop", Name: "r"}
	entry := objects.Key{Kind: objects.ServiceEntry, Namespace: "shop", Name: "e"}
	accepted := objects.Condition{Type: "Accepted", Status: true, Reason: "Accepted"}
	for _, tc := range []struct {
		name   string
		status string
		want   objects.Status
		next   string
	}{
		{
			"first", `{}`,
			objects.Status{Key: service, Conditions: []objects.Condition{bound}},
			`{"conditions":[{"type":"istio.io/WaypointBound","status":"True","reason":"WaypointAccepted","message":"bound to shop/waypoint","lastTransitionTime":"` + present + `"}]}`,
		},
		{
			"same status keeps its time, others stay in place",
			`{"conditions":[{"type":"istio.io/WaypointBound","status":"True","reason":"x","message":"old","lastTransitionTime":"` + earlier + `"},{"type":"Theirs","status":"False"}],"loadBalancer":{}}`,
			objects.Status{Key: service, Conditions: []objects.Condition{bound}},
			`{"conditions":[{"type":"istio.io/WaypointBound","status":"True","reason":"WaypointAccepted","message":"bound to shop/waypoint","lastTransitionTime":"` + earlier + `"},{"type":"Theirs","status":"False"}]}`,
		},
		{
			"another status has another time, and the generation is stated",
			`{"conditions":[{"type":"istio.io/WaypointBound","status":"True","lastTransitionTime":"` + earlier + `"}]}`,
			objects.Status{Key: service, Generation: 7, Conditions: []objects.Condition{unbound}},
			`{"conditions":[{"type":"istio.io/WaypointBound","status":"False","reason":"AttachmentDenied","message":"no","observedGeneration":7,"lastTransitionTime":"` + present + `"}]}`,
		},
		{
			"stale ones go, twins too",
			`{"conditions":[{"type":"istio.io/WaypointBound","status":"True"},{"type":"istio.io/WaypointBound","status":"False"},{"type":"istio.io/WaypointMissing"},{"type":"Theirs"}]}`,
			objects.Status{Key: service},
			`{"conditions":[{"type":"Theirs"}]}`,
		},
		{
			"all of the mesh's go", `{"conditions":[{"type":"ambit.io/ExportToHeeded"},{"type":"istio.io/VisibilityApplied"},{"type":"Theirs"}]}`,
			objects.Status{Key: entry, Conditions: []objects.Condition{{Type: "ambit.io/Published", Reason: "HostTaken"}}},
			`{"conditions":[{"type":"Theirs"},{"type":"ambit.io/Published","status":"False","reason":"HostTaken","message":"","lastTransitionTime":"` + present + `"}]}`,
		},
		{
			"listeners of a gateway; its foreign conditions stay",
			`{"conditions":[{"type":"Theirs"}],"listeners":[{"name":"mesh","conditions":[{"type":"Accepted","status":"True","lastTransitionTime":"` + earlier + `"},{"type":"Old"}]},{"name":"gone"}]}`,
			objects.Status{Key: gateway, Generation: 2, Conditions: []objects.Condition{accepted}, Listeners: []objects.ListenerStatus{{
				Name: "mesh", AttachedRoutes: 3, SupportedKinds: []objects.GroupKind{{Group: "g", Kind: "k"}}, Conditions: []objects.Condition{accepted},
			}}},
			`{"conditions":[{"type":"Theirs"},{"type":"Accepted","status":"True","reason":"Accepted","message":"","observedGeneration":2,"lastTransitionTime":"` + present + `"}],
			  "listeners":[{"name":"mesh","attachedRoutes":3,"supportedKinds":[{"group":"g","kind":"k"}],"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","observedGeneration":2,"lastTransitionTime":"` + earlier + `"}]}]}`,
		},
		{
			"parents of a route: another controller's stay",
			`{"parents":[{"controllerName":"example.com/other","parentRef":{"name":"a"},"conditions":[]},
			  {"controllerName":"istio.io/mesh-controller","parentRef":{"group":"","kind":"Service","name":"cart"},"conditions":[{"type":"Accepted","status":"True","lastTransitionTime":"` + earlier + `"}]},
			  {"controllerName":"istio.io/mesh-controller","parentRef":{"name":"stale"},"conditions":[]}]}`,
			objects.Status{Key: route, Generation: 1, Parents: []objects.ParentStatus{{
				Ref: objects.ParentRef{GroupKind: objects.GroupKind{Kind: "Service"}, Name: "cart"}, Conditions: []objects.Condition{accepted},
			}}},
			`{"parents":[{"controllerName":"example.com/other","parentRef":{"name":"a"},"conditions":[]},
			  {"controllerName":"istio.io/mesh-controller","parentRef":{"group":"","kind":"Service","name":"cart"},"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","observedGeneration":1,"lastTransitionTime":"` + earlier + `"}]}]}`,
		},
		{
			"addresses of a service entry", `{"addresses":[{"host":"b","value":"240.240.0.9"}]}`,
			objects.Status{Key: entry, Addresses: []objects.HostAddress{{Host: "b", Value: "240.240.0.2"}, {Host: "a", Value: "240.240.0.1"}}},
			`{"conditions":[],"addresses":[{"host":"a","value":"240.240.0.1"},{"host":"b","value":"240.240.0.2"}]}`,
		},
		{
			"nonsense is replaced", `{"conditions":"x","addresses":7}`,
			objects.Status{Key: entry, Conditions: []objects.Condition{bound}},
			`{"conditions":[{"type":"istio.io/WaypointBound","status":"True","reason":"WaypointAccepted","message":"bound to shop/waypoint","lastTransitionTime":"` + present + `"}],"addresses":[]}`,
		},
	} {
		status := decode(t, tc.status)
		next := merge(status, tc.want, noon)
		text, err := json.Marshal(next)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decode(t, tc.next), decode(t, string(text))); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tc.name, diff)
		}
		if holds(status, next) {
			t.Errorf("%s: would not be written", tc.name)
		}
		for field, v := range decode(t, string(text)) {
			status[field] = v
		}
		if again := merge(status, tc.want, noon.Add(time.Hour)); !holds(status, again) {
			t.Errorf("%s: would be written again: %v", tc.name, again)
		}
		whole, err := json.Marshal(map[string]any{"status": status})
		if err != nil {
			t.Fatal(err)
		}
		if n := noteOf(tc.want.Key.Kind, whole); !n.says(tc.want) {
			t.Errorf("%s: after the merge the status does not say what was wanted: %+v", tc.name, n)
		}
		if n := noteOf(tc.want.Key.Kind, []byte(`{"status":`+tc.status+`}`)); n.says(tc.want) {
			t.Errorf("%s: the status seems to say already what is wanted: %+v", tc.name, n)
		}
	}
}

// TestSays: the details that make a write necessary.
func TestSays(t *testing.T) {
	want := objects.Status{Key: service, Generation: 3, Conditions: []objects.Condition{bound}}
	note := func(c notedCondition) *noted { return &noted{Conditions: []notedCondition{c}} }
	same := notedCondition{bound.Type, "True", bound.Reason, bound.Message, 3}
	for name, change := range map[string]func(*notedCondition){
		"status":     func(c *notedCondition) { c.Status = "False" },
		"reason":     func(c *notedCondition) { c.Reason = "x" },
		"message":    func(c *notedCondition) { c.Message = "x" },
		"generation": func(c *notedCondition) { c.Generation = 2 },
	} {
		other := same
		change(&other)
		if note(other).says(want) {
			t.Errorf("another %s goes unnoticed", name)
		}
	}
	if !note(same).says(want) || note(same).says(objects.Status{Key: service}) {
		t.Error("what is said, or stale, is not seen")
	}
	var none *noted
	if !none.says(objects.Status{Key: service}) || none.says(want) {
		t.Error("an object without conditions")
	}
	foreign := &noted{Conditions: []notedCondition{{Type: "Accepted", Status: "True"}}}
	if !foreign.says(objects.Status{Key: objects.Key{Kind: objects.Gateway}}) {
		t.Error("another controller's gateway would be cleaned")
	}
}

// FuzzNote: no status makes noting, comparing or merging panic, and a merge is stable whatever was there.
func FuzzNote(f *testing.F) {
	f.Add(`{"status":{"conditions":[{"type":"ZtunnelAccepted","status":"True","observedGeneration":"4"}]}}`)
	f.Add(`{"status":{"listeners":[{"name":1}],"parents":[{"parentRef":{"port":80}}],"addresses":[{}]}}`)
	f.Add(`{"status":[]}`)
	wants := []objects.Status{
		{Key: service, Generation: 1, Conditions: []objects.Condition{bound}},
		{Key: objects.Key{Kind: objects.HTTPRoute}, Parents: []objects.ParentStatus{{Ref: objects.ParentRef{Name: "x"}}}},
		{Key: objects.Key{Kind: objects.Gateway}, Listeners: []objects.ListenerStatus{{Name: "x"}}},
		{Key: objects.Key{Kind: objects.ServiceEntry}},
	}
	f.Fuzz(func(t *testing.T, text string) {
		var o map[string]any
		if json.Unmarshal([]byte(text), &o) != nil {
			return
		}
		for _, want := range wants {
			_ = noteOf(want.Key.Kind, []byte(text)).says(want)
			status, _ := o["status"].(map[string]any)
			next := merge(status, want, noon)
			copied := map[string]any{}
			for k, v := range status {
				copied[k] = v
			}
			stored, err := json.Marshal(next)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range decode(t, string(stored)) {
				copied[k] = v
			}
			if again := merge(copied, want, noon.Add(time.Hour)); !holds(copied, again) {
				t.Fatalf("%s: %s is merged again into %v", want.Key, stored, again)
			}
		}
	})
}
