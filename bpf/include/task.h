/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The few kernel fields we read of a process. CO-RE finds their real place on the running kernel (start_boottime: 5.5, thread_pid: 4.19). */
#ifndef AMBIT_TASK_H
#define AMBIT_TASK_H

#include "bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node {
	__u64 id;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct css_set {
	struct cgroup *dfl_cgrp;
};
struct ns_common {
	unsigned int inum;
};
struct pid_namespace {
	struct ns_common ns;
};
struct upid {
	int nr;
	struct pid_namespace *ns;
};
struct pid {
	unsigned int level;
	struct upid numbers[1];
};
struct task_struct {
	__u64 start_boottime;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct css_set *cgroups;
};
#pragma clang attribute pop

#endif
