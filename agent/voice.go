package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/agent/source"
)

// Timing of events on the node.
const (
	voicePeriod = 5 * time.Second  // between looks
	voiceAfter  = 15 * time.Second // what a start or a restart brings along passes by itself
	voiceAgain  = 30 * time.Minute // the API server forgets events after an hour
	lastWords   = 5 * time.Second  // for the API server to take the reason of an agent that ends
)

// Reasons of events on the node: a closed set.
const (
	reasonNotReady   = "MeshAgentNotReady"
	reasonFailedHere = "MeshAgentFailed" // the agent ended, and is started again
	reasonForeign    = "MeshForeignHooks"
	reasonOtherMesh  = "MeshOtherMesh"
	reasonRewritten  = "MeshCNIRewritten"
	reasonKubelet    = "MeshKubeletUnknown"
	reasonNoZtunnel  = "MeshNoZtunnel"
)

// nodeTrouble is something that people should do about this node, in words that stay the same while it does.
type nodeTrouble struct{ reason, message string }

// health is what the agent knows of its node's troubles.
type health struct {
	missing   []string // why it is not ready
	against   []string // programs of others that speak against enrolling pods
	meshes    []string // other meshes that take the pods
	rewritten string   // who fights for the CNI configuration
	kubelet   string   // why it is not identified
	unserved  int      // pods without a ztunnel, for longer than they can wait
}

// troubles says what is wrong, in the order of what follows from what.
func (h health) troubles() (list []nodeTrouble) {
	add := func(reason, format string, args ...any) {
		list = append(list, nodeTrouble{reason, fmt.Sprintf(format, args...)})
	}
	if len(h.missing) > 0 {
		add(reasonNotReady, "pods of this node cannot join the mesh yet; the agent waits for: %s", strings.Join(h.missing, ", "))
	}
	if len(h.against) > 0 {
		add(reasonForeign, "pods of this node cannot join the mesh: %s", strings.Join(h.against, "; "))
	}
	if len(h.meshes) > 0 {
		add(reasonOtherMesh, "pods of this node are left to another mesh: %s", strings.Join(h.meshes, "; "))
	}
	if h.rewritten != "" {
		add(reasonRewritten, "%s", h.rewritten)
	}
	if h.kubelet != "" {
		add(reasonKubelet, "probes of pods under STRICT fail, as the kubelet cannot be told from other processes: %s; name its process with "+
			"--kubelet-name (chart: agent.kubeletName)", h.kubelet)
	}
	if h.unserved > 0 {
		add(reasonNoZtunnel, "no ztunnel serves this node: new connections of its pods in the mesh are reset until one does; "+
			"see why its pod does not run (image, admission): kubectl get pods -A -l app=ambit-ztunnel -o wide")
	}
	return list
}

// voice tells those who look at the node (kubectl describe node) what is wrong with the mesh there. One goroutine uses it.
type voice struct {
	look  func() health
	warn  func(reason, message string)
	since map[nodeTrouble]time.Time
	told  map[nodeTrouble]time.Time
}

func (v *voice) run(ctx context.Context) error {
	ticker := time.NewTicker(voicePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			v.speak(now)
		}
	}
}

// speak tells what has lasted, and again what still does after a long time.
func (v *voice) speak(now time.Time) {
	since, told := map[nodeTrouble]time.Time{}, map[nodeTrouble]time.Time{}
	for _, t := range v.look().troubles() {
		since[t], told[t] = now, v.told[t]
		if began, before := v.since[t]; before {
			since[t] = began
		}
		if now.Sub(since[t]) >= voiceAfter && (told[t].IsZero() || now.Sub(told[t]) >= voiceAgain) {
			told[t] = now
			v.warn(t.reason, t.message)
		}
	}
	v.since, v.told = since, told
}

// lastWord tells the node why the agent ended, where anybody would look for it: its log goes with the container.
func lastWord(ctx context.Context, cfg *Config, why error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	client, err := source.Connect(cfg.Kubeconfig)
	if err == nil {
		err = source.TellNode(ctx, client, cfg.Node, reasonFailedHere, "pods of this node cannot join the mesh, others are not affected: the agent ended: "+why.Error())
	}
	if err != nil {
		cfg.Log.Warn("the node was not told why the agent ends", "err", err)
	}
}
