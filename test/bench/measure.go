package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/ambit-mesh/ambit/test/bench/figure"
	"github.com/ambit-mesh/ambit/test/bench/stat"
)

type options struct {
	runs  int
	quick bool
	only  *regexp.Regexp
	out   string
}

// report is the file that a run leaves behind.
type report struct {
	When    time.Time    `json:"when"`
	Kernel  string       `json:"kernel"`
	Cores   int          `json:"cores"`
	Runs    int          `json:"runs"`
	Quick   bool         `json:"quick"`
	Figures []figure.Row `json:"figures"`
}

func measure(ctx context.Context, o options) (err error) {
	r, err := newRig(ctx)
	defer func() { err = errors.Join(err, r.down()) }()
	if err != nil {
		return err
	}
	sizes := figure.Sizes{Bytes: 1 << 30, Duration: 2 * time.Second}
	if o.quick {
		sizes = figure.Sizes{Bytes: 64 << 20, Duration: 300 * time.Millisecond}
	}
	figure.Header(os.Stdout)
	rows, err := r.traffic(ctx, o, figure.All(sizes))
	if err != nil {
		return err
	}
	for _, more := range []func(context.Context, options) ([]figure.Row, error){r.idle, r.known} {
		measured, err := more(ctx, o)
		rows = append(rows, measured...)
		if err != nil {
			return errors.Join(err, write(o, rows)) // what has been measured is not lost
		}
	}
	return write(o, rows)
}

// traffic measures each figure o.runs times on each path, the paths taking turns so that what drifts on the machine
// drifts for all of them.
func (r *rig) traffic(ctx context.Context, o options, figures []figure.Figure) ([]figure.Row, error) {
	var rows []figure.Row
	for _, f := range figures {
		if !o.only.MatchString(string(f.Where) + "/" + f.Name) {
			continue
		}
		runs := make([]map[figure.Path]stat.Series, len(f.Values))
		for i := range runs {
			runs[i] = map[figure.Path]stat.Series{}
		}
		for range o.runs {
			for _, path := range figure.Paths() {
				result, err := r.run(ctx, path, f.Where, f.Job)
				if err != nil {
					return rows, fmt.Errorf("%s %s on %s: %w", f.Where, f.Name, path, err)
				}
				for i, v := range f.Values {
					runs[i][path] = append(runs[i][path], v.Read(result))
				}
			}
		}
		for i, v := range f.Values {
			row := figure.NewRow(f.Name, f.Where, v.Name, runs[i])
			row.Print(os.Stdout)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func write(o options, rows []figure.Row) error {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(report{
		When: time.Now(), Kernel: string(kernel[:len(kernel)-1]), Cores: runtime.NumCPU(), Runs: o.runs, Quick: o.quick, Figures: rows,
	}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(o.out, "report.json")
	fmt.Println("written to", path)
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
