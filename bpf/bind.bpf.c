//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * bind(): on a socket that the ztunnel connects with, it states the source that the application must see and binds nothing.
 * Applications may not bind the mesh's ports. Attached to the cgroup root.
 */
#include "lib/connect.h"
#include "lib/license.h"

/* 0: refused, 1: goes on, 2: goes on with nothing to bind. */
static __always_inline int on_bind(struct bpf_sock_addr *c, const struct ambit_end *addr)
{
	struct ambit_ask q = { .dst = *addr };
	struct ambit_answer a = {};
	struct ambit_own *own;
	__u64 cookie;

	if (!c->sk)
		return 1;
	ask(c, &q);
	verdict_bind(&q, &a);
	if (a.verdict == AMBIT_PASS)
		return 1;
	if (a.verdict != AMBIT_PRESENT)
		return refuse(a.outcome);
	own = bpf_sk_storage_get(&ambit_own, c->sk, 0, 0);
	if (!own)
		return refuse(AMBIT_OUT_ADDRESS_LOST);
	own->present = *addr;
	if (q.proto != 6 || !addr->port)
		return 2;
	cookie = bpf_get_socket_cookie(c);
	slot_free(cookie);
	if (slot_reserve(cookie, bpf_get_netns_cookie(c), AMBIT_KIND_PRESENT)) {
		own->present.port = 0;
		return refuse(AMBIT_OUT_BIND_DENIED_FULL);
	}
	count(AMBIT_OUT_BIND_PRESENTED);
	return 2;
}

SEC("cgroup/bind4")
int ambit_bind4(struct bpf_sock_addr *c)
{
	struct ambit_end addr = user4(c), any = {};
	int r = on_bind(c, &addr);

	if (r == 2)
		set_user4(c, &any);
	return !!r;
}

SEC("cgroup/bind6")
int ambit_bind6(struct bpf_sock_addr *c)
{
	struct ambit_end addr = user6(c), any = {};
	int r = on_bind(c, &addr);

	if (r == 2)
		set_user6(c, &any);
	return !!r;
}
