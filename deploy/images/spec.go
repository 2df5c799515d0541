package main

import (
	"fmt"
	"slices"
	"strings"
)

// spec is what one image holds and how it runs.
type spec struct {
	name     string
	title    string
	programs []program
	user     string // uid:gid; design: only the agent is root
}

// program is one static binary of the module.
type program struct {
	pkg  string // below the module's root
	path string // in the image
}

// specs are the product's images. The first program is the entry point.
var specs = []spec{
	{
		name: "agent", title: "Ambit node agent: eBPF, enrolment, sockets; with the CNI plugin", user: "0:0",
		programs: []program{{"cmd/agent", "/usr/local/bin/ambit-agent"}, {"cmd/cni", "/opt/cni/bin/ambit-cni"}},
	},
	{
		name: "ztunnel", title: "Ambit node proxy: mutual TLS, identity, L4 authorization", user: "1337:1337",
		programs: []program{{"cmd/ztunnel", "/usr/local/bin/ambit-ztunnel"}},
	},
	{
		name: "controller", title: "Ambit controller: Kubernetes objects in, configuration and certificates out", user: "1337:1337",
		programs: []program{{"cmd/controller", "/usr/local/bin/ambit-controller"}},
	},
}

// choose returns the images of these names, or all.
func choose(names []string) ([]spec, error) {
	if len(names) == 0 {
		return specs, nil
	}
	var out []spec
	for _, name := range names {
		i := slices.IndexFunc(specs, func(s spec) bool { return s.name == name })
		if i < 0 {
			var known []string
			for _, s := range specs {
				known = append(known, s.name)
			}
			return nil, fmt.Errorf("no image %q: want %s", name, strings.Join(known, ", "))
		}
		out = append(out, specs[i])
	}
	return out, nil
}
