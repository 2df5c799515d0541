// Package baggage answers: what do the two ends of a tunnel tell each other about their workloads? It turns a workload of
// the snapshot into the baggage of a CONNECT, and received baggage into what metrics show. Nothing decides by it: it is a
// claim. Pure; inbound and outbound call it.
package baggage

import (
	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/state"
	"github.com/ambit-mesh/ambit/ztunnel/telemetry"
)

// Of describes a workload; nil is nothing.
func Of(w *state.Workload) hbone.Baggage {
	if w == nil {
		return hbone.Baggage{}
	}
	return hbone.Baggage{
		Cluster: w.ClusterID, Namespace: w.Namespace, Type: kind(w.Kind), Workload: w.WorkloadName(),
		Service: w.CanonicalName, Version: w.CanonicalRevision, Region: w.Region, Zone: w.Zone,
	}
}

// kind is the word in the key that names the workload (ztunnel.md 2.3).
func kind(k state.Kind) string {
	switch k {
	case state.KindDeployment:
		return "deployment"
	case state.KindCronJob:
		return "cronjob"
	case state.KindJob:
		return "job"
	default:
		return "pod"
	}
}

// maxValue bounds what a peer may put into a label, in bytes: the longest name that Kubernetes knows.
const maxValue = 253

// End is what baggage says for metrics; the principal is for the caller to set. Istio's reading: the application label is
// the workload's name.
func End(b *hbone.Baggage) telemetry.End {
	return telemetry.End{
		Workload: cut(b.Workload), Namespace: cut(b.Namespace), CanonicalService: cut(b.Service), CanonicalRevision: cut(b.Version),
		App: cut(b.Workload), Cluster: cut(b.Cluster), Region: cut(b.Region), Zone: cut(b.Zone),
	}
}

func cut(s string) string { return s[:min(len(s), maxValue)] }
