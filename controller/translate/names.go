package translate

import (
	"regexp"
	"strings"

	"github.com/ambit-mesh/ambit/controller/objects"
)

const labelWorkloadName = "service.istio.io/workload-name"

// cronJobRun is how a CronJob names its Jobs: its own name and the scheduled minute.
var cronJobRun = regexp.MustCompile(`^(.+)-\d{8,10}$`)

// podWorkloadName is what the pod's owner calls the workload: the Deployment, the CronJob, whatever controls it, or the pod.
func podWorkloadName(p *objects.CompactPod) string {
	if name := p.Labels[labelWorkloadName]; name != "" {
		return name
	}
	o := p.Owner
	if p.GenerateName == "" || o.Name == "" {
		return p.Name
	}
	switch o.Kind {
	case "ReplicaSet":
		for _, label := range []string{"pod-template-hash", "rollouts-pod-template-hash"} {
			if hash := p.Labels[label]; hash != "" && strings.HasSuffix(o.Name, "-"+hash) {
				return strings.TrimSuffix(o.Name, "-"+hash)
			}
		}
		return o.Name
	case "ReplicationController":
		return firstOf(p.Labels["deploymentconfig"], o.Name)
	case "Job":
		if m := cronJobRun.FindStringSubmatch(o.Name); m != nil {
			return m[1]
		}
		return o.Name
	default:
		return o.Name
	}
}
