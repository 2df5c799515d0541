package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/bench/stat"
)

// row is one figure at one size: the same measurement of several runs.
type row struct {
	Pods   int         `json:"pods"`
	Figure string      `json:"figure"`
	Unit   string      `json:"unit"`
	Runs   stat.Series `json:"runs"`
	Median float64     `json:"median"`
	Spread float64     `json:"spread"` // (max - min) / median
	Aim    float64     `json:"aim,omitempty"`
	Met    *bool       `json:"met,omitempty"` // the median is below the aim
}

type report struct {
	When    time.Time `json:"when"`
	Kernel  string    `json:"kernel"`
	Cores   int       `json:"cores"`
	Load    string    `json:"load_average_before"`
	Runs    int       `json:"runs"`
	Window  string    `json:"window"`
	Figures []*row    `json:"figures"`
}

func newReport(o options) *report {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(b))
	}
	return &report{
		When: time.Now(), Kernel: read("/proc/sys/kernel/osrelease"), Cores: runtime.NumCPU(), Load: read("/proc/loadavg"), Runs: o.runs, Window: o.window.String(),
	}
}

// aim is what the figure should be below, at that size; 0 where none is set.
func aim(pods int, figure string) float64 {
	bySize := func(at30k, at50k float64) float64 {
		switch {
		case pods <= 30_000:
			return at30k
		case pods <= 50_000:
			return at50k
		default:
			return 0
		}
	}
	switch figure {
	case "start/ready":
		return bySize(4, 0)
	case "start/resident":
		return bySize(250, 400)
	case "sync/50-clients/added":
		return 100
	case "change/50-clients/20-per-s/p99":
		return 50
	case "change/50-clients/20-per-s/max":
		return 250
	case "change/1-client/lone/p50", "change/50-clients/lone/p50":
		return 15
	case "reconnect/cpu-per-client":
		return 5
	default:
		return 0
	}
}

func (r *report) add(pods int, figure, unit string, v float64) {
	i := slices.IndexFunc(r.Figures, func(f *row) bool { return f.Pods == pods && f.Figure == figure })
	if i < 0 {
		r.Figures = append(r.Figures, &row{Pods: pods, Figure: figure, Unit: unit, Aim: aim(pods, figure)})
		i = len(r.Figures) - 1
	}
	f := r.Figures[i]
	f.Runs = append(f.Runs, v)
	f.Median, f.Spread = f.Runs.Median(), f.Runs.Spread()
	if f.Aim > 0 {
		met := f.Median < f.Aim
		f.Met = &met
	}
}

// print writes the medians for people: a line per figure, a column per size.
func (r *report) print(w io.Writer) {
	var sizes []int
	var names []string
	cells := map[string]map[int]*row{}
	for _, f := range r.Figures {
		if !slices.Contains(sizes, f.Pods) {
			sizes = append(sizes, f.Pods)
		}
		if cells[f.Figure] == nil {
			cells[f.Figure] = map[int]*row{}
			names = append(names, f.Figure)
		}
		cells[f.Figure][f.Pods] = f
	}
	fmt.Fprintf(w, "%-36s %-6s", "median of "+fmt.Sprint(r.Runs), "pods:")
	for _, n := range sizes {
		fmt.Fprintf(w, " %12d", n)
	}
	fmt.Fprintln(w, "   aim")
	for _, name := range names {
		line, limit := "", ""
		var unit string
		for _, n := range sizes {
			f := cells[name][n]
			if f == nil {
				line += fmt.Sprintf(" %12s", "-")
				continue
			}
			mark := " "
			if f.Met != nil && !*f.Met {
				mark = "!"
			}
			line += fmt.Sprintf(" %11.4g%s", f.Median, mark)
			unit = f.Unit
			if f.Aim > 0 && !strings.HasSuffix(limit, fmt.Sprintf("< %g", f.Aim)) {
				limit += fmt.Sprintf(" < %g", f.Aim)
			}
		}
		fmt.Fprintf(w, "%-36s %-6s%s  %s\n", name, unit, line, limit)
	}
}

func (r *report) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	fmt.Println("written to", path)
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
