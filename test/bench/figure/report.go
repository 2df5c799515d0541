package figure

import (
	"fmt"
	"io"
	"strconv"

	"github.com/ambit-mesh/ambit/test/bench/stat"
)

// Path is one way from client to server.
type Path string

// The paths of every run.
const (
	NoMesh Path = "no-mesh"
	Floor  Path = "floor"
	Ambit  Path = "ambit"
)

// Paths lists them in the order in which a run takes them.
func Paths() []Path { return []Path{NoMesh, Floor, Ambit} }

// Row is one value of one figure: a series for each path, and what they say.
type Row struct {
	Figure   string               `json:"figure"`
	Where    Where                `json:"where"`
	Value    string               `json:"value"`
	Runs     map[Path]stat.Series `json:"runs"`
	Median   map[Path]float64     `json:"median"`
	Spread   map[Path]float64     `json:"spread"` // (max - min) / median
	ToNoMesh float64              `json:"to_no_mesh,omitempty"`
	ToFloor  float64              `json:"to_floor,omitempty"`
}

// NewRow computes medians, spreads and Ambit's ratios.
func NewRow(figure string, where Where, value string, runs map[Path]stat.Series) Row {
	r := Row{
		Figure: figure, Where: where, Value: value, Runs: runs,
		Median: map[Path]float64{}, Spread: map[Path]float64{},
		ToNoMesh: stat.Ratio(runs[Ambit], runs[NoMesh]),
		ToFloor:  stat.Ratio(runs[Ambit], runs[Floor]),
	}
	for p, s := range runs {
		r.Median[p], r.Spread[p] = s.Median(), s.Spread()
	}
	return r
}

// Header names the columns of Print.
func Header(w io.Writer) {
	fmt.Fprintf(w, "%-10s  %-24s %-14s %11s %11s %11s %9s %8s\n", "where", "figure", "value", NoMesh, Floor, Ambit, "/no-mesh", "/floor")
}

// Print writes the row for people.
func (r Row) Print(w io.Writer) {
	fmt.Fprintf(w, "%-10s  %-24s %-14s %11s %11s %11s %9.2f %8.2f\n", r.Where, r.Figure, r.Value,
		r.cell(NoMesh), r.cell(Floor), r.cell(Ambit), r.ToNoMesh, r.ToFloor)
}

func (r Row) cell(p Path) string {
	if len(r.Runs[p]) == 0 {
		return "-"
	}
	return strconv.FormatFloat(r.Median[p], 'g', 5, 64)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1-" + what
	}
	return strconv.Itoa(n) + "-" + what + "s"
}
