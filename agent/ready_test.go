package agent

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/pods"
)

type readySource struct {
	podSource
	set     *pods.Set
	waiting []string
}

func (s *readySource) Set() *pods.Set    { return s.set }
func (s *readySource) Waiting() []string { return s.waiting }

// Each step to readiness names what is missing, and a lost plugin is missing again.
func TestMissing(t *testing.T) {
	s := &readySource{waiting: []string{"pods: forbidden", "namespaces"}}
	f := &fleet{source: s, complete: make(chan struct{})}
	f.chained(errors.New("no conflist"))
	expect := func(want ...string) {
		t.Helper()
		if got := f.missing(); !slices.Equal(got, want) {
			t.Errorf("missing %q, want %q", got, want)
		}
	}
	expect("pods: forbidden", "namespaces")
	s.waiting = nil
	expect("the node's pods")
	s.set = pods.NewSet(nil, nil)
	expect("the first pass over the node's pods")
	close(f.complete)
	expect("a place for the plugin in the node's CNI configuration: no conflist")
	f.chained(nil)
	expect()
	f.chained(errors.New("rewritten"))
	expect("a place for the plugin in the node's CNI configuration: rewritten")
}

func TestStuck(t *testing.T) {
	f := new(fleet)
	if err := f.stuck(time.Now()); err != nil {
		t.Errorf("before it begins: %v", err)
	}
	f.beat()
	if err := f.stuck(time.Now().Add(stuckTime - time.Minute)); err != nil {
		t.Errorf("alive: %v", err)
	}
	if err := f.stuck(time.Now().Add(stuckTime + time.Minute)); err == nil {
		t.Error("silence is not told")
	}
}
