package state

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

func one(uid string, change func(*Workload)) *Workload {
	w := &Workload{
		UID: uid, Name: uid, Capacity: 1, Place: &Place{Node: "n1"},
		Profile: &Profile{Namespace: "shop", ServiceAccount: "sa", TrustDomain: "td"},
	}
	if change != nil {
		change(w)
	}
	return w
}

// TestJudgement says when live connections are to be judged again, and when not.
func TestJudgement(t *testing.T) {
	store := NewStore(Config{Node: "n1"})
	p := &Policy{Key: Key{"shop", "p"}, Scope: ScopeSelector}
	for _, step := range []struct {
		what string
		u    *Update
		want bool
	}{
		{"a local workload arrives", &Update{Workloads: []*Workload{one("a", nil)}}, true},
		{"a remote workload arrives", &Update{Workloads: []*Workload{one("b", func(w *Workload) { w.Node = "n2" })}}, false},
		{"the local one goes unready", &Update{Workloads: []*Workload{one("a", func(w *Workload) { w.Unhealthy = true })}}, false},
		{"a policy is attached to it", &Update{Workloads: []*Workload{one("a", func(w *Workload) { w.Profile.Policies = []Key{p.Key} })}}, true},
		{"a policy arrives", &Update{Policies: []*Policy{p}}, true},
		{"it arrives again", &Update{Policies: []*Policy{{Key: Key{"shop", "p"}, Scope: ScopeSelector}}}, false},
		{"a service arrives", &Update{Services: []*Service{{Namespace: "shop", Hostname: "s"}}}, false},
		{"everything is there", &Update{Synced: TypesAll}, true},
		{"once more", &Update{Synced: TypesAll}, false},
		{"the policy is removed", &Update{RemovedPolicies: []Key{p.Key}}, true},
		{"and again", &Update{RemovedPolicies: []Key{p.Key}}, false},
		{"the remote workload goes", &Update{RemovedWorkloads: []string{"b"}}, false},
		{"the local one goes", &Update{RemovedWorkloads: []string{"a"}}, true},
	} {
		before := store.Load().Judgement()
		if got := store.Apply(step.u).Judgement() != before; got != step.want {
			t.Errorf("%s: judge again = %v, want %v", step.what, got, step.want)
		}
	}
}

func TestUpdatesThatChangeNothingPublishNothing(t *testing.T) {
	store := NewStore(Config{})
	u := mesh(100)
	u.Policies = []*Policy{{Key: Key{"a", "b"}, Rules: []Rule{{Clauses: []Clause{{Matches: []Match{{DestinationPorts: []uint16{1}}}}}}}}}
	first := store.Apply(u)
	again := mesh(100)
	again.Policies = []*Policy{{Key: Key{"a", "b"}, Rules: []Rule{{Clauses: []Clause{{Matches: []Match{{DestinationPorts: []uint16{1}}}}}}}}}
	again.RemovedWorkloads = []string{"never was"}
	if store.Apply(again, &Update{}) != first {
		t.Error("a new snapshot with nothing new")
	}
	if first.Version() != 2 {
		t.Errorf("version %d after one update", first.Version())
	}
}

// TestBurstIsOneSnapshot: many updates, one version, in order.
func TestBurstIsOneSnapshot(t *testing.T) {
	store := NewStore(Config{})
	snap := store.Apply(
		&Update{Workloads: []*Workload{one("a", nil), one("b", nil)}},
		&Update{RemovedWorkloads: []string{"a"}},
		&Update{Workloads: []*Workload{one("b", func(w *Workload) { w.Unhealthy = true })}},
	)
	if snap.Version() != 2 || snap.Workload("a") != nil || !snap.Workload("b").Unhealthy {
		t.Errorf("version %d, %v", snap.Version(), snap.Size())
	}
}

func TestStagedEndpoints(t *testing.T) {
	store := NewStore(Config{})
	k := Key{"shop", "s"}
	member := func(w *Workload) { w.Profile.Services = []Membership{{Service: k}} }
	snap := store.Apply(&Update{Workloads: []*Workload{one("a", member)}})
	if snap.Service(k) != nil || snap.Endpoints(k).Len() != 1 {
		t.Fatal("the endpoint is not kept for a service to come")
	}
	before := snap.Endpoints(k)
	before.Derive("x", func() any { return 1 })
	snap = store.Apply(&Update{Services: []*Service{{Namespace: "shop", Hostname: "s"}}})
	if snap.Endpoints(k).Find("a") == nil {
		t.Fatal("the endpoint is lost when the service arrives")
	}
	if got := snap.Endpoints(k).Derive("x", func() any { return 2 }); got != 2 {
		t.Error("what was derived outlives a change of the service")
	}
	snap = store.Apply(&Update{RemovedServices: []Key{k}})
	if snap.Endpoints(k).Len() != 1 {
		t.Error("the endpoint is lost with the service")
	}
	snap = store.Apply(&Update{RemovedWorkloads: []string{"a"}})
	if snap.Endpoints(k) != nil || snap.Endpoints(k).Len() != 0 || snap.Endpoints(k).Find("a") != nil {
		t.Error("an endpoint without a workload")
	}
}

