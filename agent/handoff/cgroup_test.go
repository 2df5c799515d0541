package handoff

import "testing"

func TestPodUID(t *testing.T) {
	const uid, other = "3f0c7cf1-8a34-4a7e-9a41-0a4be1f7a0c5", "11111111-2222-3333-4444-555555555555"
	const systemd = "3f0c7cf1_8a34_4a7e_9a41_0a4be1f7a0c5"
	for _, tc := range []struct{ name, cgroup, want string }{
		{"cgroupfs, guaranteed", "/kubepods/pod" + uid + "/0123abcd", uid},
		{"cgroupfs, burstable", "/kubepods/burstable/pod" + uid + "/0123abcd", uid},
		{"no QoS folders", "/pod" + uid + "/0123abcd", uid},
		{"systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + systemd + ".slice/cri-containerd-01ab.scope", uid},
		{"systemd, guaranteed, CRI-O", "/kubepods.slice/kubepods-pod" + systemd + ".slice/crio-01ab.scope", uid},
		{"a node in a container", "/docker/77aa/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + systemd + ".slice/cri-containerd-01ab.scope", uid},
		{"seen from another cgroup namespace", "/../../pod" + uid + "/0123abcd", uid},
		{"a container calls a folder of its own like another pod", "/kubepods/pod" + other + "/0123/pod" + uid, other},
		{"no pod", "/system.slice/ssh.service", ""},
		{"the root", "/", ""},
		{"nothing", "", ""},
		{"a name that only looks like it", "/kubepods/podium-" + uid, ""},
		{"too short", "/kubepods/pod3f0c7cf1-8a34/x", ""},
		{"something behind the uid", "/kubepods/pod" + uid + "x/0123", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := PodUID(tc.cgroup)
			if got != tc.want || ok != (tc.want != "") {
				t.Errorf("got %q, %v; want %q", got, ok, tc.want)
			}
		})
	}
}
