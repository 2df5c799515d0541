package check

import (
	"fmt"
	"slices"
	"strings"
)

// facts are what was read of a cluster.
type facts struct {
	version    string
	nodes      []node
	resources  []string // of the API server, as resource.group
	daemonSets []string // namespace/name
	cilium     map[string]string
	namespaces []namespace
	own        []container // of the mesh, that do not run
	complaints []string    // of the mesh's agents about their nodes, the newest of each reason and node
	unread     []string    // what could not be read, and why
}

type node struct{ name, os, kernel string }

type namespace struct {
	name                string
	labels, annotations map[string]string
}

// container is one that does not run, and what the kubelet says of it.
type container struct{ pod, reason, message string }

// finding is something to know; must: before the mesh can work.
type finding struct {
	must     bool
	what, do string
}

// Oldest kernel that has every required feature, and the releases that a test of this product has booted.
const (
	oldestMajor, oldestMinor = 5, 15
	tried                    = "6.1, 6.12 and 6.18"
)

// definitions that users of the mesh write; without them the mesh works, and nobody can configure it.
var definitions = []string{
	"authorizationpolicies.security.istio.io", "peerauthentications.security.istio.io", "serviceentries.networking.istio.io",
	"workloadentries.networking.istio.io", "gateways.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io",
}

// otherMeshes by the DaemonSets that their agents are, with what follows.
var otherMeshes = map[string]string{
	"istio-cni-node": "if it is in ambient mode, pods of the same label are left to it; uninstall Istio's charts cni and ztunnel, and they join this mesh",
	"linkerd-cni":    "pods with Linkerd's proxy are left alone; restart them without injection to bring them in",
	"kmesh":          "label no namespace for both; uninstall it where this mesh takes over",
}

// judge says what is to know about a cluster.
func judge(f facts) (list []finding) {
	problem := func(do, format string, args ...any) {
		list = append(list, finding{true, oneLine(fmt.Sprintf(format, args...)), do})
	}
	note := func(do, format string, args ...any) {
		list = append(list, finding{false, oneLine(fmt.Sprintf(format, args...)), do})
	}
	for _, n := range f.nodes {
		var major, minor int
		switch _, err := fmt.Sscanf(n.kernel, "%d.%d", &major, &minor); {
		case n.os != "linux":
			note("the mesh runs on Linux; pods there stay outside", "node %s runs %s", n.name, n.os)
		case err != nil:
			note("Linux "+tried+" have been tried", "node %s has kernel %q, of which nothing is known", n.name, n.kernel)
		case major < oldestMajor || major == oldestMajor && minor < oldestMinor:
			problem(fmt.Sprintf("Linux %d.%d or newer is needed (%s have been tried); pods there stay outside the mesh", oldestMajor, oldestMinor, tried),
				"node %s has Linux %s", n.name, n.kernel)
		case major < 6 || major == 6 && minor < 1:
			note("it has what is needed by its number; Linux "+tried+" have been tried", "node %s has Linux %s", n.name, n.kernel)
		}
	}
	for _, d := range f.daemonSets {
		_, name, _ := strings.Cut(d, "/")
		if follows, known := otherMeshes[name]; known {
			note(follows, "DaemonSet %s of another mesh is here", d)
		}
	}
	if len(f.cilium) > 0 {
		if balances(f.cilium) {
			problem("set socketLB.hostNamespaceOnly=true in Cilium's values; then install with agent.allowForeignHooks=true",
				"Cilium balances Services in the pods' sockets: no pod could join the mesh")
		}
		if f.cilium["cni-exclusive"] != "false" {
			problem("set cni.exclusive=false in Cilium's values", "Cilium takes other plugins out of the nodes' CNI configuration")
		}
	}
	for _, d := range definitions {
		if len(f.resources) > 0 && !slices.Contains(f.resources, d) {
			note("install crds.yaml of the chart; nothing needs a restart", "resource %s is not installed", d)
		}
	}
	for _, n := range f.namespaces {
		if n.labels["istio.io/dataplane-mode"] != "ambient" {
			continue
		}
		for _, injected := range []bool{n.labels["istio-injection"] == "enabled", n.labels["istio.io/rev"] != "", n.annotations["linkerd.io/inject"] == "enabled"} {
			if injected {
				note("pods that get a sidecar stay outside; take the injection's label or annotation off", "namespace %s asks for this mesh and for sidecars", n.name)
				break
			}
		}
	}
	for _, c := range f.own {
		problem(remedy(c.reason), "pod %s: %s: %s", c.pod, c.reason, c.message)
	}
	for _, c := range f.complaints {
		note("said by the node's agent within the last hour; kubectl describe node tells whether it still says so", "%s", c)
	}
	for _, u := range f.unread {
		note("what depends on it is not checked", "%s", u)
	}
	return list
}

// balances reads Cilium's ConfigMap: socket load balancing is on by itself or as part of kube-proxy's replacement, and reaches
// into pods unless it is told not to.
func balances(cilium map[string]string) bool {
	on := cilium["bpf-lb-sock"] == "true" || cilium["kube-proxy-replacement"] == "true" || cilium["kube-proxy-replacement"] == "strict"
	return on && cilium["bpf-lb-sock-hostns-only"] != "true"
}

func remedy(reason string) string {
	switch reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
		return "is the image there? hub and tag of the chart say where, imagePullSecrets with whose rights"
	case "Unschedulable", "Pending":
		return "kubectl describe pod says what the scheduler waits for"
	default:
		return "kubectl describe pod and kubectl logs --previous say more"
	}
}

// oneLine keeps words of others from moving the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.TrimSpace(s))
}
