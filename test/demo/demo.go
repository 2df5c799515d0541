// Package demo answers: does the mesh keep its promises, on real programs? It is a list of checks, one promise per file;
// each check is a list of named steps, and each step observes something from outside the mesh (what a program got, what
// stands on the wire, in a server's log, in a metric) and says what it saw. Nothing is assumed: a step that holds without
// the mesh as well also looks for the mesh's trace, so that with the mesh off it fails.
//
// The `ambit demo` command and the lab tests call Run. Checks run one after another, in one lab. The same checks run on a
// real cluster: test/e2e gives them one as a Lab.
package demo

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Check is one promise to users.
type Check struct {
	ID    int
	Name  string
	Steps []Step
	// Prepare makes what the steps need; its failure fails every step.
	Prepare func(ctx context.Context, w *World) error
}

// Step is one observation of a check. It returns what it saw; an error says what it should have seen as well.
type Step struct {
	Name string
	Run  func(ctx context.Context, w *World) (saw string, err error)
}

// Result is one line of the report.
type Result struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Detail  string  `json:"detail"`
	Seconds float64 `json:"seconds"`
}

// Config says where and what to check.
type Config struct {
	Lab  Lab
	Mesh Mesh // nil: none runs, so that nearly nothing may hold
	// Enrol is false to run the checks with no namespace in the mesh: what then passes proves nothing.
	Enrol bool
	// Only lists the ids of the checks to run; empty is all.
	Only []int
	// Samples is the folder of sample manifests (deploy/samples).
	Samples string
	Out     io.Writer
	Log     *slog.Logger
}

// stepLimit ends a step that hangs.
const stepLimit = 2 * time.Minute

// Checks is the demo, in order.
func Checks() []Check {
	return []Check{
		acrossNodes(), services(), protocols(), peerAuthentication(), authorization(), revocation(),
		sameNode(), ipv6(), restarts(), rotation(), leaveAndJoin(), portRange(),
	}
}

// Run runs the checks and returns a result per step. The error is for what kept the checks from being run at all.
func Run(ctx context.Context, c Config) ([]Result, error) {
	w, err := Workloads(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("the demo's workloads: %w", err)
	}
	var results []Result
	for _, check := range Checks() {
		if len(c.Only) > 0 && !slices.Contains(c.Only, check.ID) {
			continue
		}
		fmt.Fprintf(c.Out, "\n%d. %s\n", check.ID, check.Name)
		var prepared error
		if check.Prepare != nil {
			prepared = check.Prepare(ctx, w)
		}
		for _, step := range check.Steps {
			if ctx.Err() != nil {
				return results, fmt.Errorf("interrupted: %w", ctx.Err())
			}
			result := runStep(ctx, w, check, step, prepared)
			results = append(results, result)
			mark := "ok  "
			if !result.OK {
				mark = "FAIL"
			}
			fmt.Fprintf(c.Out, "  %s %-42s %6.1fs  %s\n", mark, step.Name, result.Seconds, result.Detail)
		}
	}
	return results, nil
}

func runStep(ctx context.Context, w *World, check Check, step Step, prepared error) Result {
	result := Result{Name: fmt.Sprintf("%d. %s: %s", check.ID, check.Name, step.Name)}
	if prepared != nil {
		result.Detail = "could not be prepared: " + prepared.Error()
		return result
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	saw, err := step.Run(ctx, w)
	result.Seconds = float64(time.Since(begin).Milliseconds()) / 1000
	result.OK, result.Detail = err == nil, saw
	if err != nil {
		result.Detail = err.Error()
		if saw != "" {
			result.Detail = saw + "; but " + err.Error()
		}
	}
	result.Detail = strings.ReplaceAll(strings.TrimSpace(result.Detail), "\n", "; ") // one line for people
	return result
}
