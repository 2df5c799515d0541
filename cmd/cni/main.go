// Command cni is the CNI plugin ambit-cni: it asks the node's agent before a pod starts. Package agent/cni does the work.
package main

import (
	"runtime/debug"

	"github.com/ambit-mesh/ambit/agent/cni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	build := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		build = info.Main.Version
	}
	skel.PluginMainFuncs(cni.Plugin(), version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"), "ambit-cni "+build)
}
