//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Which listener a SYN meets. Attached to each enrolled pod's network namespace; one program for all pods of an agent. */
#include "lib/ctx.h"
#include "lib/license.h"
#include "lib/stats.h"
#include "lib/verdict.h"

/* A probe's SYN may be sent again, and cookies look up its ACK once more; later its connection is found without us. */
#define PROBE_NS (60 * 1000000000ULL)

SEC("sk_lookup")
int ambit_sk_lookup(struct bpf_sk_lookup *c)
{
	struct ambit_listener key = {};
	struct ambit_answer a = {};
	struct ambit_syn q = {};
	struct ambit_steer *steer;
	struct ambit_local *local;
	struct bpf_sock *sk;
	long err;

	if (c->protocol != 6)
		return SK_PASS;
	if (CTX_READ(c, family) == 2) {
		q.tuple.src.addr = addr_v4(CTX_READ(c, remote_ip4));
		q.tuple.dst.addr = addr_v4(CTX_READ(c, local_ip4));
	} else {
		q.tuple.src.addr = CTX_READ_ADDR(c, remote_ip6);
		q.tuple.dst.addr = CTX_READ_ADDR(c, local_ip6);
	}
	q.tuple.src.port = bpf_ntohs(c->remote_port);
	q.tuple.dst.port = CTX_READ(c, local_port);

	steer = bpf_map_lookup_elem(&ambit_steers, &q.tuple);
	if (steer && (steer->kind != AMBIT_KIND_PROBE || bpf_ktime_get_ns() - steer->since_ns < PROBE_NS))
		q.kind = steer->kind;
	local = bpf_map_lookup_elem(&ambit_locals, &q.tuple.dst.addr);
	if (local)
		q.flags = local->flags;

	verdict_lookup(&q, &a);
	if (a.verdict == AMBIT_PASS) {
		count(a.outcome);
		return SK_PASS;
	}
	if (a.verdict != AMBIT_LISTENER) {
		count(a.outcome);
		return SK_DROP;
	}
	key.addr = q.tuple.dst.addr;
	key.role = a.role;
	sk = bpf_map_lookup_elem(&ambit_listeners, &key);
	if (!sk) {
		count(AMBIT_OUT_LOOKUP_DROPPED);
		return SK_DROP;
	}
	err = bpf_sk_assign(c, sk, 0);
	bpf_sk_release(sk);
	count(err ? AMBIT_OUT_LOOKUP_DROPPED : a.outcome);
	return err ? SK_DROP : SK_PASS;
}
