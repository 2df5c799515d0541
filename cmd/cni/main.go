// Command cni is the CNI plugin ambit-cni: it asks the node's agent before a pod starts. Package agent/cni does the work.
package main

import (
	"github.com/ambit-mesh/ambit/agent/cni"
	"github.com/ambit-mesh/ambit/cmd/internal/release"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	v, _ := release.Version()
	skel.PluginMainFuncs(cni.Plugin(), version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"), "ambit-cni "+v)
}
