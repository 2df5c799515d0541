package shift

import (
	"slices"
	"testing"
)

// job counts down its shifts.
type job struct {
	left int
	did  []string
}

func (j *job) Shift() (again bool) {
	j.did = append(j.did, "shift")
	j.left--
	return j.left > 0
}

func (j *job) End() { j.did = append(j.did, "end") }

func TestRun(t *testing.T) {
	for shifts, want := range map[int][]string{
		1: {"shift", "end", "after"},
		3: {"shift", "shift", "shift", "end", "after"},
	} {
		j, over := &job{left: shifts}, make(chan struct{})
		Run(j, func() { j.did = append(j.did, "after"); close(over) })
		<-over
		if !slices.Equal(j.did, want) {
			t.Errorf("%d shifts: got %v, want %v", shifts, j.did, want)
		}
	}
	called := false
	Run(nil, func() { called = true })
	if !called {
		t.Error("no job: after was not called")
	}
}
