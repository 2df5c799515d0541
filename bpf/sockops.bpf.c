//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * TCP's own events: TCP_CONNECT_CB, before the SYN leaves, puts what the accepting side must know where it can find it;
 * PASSIVE_ESTABLISHED_CB takes it. Attached to the cgroup root.
 */
#include "lib/ctx.h"
#include "lib/license.h"
#include "lib/probe.h"
#include "lib/slot.h"
#include "lib/verdict.h"

static __always_inline void ends(struct bpf_sock_ops *c, struct ambit_end *local, struct ambit_end *remote)
{
	local->port = CTX_READ(c, local_port);
	remote->port = bpf_ntohl(CTX_READ(c, remote_port));
	if (CTX_READ(c, family) == 2) {
		local->addr = addr_v4(CTX_READ(c, local_ip4));
		remote->addr = addr_v4(CTX_READ(c, remote_ip4));
	} else {
		local->addr = CTX_READ_ADDR(c, local_ip6);
		remote->addr = CTX_READ_ADDR(c, remote_ip6);
	}
}

/* The slot's entries in the other two maps. They are as large as the slots are many, so this cannot fail for want of room. */
static __always_inline void list(struct bpf_sock_ops *c, __u64 cookie, struct ambit_slot *s, const struct ambit_tuple *t,
				 const struct ambit_end *carry)
{
	struct ambit_steer steer = { .slot = cookie, .since_ns = bpf_ktime_get_ns(), .kind = s->kind };
	struct ambit_flow flow = { .slot = cookie };
	struct ambit_flow_key k = { .netns = s->netns, .tuple = *t };
	long err = 0;

	s->tuple = *t;
	if (carry) {
		flow.end = *carry;
		err |= bpf_map_update_elem(&ambit_flows, &k, &flow, BPF_ANY);
	}
	if (s->kind != AMBIT_KIND_PRESENT)
		err |= bpf_map_update_elem(&ambit_steers, t, &steer, BPF_ANY);
	if (err)
		count(AMBIT_OUT_ADDRESS_LOST);
	bpf_sock_ops_cb_flags_set(c, CTX_READ(c, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void on_connecting(struct bpf_sock_ops *c, struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(c), netns;
	struct ambit_slot *s = bpf_map_lookup_elem(&ambit_slots, &cookie);
	struct ambit_tuple t = {};
	struct ambit_seen *seen;
	struct ambit_own *own;

	ends(c, &t.src, &t.dst);
	if (!s) {
		netns = bpf_get_netns_cookie(c);
		if (!probe_is_declared(netns, &t.dst))
			return;
		if (!probe_is_kubelet()) {
			count(AMBIT_OUT_PROBE_STRANGER);
			return;
		}
		if (slot_reserve(cookie, netns, AMBIT_KIND_PROBE)) {
			count(AMBIT_OUT_PROBE_FULL);
			return;
		}
		s = bpf_map_lookup_elem(&ambit_slots, &cookie);
		if (s) {
			list(c, cookie, s, &t, 0);
			count(AMBIT_OUT_PROBE_ADMITTED);
		}
		return;
	}
	if (s->kind == AMBIT_KIND_PRESENT) {
		own = bpf_sk_storage_get(&ambit_own, sk, 0, 0);
		if (own)
			list(c, cookie, s, &t, &own->present);
		return;
	}
	seen = bpf_sk_storage_get(&ambit_seen, sk, 0, 0);
	if (seen)
		list(c, cookie, s, &t, &seen->end);
}

/* Accepted by the mesh without an original destination: getsockname answers an address of zeros, and the ztunnel resets it. */
static __always_inline void mark(struct bpf_sock *sk)
{
	struct ambit_seen none = { .marked = 1 };

	bpf_sk_storage_get(&ambit_seen, sk, &none, BPF_SK_STORAGE_GET_F_CREATE);
	count(AMBIT_OUT_ADDRESS_MISSING);
}

static __always_inline void on_accepted(struct bpf_sock_ops *c, struct bpf_sock *sk)
{
	struct ambit_own *own = bpf_sk_storage_get(&ambit_own, sk, 0, 0), bypassed = { .role = AMBIT_ROLE_BYPASSED };
	struct ambit_flow_key k = { .netns = bpf_get_netns_cookie(c) };
	struct ambit_seen seen = {};
	struct ambit_flow *flow;
	struct ambit_pod *pod;
	__u64 slot;

	ends(c, &k.tuple.dst, &k.tuple.src);
	flow = bpf_map_lookup_elem(&ambit_flows, &k);
	if (flow) {
		seen.end = flow->end;
		slot = flow->slot;
		if (bpf_sk_storage_get(&ambit_seen, sk, &seen, BPF_SK_STORAGE_GET_F_CREATE))
			count(AMBIT_OUT_ADDRESS_CARRIED);
		else
			count(AMBIT_OUT_ADDRESS_LOST);
		slot_free(slot);
		return;
	}
	if (own) {
		if (own->role == AMBIT_ROLE_OUTBOUND || own->role == AMBIT_ROLE_DNS)
			mark(sk);
		return;
	}
	pod = bpf_map_lookup_elem(&ambit_pods, &k.netns);
	if (pod && (pod->flags & AMBIT_POD_BYPASS_INBOUND))
		bpf_sk_storage_get(&ambit_own, sk, &bypassed, BPF_SK_STORAGE_GET_F_CREATE);
}

SEC("sockops")
int ambit_sockops(struct bpf_sock_ops *c)
{
	struct bpf_sock *sk = c->sk;

	if (!sk)
		return 1;
	switch (CTX_READ(c, op)) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connecting(c, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_accepted(c, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (CTX_READ(c, args[1]) == BPF_TCP_CLOSE)
			slot_free(bpf_get_socket_cookie(c));
		break;
	}
	return 1;
}
