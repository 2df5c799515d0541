//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The backstop: what leaves a pod's device from sockets that are not the mesh's. One program counts, the other drops too.
 * Attached with tcx, or to clsact before Linux 6.6. A packet socket with PACKET_QDISC_BYPASS is not seen here.
 */
#include "lib/license.h"
#include "lib/packet.h"
#include "lib/stats.h"
#include "lib/verdict.h"

#define NEXT -1 /* TCX_NEXT and TC_ACT_UNSPEC */
#define DROP 2  /* TCX_DROP and TC_ACT_SHOT */

static __always_inline void whose(struct __sk_buff *skb, struct ambit_packet *q)
{
	struct bpf_sock *sk = skb->sk, *full;
	struct ambit_own *own;

	if (!sk)
		return;
	full = bpf_sk_fullsock(sk);
	if (full) {
		q->socket = full->type == 1 && full->protocol == 6 ? AMBIT_SOCKET_STREAM : AMBIT_SOCKET_RAW;
	} else {
		q->socket = AMBIT_SOCKET_PARTIAL;
		full = bpf_get_listener_sock(sk); /* behind the request socket of a SYN-ACK */
		if (!full)
			return;
	}
	own = bpf_sk_storage_get(&ambit_own, full, 0, 0);
	if (own)
		q->role = own->role;
}

static __always_inline int judge(struct __sk_buff *skb, int strict)
{
	struct ambit_answer a = {};
	struct ambit_packet q = {};
	struct ambit_steer *steer;
	struct ambit_local *local;
	struct ambit_tuple t = {};

	if (!packet_is_ip(skb))
		return NEXT;
	packet_parse(skb, &q, &t);
	if (q.tcp || !q.parsed)
		whose(skb, &q);
	if (q.tcp && !role_is_mesh(q.role)) {
		steer = bpf_map_lookup_elem(&ambit_steers, &t);
		q.probe = steer && steer->kind == AMBIT_KIND_PROBE;
		local = bpf_map_lookup_elem(&ambit_locals, &t.dst.addr);
		if (local)
			q.flags = local->flags;
	}
	verdict_egress(&q, &a);
	count(a.outcome);
	if (a.verdict == AMBIT_PASS || !strict)
		return NEXT;
	count(AMBIT_OUT_EGRESS_DROPPED);
	return DROP;
}

SEC("tc")
int ambit_egress(struct __sk_buff *skb)
{
	return judge(skb, 0);
}

SEC("tc")
int ambit_strict(struct __sk_buff *skb)
{
	return judge(skb, 1);
}
