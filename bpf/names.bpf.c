//go:build ignore
// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * getsockname() and getpeername(), and accept(), which asks the latter: the mesh's accepted sockets name the original
 * destination as their own address, as with TPROXY; applications see whom they asked for, or who really asked them.
 * Attached to the cgroup root.
 */
#include "lib/connect.h"
#include "lib/license.h"

static __always_inline __u32 role_of(struct bpf_sock_addr *c)
{
	struct ambit_own *own = bpf_sk_storage_get(&ambit_own, c->sk, 0, 0);

	return own ? own->role : AMBIT_ROLE_NONE;
}

static __always_inline int own_name(struct bpf_sock_addr *c, struct ambit_end *e)
{
	struct ambit_seen *seen;
	__u32 role;

	if (!c->sk || c->protocol != 6)
		return 0;
	seen = bpf_sk_storage_get(&ambit_seen, c->sk, 0, 0);
	if (!seen)
		return 0;
	role = role_of(c);
	if (role != AMBIT_ROLE_OUTBOUND && role != AMBIT_ROLE_DNS)
		return 0;
	*e = seen->end;
	return 1;
}

static __always_inline int peer_name(struct bpf_sock_addr *c, struct ambit_end *e)
{
	struct ambit_asked *m;
	struct ambit_seen *seen;

	if (!c->sk)
		return 0;
	if (c->protocol == 17) {
		m = bpf_sk_storage_get(&ambit_asked, c->sk, 0, 0);
		if (!m || !m->peer.port)
			return 0;
		*e = m->peer;
		return 1;
	}
	seen = bpf_sk_storage_get(&ambit_seen, c->sk, 0, 0);
	if (!seen || role_is_mesh(role_of(c)))
		return 0;
	*e = seen->end;
	return 1;
}

/* All zero is the mark of an accepted socket without a destination; an IPv6 address has no form here. */
static __always_inline int fits4(const struct ambit_end *e)
{
	return addr_is_v4(&e->addr) || addr_is_zero(&e->addr);
}

SEC("cgroup/getsockname4")
int ambit_sockname4(struct bpf_sock_addr *c)
{
	struct ambit_end e = {};

	if (own_name(c, &e) && fits4(&e))
		set_user4(c, &e);
	return 1;
}

SEC("cgroup/getsockname6")
int ambit_sockname6(struct bpf_sock_addr *c)
{
	struct ambit_end e = {};

	if (own_name(c, &e))
		set_user6(c, &e);
	return 1;
}

SEC("cgroup/getpeername4")
int ambit_peername4(struct bpf_sock_addr *c)
{
	struct ambit_end e = {};

	if (peer_name(c, &e) && fits4(&e))
		set_user4(c, &e);
	return 1;
}

SEC("cgroup/getpeername6")
int ambit_peername6(struct bpf_sock_addr *c)
{
	struct ambit_end e = {};

	if (peer_name(c, &e))
		set_user6(c, &e);
	return 1;
}
