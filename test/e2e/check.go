package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Check is one promise to users.
type Check struct {
	Name  string
	Steps []Step
}

// Step is one observation, from outside the mesh. It returns what it saw; an error says what it should have seen.
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

// stepLimit ends a step that hangs.
const stepLimit = 4 * time.Minute

// checks in order: each finds the cluster as the one before left it.
func checks() []Check {
	return slices.Concat(
		[]Check{
			install(), join(), older(), optOut(), services(), statefulSet(), kubeSystem(), hostNetwork(), wire(), networkPolicy(),
			strict(), probes(), hooks(), newPods(), authorization(), restarts(),
		},
		demoChecks(),
		[]Check{agentGone(), reboot(), freshNode(), powerOff(), leave(), uninstall()}, // they take parts of the cluster away
	)
}

// run runs the checks whose numbers are in only, or all, and tells each result as it comes.
func run(ctx context.Context, w *World, only []int, out io.Writer) (results []Result, err error) {
	for i, check := range checks() {
		if len(only) > 0 && !slices.Contains(only, i+1) {
			continue
		}
		check.Name = fmt.Sprintf("%d. %s", i+1, check.Name)
		fmt.Fprintf(out, "\n%s\n", check.Name)
		for _, step := range check.Steps {
			if ctx.Err() != nil {
				return results, fmt.Errorf("interrupted: %w", ctx.Err())
			}
			r := runStep(ctx, w, check, step)
			results = append(results, r)
			mark := "ok  "
			if !r.OK {
				mark = "FAIL"
			}
			fmt.Fprintf(out, "  %s %-48s %6.1fs  %s\n", mark, step.Name, r.Seconds, r.Detail)
		}
	}
	return results, nil
}

func runStep(ctx context.Context, w *World, check Check, step Step) Result {
	r := Result{Name: check.Name + ": " + step.Name}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	saw, err := step.Run(ctx, w)
	r.Seconds = float64(time.Since(began).Milliseconds()) / 1000
	r.OK, r.Detail = err == nil, saw
	if err != nil {
		if r.Detail = err.Error(); saw != "" {
			r.Detail = saw + "; but " + err.Error()
		}
	}
	r.Detail = strings.ReplaceAll(strings.TrimSpace(r.Detail), "\n", "; ") // one line for people
	return r
}

// report writes the results for machines.
func report(path string, results []Result) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
