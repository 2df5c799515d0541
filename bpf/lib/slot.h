/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Slots bound the handshakes that the mesh has to remember. One is reserved in the connect or bind hook, the last place where
 * a socket can be refused, and freed when the connection is accepted (sockops), when the attempt fails (sockops), when the
 * socket is closed (sock_release) or connects elsewhere (connect); the agent sweeps what is still there after minutes.
 */
#ifndef AMBIT_SLOT_H
#define AMBIT_SLOT_H

#include "stats.h"

static __always_inline int slot_reserve(__u64 cookie, __u64 netns, __u32 kind)
{
	struct ambit_slot s = { .since_ns = bpf_ktime_get_ns(), .netns = netns, .kind = kind };

	return bpf_map_update_elem(&ambit_slots, &cookie, &s, BPF_ANY);
}

/* What a slot put into the other maps goes with it, unless a later connection of the same name has replaced it. */
static __always_inline void slot_free(__u64 cookie)
{
	struct ambit_slot *s = bpf_map_lookup_elem(&ambit_slots, &cookie);
	struct ambit_flow_key k = {};
	struct ambit_steer *steer;
	struct ambit_flow *flow;

	if (!s)
		return;
	k.netns = s->netns;
	k.tuple = s->tuple;
	if (k.tuple.src.port) {
		flow = bpf_map_lookup_elem(&ambit_flows, &k);
		if (flow && flow->slot == cookie)
			bpf_map_delete_elem(&ambit_flows, &k);
		steer = bpf_map_lookup_elem(&ambit_steers, &k.tuple);
		if (steer && steer->slot == cookie)
			bpf_map_delete_elem(&ambit_steers, &k.tuple);
	}
	bpf_map_delete_elem(&ambit_slots, &cookie);
}

#endif
