package demo_test

import (
	"context"
	"os"
	"testing"

	"github.com/ambit-mesh/ambit/test/demo"
	"github.com/ambit-mesh/ambit/test/netlab/labtest"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// A few of the demo's checks in go test; `make demo` runs all of them.
func TestChecksHold(t *testing.T) {
	lab := labtest.Up(t, "checks")
	m, err := mesh.Start(t.Context(), lab, mesh.Options{})
	if err != nil {
		t.Fatal(err)
	}
	results, err := demo.Run(context.WithoutCancel(t.Context()), demo.Config{
		Enrol: true, Only: []int{1, 2, 4, 5, 6, 7, 11}, Samples: "../../deploy/samples", Out: os.Stdout,
	}.InLab(lab, m))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.OK {
			t.Errorf("%s: %s", r.Name, r.Detail)
		}
	}
}

// Without the mesh every step must fail: one that passes proves nothing about the mesh.
func TestNoCheckHoldsWithoutTheMesh(t *testing.T) {
	lab := labtest.Up(t, "nomesh")
	results, err := demo.Run(context.WithoutCancel(t.Context()), demo.Config{Samples: "../../deploy/samples", Out: os.Stdout}.InLab(lab, nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(results) == 0 {
		t.Fatal("no check ran")
	}
	for _, r := range results {
		if r.OK {
			t.Errorf("held without the mesh: %s: %s", r.Name, r.Detail)
		}
	}
}
