// Package figure lists what is measured and turns the results of repeated runs into the report: a figure is a name, a job for
// the load generator and the values read from its result. Pure: the rig runs the jobs.
package figure

import (
	"time"

	"github.com/ambit-mesh/ambit/test/bench/load"
)

// Where says where client and server are.
type Where string

// The two places of a server, seen from the client.
const (
	CrossNode Where = "cross-node"
	SameNode  Where = "same-node"
)

// Value is one number of a result.
type Value struct {
	Name string // with its unit
	Read func(load.Result) float64
}

// Figure is one thing to measure on every path.
type Figure struct {
	Name   string
	Where  Where
	Job    load.Job // without its host
	Values []Value
}

// Sizes says how long to measure; benchmarks in a hurry use small ones and their figures are worth less.
type Sizes struct {
	Bytes    int64
	Duration time.Duration
}

// All lists the figures for both places.
func All(s Sizes) []Figure {
	var all []Figure
	for _, where := range []Where{CrossNode, SameNode} {
		for _, kind := range []load.Kind{load.KindUpload, load.KindDownload} {
			for _, streams := range []int{1, 16} {
				all = append(all, Figure{
					Name:   string(kind) + "/" + plural(streams, "stream"),
					Where:  where,
					Job:    load.Job{Kind: kind, Parallel: streams, Bytes: s.Bytes},
					Values: []Value{{"gbit_per_s", gbits}, {"cpu_s_per_gib", cpuPerGiB}},
				})
			}
		}
		for _, conns := range []int{1, 64} {
			all = append(all, Figure{
				Name:   "requests/" + plural(conns, "connection"),
				Where:  where,
				Job:    load.Job{Kind: load.KindRequests, Parallel: conns, Duration: s.Duration},
				Values: append([]Value{{"per_s", perSecond}, {"cpu_s_per_10k", cpuPer10k}}, latencies...),
			})
		}
		all = append(all, Figure{
			Name:   "requests/1000-per-s",
			Where:  where,
			Job:    load.Job{Kind: load.KindRate, Parallel: 16, Rate: 1000, Duration: s.Duration},
			Values: append([]Value{{"cpu_s_per_10k", cpuPer10k}}, latencies...),
		}, Figure{
			Name:   "connections/16-at-once",
			Where:  where,
			Job:    load.Job{Kind: load.KindConnections, Parallel: 16, Duration: s.Duration},
			Values: []Value{{"per_s", perSecond}, {"failed", failed}, {"cpu_s_per_10k", cpuPer10k}},
		})
	}
	return all
}

var latencies = []Value{
	{"p50_us", func(r load.Result) float64 { return micros(r.P50) }},
	{"p90_us", func(r load.Result) float64 { return micros(r.P90) }},
	{"p99_us", func(r load.Result) float64 { return micros(r.P99) }},
}

func gbits(r load.Result) float64     { return float64(r.Bytes) * 8 / 1e9 / r.Elapsed.Seconds() }
func cpuPerGiB(r load.Result) float64 { return r.CPU / (float64(r.Bytes) / (1 << 30)) }
func perSecond(r load.Result) float64 { return float64(r.Ops) / r.Elapsed.Seconds() }
func cpuPer10k(r load.Result) float64 { return r.CPU / float64(r.Ops) * 1e4 }
func failed(r load.Result) float64    { return float64(r.Failed) }
func micros(d time.Duration) float64  { return float64(d) / 1e3 }
