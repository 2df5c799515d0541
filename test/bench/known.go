package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/bench/figure"
	"github.com/ambit-mesh/ambit/test/bench/stat"
	"github.com/ambit-mesh/ambit/test/netlab"
)

// known measures a ztunnel's resident anonymous memory with n workloads of other nodes known to it, in MiB: a fresh process
// that learned all of them from the controller.
func (r *rig) known(ctx context.Context, o options) ([]figure.Row, error) {
	sizes := []int{1000, 10000, 100000}
	if o.quick {
		sizes = []int{1000}
	}
	var rows []figure.Row
	for _, n := range sizes {
		name := "known/" + strconv.Itoa(n) + "-workloads"
		if !o.only.MatchString(name) {
			continue
		}
		if err := r.lab.Apply("crowd.yaml", crowd(n)); err != nil {
			return nil, err
		}
		var seen stat.Series
		for range o.runs {
			m, err := r.knowing(ctx, n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			seen = append(seen, m)
		}
		row := figure.NewRow(name, "", "mib", map[figure.Path]stat.Series{figure.Ambit: seen})
		row.Print(os.Stdout)
		rows = append(rows, row)
	}
	return rows, r.lab.Remove("crowd.yaml")
}

func (r *rig) knowing(ctx context.Context, n int) (float64, error) {
	name, err := r.freshProxy(ctx, figure.Ambit, "outbound", "n1")
	if err != nil {
		return 0, err
	}
	err = netlab.Poll(ctx, 3*time.Minute, func() error {
		m, err := r.mesh.Metrics(ctx, "n1")
		if err != nil {
			return err
		}
		if got := m.Sum("ambit_ztunnel_known_workloads", nil); int(got) < n {
			return fmt.Errorf("the ztunnel knows %v of %d workloads", got, n)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	p, err := r.lab.Process(name)
	if err != nil {
		return 0, err
	}
	bytes, err := stat.Memory(p.PID)
	return float64(bytes) / (1 << 20), err
}

// crowd is a manifest of n pods on a node that does not run, ten to a service account, as a large cluster has them.
func crowd(n int) []byte {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Namespace\nmetadata: {name: crowd, labels: {istio.io/dataplane-mode: ambient}}\n")
	for i := range n {
		fmt.Fprintf(&b, `---
{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"crowd","name":"app-%[1]d-%[2]d","uid":"crowd-%[3]d","labels":{"app":"app-%[1]d"},
"annotations":{"ambient.istio.io/redirection":"enabled"}},
"spec":{"nodeName":"crowd-%[4]d","serviceAccountName":"app-%[1]d","containers":[{"name":"app","image":"app"}]},
"status":{"phase":"Running","podIP":"%[5]s","podIPs":[{"ip":"%[5]s"}],"conditions":[{"type":"Ready","status":"True"}]}}
`, i/10, i%10, i, i/100, fmt.Sprintf("10.%d.%d.%d", 128+i>>16, i>>8&255, i&255))
	}
	return []byte(b.String())
}
