/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Kubelet's probes: recognised where they connect, by process and namespace, and only to ports that the pod declares. The
 * process is read from the task itself: the helpers that would tell came to sockops at different times (6.1, 6.10).
 */
#ifndef AMBIT_PROBE_H
#define AMBIT_PROBE_H



#include "include/task.h"
#include <bpf/bpf_core_read.h>
#include "maps.h"

static __always_inline int probe_is_declared(__u64 netns, const struct ambit_end *dst)
{
	__u32 zero = 0;
	struct ambit_kubelet *k = bpf_map_lookup_elem(&ambit_kubelet, &zero);

	return k && k->netns && k->netns == netns && bpf_map_lookup_elem(&ambit_probes, dst);
}

/* The process's number in the innermost namespace that it has one in, and that namespace: as the agent sees both. */
static __always_inline int probe_is_process(struct task_struct *task, const struct ambit_kubelet *k)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);

	return BPF_CORE_READ(pid, numbers[level].nr) == k->pid && BPF_CORE_READ(pid, numbers[level].ns, ns.inum) == k->pidns &&
	       BPF_CORE_READ(leader, start_boottime) / 10000000 == k->start;
}

static __always_inline int probe_is_kubelet(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 zero = 0;
	struct ambit_kubelet *k = bpf_map_lookup_elem(&ambit_kubelet, &zero);

	if (!k || !(k->cgroup | k->pid)) /* kubelet was not found: nobody */
		return 0;
	if (k->cgroup && BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id) != k->cgroup)
		return 0;
	if (k->pid && !probe_is_process(task, k))
		return 0;
	return 1;
}

#endif
