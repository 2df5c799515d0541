package main

import (
	"fmt"
	"strings"
)

// Plan says who is who in a cluster: a pure function of three numbers, so that any program can find a running one. Clusters
// of different numbers share nothing and run side by side.
type Plan struct {
	Number int // 0 to 99
	Dual   bool
	Nodes  []Node
}

// Node is a network, mount, pid, UTS, IPC and cgroup namespace with a kubelet in it.
type Node struct {
	Name   string
	IPs    []string // IPv4, then IPv6 with Dual
	Ranges []string // of pod addresses, in the same order
}

func newPlan(number, nodes int, dual bool) (Plan, error) {
	if number < 0 || number > 99 || nodes < 1 || nodes > 9 {
		return Plan{}, fmt.Errorf("cluster %d with %d nodes: want a number of 0 to 99 and 1 to 9 nodes", number, nodes)
	}
	p := Plan{Number: number, Dual: dual}
	for i := 1; i <= nodes; i++ {
		p.Nodes = append(p.Nodes, Node{
			Name:   fmt.Sprintf("n%d", i),
			IPs:    p.families(fmt.Sprintf("10.99.%d.%d", number, 10+i), fmt.Sprintf("fd00:99:%d::%d", number, 10+i)),
			Ranges: p.families(fmt.Sprintf("10.%d.%d.0/24", 100+number, i), fmt.Sprintf("fd00:100:%d:%d::/64", number, i)),
		})
	}
	return p, nil
}

// families keeps the first of two, or both.
func (p Plan) families(v4, v6 string) []string {
	if p.Dual {
		return []string{v4, v6}
	}
	return []string{v4}
}

// name is of the bridge and of the control groups; a link's name has at most 15 characters.
func (p Plan) name() string { return fmt.Sprintf("ambit-c%d", p.Number) }

// gateway is the machine's end of the bridge, where the API server listens.
func (p Plan) gateway() []string {
	return p.families(fmt.Sprintf("10.99.%d.1", p.Number), fmt.Sprintf("fd00:99:%d::1", p.Number))
}

// prefix is the length of the node network's prefix, by family.
func (p Plan) prefix(family int) int { return []int{24, 64}[family] }

func (p Plan) podRange() string {
	return strings.Join(p.families(fmt.Sprintf("10.%d.0.0/16", 100+p.Number), fmt.Sprintf("fd00:100:%d::/48", p.Number)), ",")
}

func (p Plan) serviceRange() string {
	return strings.Join(p.families("10.96.0.0/16", "fd00:96::/112"), ",")
}

const (
	apiService = "10.96.0.1"  // Service kubernetes
	dnsService = "10.96.0.10" // Service kube-dns
)

// balancerAddress is the i-th address for Services of type LoadBalancer; the machine routes them to the first node.
func (p Plan) balancerAddress(i int) string { return fmt.Sprintf("10.98.%d.%d", p.Number, i) }

func (p Plan) balancerRange() string { return fmt.Sprintf("10.98.%d.0/24", p.Number) }
