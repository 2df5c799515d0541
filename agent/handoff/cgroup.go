package handoff

import (
	"regexp"
	"strings"
)

// podSegment is a folder that the kubelet makes for a pod: pod<uid> with the cgroupfs driver, kubepods[-<class>]-pod<uid>.slice
// with systemd's, where the uid's dashes are underscores.
var podSegment = regexp.MustCompile(`^(?:[a-z0-9-]*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?$`)

// PodUID is the metadata.uid of the pod that a process belongs to, out of its cgroup's path. Of several the outermost counts:
// the kubelet made that one, while a container may make folders of any name within its own.
func PodUID(cgroup string) (uid string, ok bool) {
	for segment := range strings.SplitSeq(cgroup, "/") {
		if m := podSegment.FindStringSubmatch(segment); m != nil {
			return strings.ReplaceAll(m[1], "_", "-"), true
		}
	}
	return "", false
}
