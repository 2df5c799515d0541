package demo

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// Lab is where the checks run: the lab of test/netlab (InLab), or a real cluster (test/e2e). Nodes are called n1 and n2. What
// the words of package netlab mean there holds here: a Spec's Pod is namespace/name, and its program finds labprog and the
// machine's programs. Methods may be called concurrently.
type Lab interface {
	Objects
	Programs

	// Dir is a folder of the machine that programs in pods see at the same path.
	Dir() string
	// Capture has tcpdump write what passes a node's end of the wire to a file; it records when Capture returns.
	Capture(ctx context.Context, node, file string) (Program, error)
	// Questions counts what the cluster's DNS server was asked about a full name (without its last dot) by a client.
	Questions(ctx context.Context, name string, client netip.Addr) (int, error)
	// Probe has the kubelet probe a pod over HTTP, at the port that the pod's HTTPProbe names. HostProbe has another process of
	// the pod's node do the same.
	Probe(ctx context.Context, pod netlab.Pod) (netlab.Output, error)
	HostProbe(ctx context.Context, pod netlab.Pod) (netlab.Output, error)
}

// Objects are what the checks make and change, as users of a cluster do.
type Objects interface {
	// SetNamespace makes a namespace or sets its labels. Here and for pods, a label with an empty value is removed.
	SetNamespace(ctx context.Context, name string, labels map[string]string) error
	SetPodLabels(ctx context.Context, ref string, labels map[string]string) error
	// AddPods makes pods with their accounts. They run when it returns, with addresses, and no programs in them.
	AddPods(ctx context.Context, specs ...netlab.PodSpec) ([]netlab.Pod, error)
	DeletePod(ctx context.Context, ref string) error
	// SetReady waits until a pod with an HTTPProbe counts as ready or not, as its server answers the probe.
	SetReady(ctx context.Context, ref string, ready bool) error
	PutService(ctx context.Context, namespace, name string, selector map[string]string, ports map[int]int) (*corev1.Service, error)
	// Deploy makes what a folder of manifests says, with pods for its Deployments; label may change labels of namespaces.
	Deploy(ctx context.Context, dir string, label func(map[string]string)) ([]Deployed, error)
	// Apply makes the objects of a manifest, or changes them; Remove takes away what was applied under the name.
	Apply(ctx context.Context, name string, manifest []byte) error
	Remove(ctx context.Context, name string) error
}

// Deployed is a pod of a Deployment.
type Deployed struct {
	netlab.Pod
	Deployment string // namespace/name
	Ports      []corev1.ContainerPort
}

// Programs run in pods.
type Programs interface {
	// Exec runs a program to its end.
	Exec(ctx context.Context, spec netlab.Spec) (netlab.Output, error)
	// Start starts a program that stays, under its own name, and waits until it listens on a port.
	Start(ctx context.Context, spec netlab.Spec, port int) (Program, error)
	// LogText is what a program that was started has printed so far.
	LogText(name string) (string, error)
}

// Program is a program that was started.
type Program interface {
	// Stop sends a signal and waits for the program's end.
	Stop(ctx context.Context, sig unix.Signal, limit time.Duration) error
}

// Mesh is the mesh that runs in a Lab, what it says of itself, and its parts as things that can die. Names of parts are those
// of package mesh.
type Mesh interface {
	// CertTTL is how long workload certificates live.
	CertTTL() time.Duration
	// Metrics, ConfigDump and ZtunnelLog are of a node's ztunnel.
	Metrics(ctx context.Context, node string) (mesh.Metrics, error)
	ConfigDump(ctx context.Context, node string) (string, error)
	ZtunnelLog(ctx context.Context, node string) (string, error)
	// Why answers `ambit why` with these arguments for a node's ztunnel.
	Why(ctx context.Context, node string, args ...string) (string, error)
	// Links lists the kernel's ids of the links that keep programs attached.
	Links() ([]int, error)
	// Kill ends a part by SIGKILL; nothing starts it again before the Start functions do, which wait until it is ready.
	Kill(ctx context.Context, name string) error
	StartAgent(ctx context.Context, node string) error
	StartZtunnel(ctx context.Context, node string) error
	StartController(ctx context.Context) error
}