func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewStore(Config{Node: "n1"})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		got := make(chan *Workload)
		go func() {
			w, snap, err := store.WaitLocal(ctx, LocalKey{"shop", "a", "sa"})
			if err != nil || snap.Workload("a") != w {
				t.Errorf("%v %v", w, err)
			}
			got <- w
		}()
		synctest.Wait()
		store.Apply(&Update{Workloads: []*Workload{one("x", nil)}})
		synctest.Wait()
		store.Apply(&Update{Workloads: []*Workload{one("a", nil)}})
		if w := <-got; w == nil {
			t.Fatal("not found")
		}
		begun := time.Now()
		if _, err := store.WaitSynced(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		last := store.Load().Judgement()
		go store.Apply(&Update{Policies: []*Policy{{Key: Key{"a", "b"}}}})
		if snap, err := store.WaitJudgement(t.Context(), last); err != nil || snap.Judgement() == last {
			t.Errorf("judgement %d, %v", snap.Judgement(), err)
		}
	})
}

// TestEqualSeesEveryField changes each field of a profile and a workload in turn: a field that equal forgets would make
// the store ignore its changes.
func TestEqualSeesEveryField(t *testing.T) {
	base := func() *Workload {
		return one("a", func(w *Workload) {
			w.Profile.Waypoint, w.Profile.Gateway = &Gateway{Port: 1}, &Gateway{Port: 1}
			w.Profile.Policies = []Key{{"a", "b"}}
			w.Profile.Services = []Membership{{Service: Key{"a", "b"}, Ports: []Port{{1, 2}}}}
		})
	}
	if !base().equal(base()) {
		t.Fatal("not equal to itself")
	}
	check := func(name string, pick func(*Workload) reflect.Value) {
		w := base()
		v := pick(w)
		switch v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Uint8, reflect.Uint32:
			v.SetUint(v.Uint() + 1)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), v.Len()+1, v.Len()+1))
		case reflect.Pointer:
			v.SetZero()
		case reflect.Struct:
			v.Field(0).SetBool(!v.Field(0).Bool())
		default:
			t.Fatalf("%s: %s", name, v.Kind())
		}
		if w.equal(base()) {
			t.Errorf("%s: a change is not seen", name)
		}
	}
	for i := range reflect.TypeFor[Profile]().NumField() {
		check("Profile."+reflect.TypeFor[Profile]().Field(i).Name, func(w *Workload) reflect.Value { return reflect.ValueOf(w.Profile).Elem().Field(i) })
	}
	for i := range reflect.TypeFor[Place]().NumField() {
		check("Place."+reflect.TypeFor[Place]().Field(i).Name, func(w *Workload) reflect.Value { return reflect.ValueOf(w.Place).Elem().Field(i) })
	}
	for i := range reflect.TypeFor[Workload]().NumField() {
		if f := reflect.TypeFor[Workload]().Field(i); !f.Anonymous {
			check(f.Name, func(w *Workload) reflect.Value { return reflect.ValueOf(w).Elem().Field(i) })
		}
	}
}

// TestStringsOfTheGoneAreForgotten: jobs with new names for ever must not fill memory.
func TestStringsOfTheGoneAreForgotten(t *testing.T) {
	store := NewStore(Config{})
	for i := range 20_000 {
		w := one("job", func(w *Workload) { w.Profile.Controller = fmt.Sprintf("job-%d", i) })
		store.Apply(&Update{Workloads: []*Workload{w}})
	}
	if n := len(store.b.intern.strings); n > 2000 {
		t.Errorf("%d strings for one workload", n)
	}
	if n := len(store.b.intern.users); n != 1 {
		t.Errorf("%d profiles for one workload", n)
	}
}

// TestEqualProfilesAreShared is what the memory figure rests on.
func TestEqualProfilesAreShared(t *testing.T) {
	store := NewStore(Config{})
	snap := store.Apply(mesh(100))
	seen := map[*Profile]bool{}
	for w := range snap.Workloads() {
		seen[w.Profile] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d profiles for 5 deployments", len(seen))
	}
}

// Bare pods, each of which is its own "deployment", share a profile too, and keep their names.
func TestBarePodsShareAProfile(t *testing.T) {
	store := NewStore(Config{})
	var snap *Snapshot
	for i := range 10 {
		w := pod(i)
		given := *w.Profile
		w.Profile = &given
		w.Controller = w.Name
		snap = store.Apply(&Update{Workloads: []*Workload{w}})
		if given.Controller != w.Name || given.Bare {
			t.Error("the caller's profile was changed")
		}
	}
	version := snap.Version()
	seen := map[*Profile]bool{}
	for w := range snap.Workloads() {
		seen[w.Profile] = true
		if w.WorkloadName() != w.Name || w.WorkloadName() == "" {
			t.Errorf("%s: workload name %q, want %q", w.UID, w.WorkloadName(), w.Name)
		}
	}
	if len(seen) != 1 {
		t.Errorf("%d profiles, want 1", len(seen))
	}
	w := pod(0)
	w.Controller = w.Name
	if snap = store.Apply(&Update{Workloads: []*Workload{w}}); snap.Version() != version {
		t.Error("the same pod again makes another snapshot")
	}
	w = pod(0)
	if snap = store.Apply(&Update{Workloads: []*Workload{w}}); snap.Workload(w.UID).WorkloadName() != "deployment-0" {
		t.Errorf("workload name %q after it got a deployment", snap.Workload(w.UID).WorkloadName())
	}
}

func TestKeys(t *testing.T) {
	for text, ok := range map[string]bool{"a/b": true, "a/b.c.d": true, "": false, "a": false, "/b": false, "a/": false, "a/b/c": false} {
		if k, got := ParseKey(text); got != ok || ok && k.String() != text {
			t.Errorf("%q: %v %v", text, k, got)
		}
	}
	if (Key{}).String() != "" {
		t.Error("the zero key has a name")
	}
}
