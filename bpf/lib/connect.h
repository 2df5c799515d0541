/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* connect() and sendto(): gather the question, act on the answer. Both families call these with addresses of one form. */
#ifndef AMBIT_CONNECT_H
#define AMBIT_CONNECT_H

#include "dns.h"
#include "slot.h"
#include "sockaddr.h"

#define ENETUNREACH 101
#define BPF_TCP_ESTABLISHED_ 1

const volatile __u32 have_set_retval = 0; /* bpf_set_retval: Linux 5.18 */

static __always_inline int ask(struct bpf_sock_addr *c, struct ambit_ask *q)
{
	struct ambit_own *own = bpf_sk_storage_get(&ambit_own, c->sk, 0, 0);
	__u64 netns = bpf_get_netns_cookie(c);
	struct ambit_pod *pod = bpf_map_lookup_elem(&ambit_pods, &netns);

	q->proto = c->protocol;
	if (own)
		q->role = own->role;
	if (pod) {
		q->pod = *pod;
		q->enrolled = 1;
	}
	return 0;
}

/* The hook's answer that makes the system call fail. */
static __always_inline int refuse(__u32 outcome)
{
	if (outcome == AMBIT_OUT_CONNECT_DENIED_FAMILY && have_set_retval)
		bpf_set_retval(-ENETUNREACH);
	count(outcome);
	return 0;
}

/* A socket that was captured may connect again, elsewhere. */
static __always_inline void forget(struct bpf_sock_addr *c, __u32 proto)
{
	if (proto == 17) {
		struct ambit_asked *m = bpf_sk_storage_get(&ambit_asked, c->sk, 0, 0);

		if (m)
			m->peer.port = 0;
		return;
	}
	if (bpf_sk_storage_get(&ambit_seen, c->sk, 0, 0)) {
		bpf_sk_storage_delete(&ambit_seen, c->sk);
		slot_free(bpf_get_socket_cookie(c));
	}
}

static __always_inline struct ambit_asked *asked(struct bpf_sock_addr *c)
{
	struct ambit_asked none = {};

	return bpf_sk_storage_get(&ambit_asked, c->sk, &none, BPF_SK_STORAGE_GET_F_CREATE);
}

/* TCP: remember the destination and reserve the slot. 0: refused. */
static __always_inline int capture(struct bpf_sock_addr *c, const struct ambit_ask *q, __u32 kind)
{
	struct ambit_seen fresh = {}, *seen = bpf_sk_storage_get(&ambit_seen, c->sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
	__u64 cookie = bpf_get_socket_cookie(c);

	if (!seen)
		return refuse(AMBIT_OUT_CONNECT_DENIED_MEMORY);
	seen->end = q->dst;
	seen->marked = 0;
	if (q->role == AMBIT_ROLE_OLDER || q->role == AMBIT_ROLE_BYPASSED)
		bpf_sk_storage_delete(&ambit_own, c->sk);
	slot_free(cookie); /* of an attempt that failed */
	if (slot_reserve(cookie, bpf_get_netns_cookie(c), kind)) {
		bpf_sk_storage_delete(&ambit_seen, c->sk);
		return refuse(AMBIT_OUT_CONNECT_DENIED_FULL);
	}
	return 1;
}

/*
 * A resolver's socket connects to the client that asked it: find the client's socket and, there, the nameserver it meant. The
 * port at which the query arrived is what bind() stated, else the first.
 */
static __always_inline int forward(struct bpf_sock_addr *c, const struct ambit_ask *q, struct ambit_end *to)
{
	struct ambit_own *own = bpf_sk_storage_get(&ambit_own, c->sk, 0, 0);
	struct bpf_sock_tuple t = {};
	struct ambit_asked *m;
	struct bpf_sock *client;
	__u16 at = AMBIT_PORT_DNS;
	int found = 0;

	if (own && own->present.port)
		at = own->present.port;
	if (addr_is_v4(&q->dst.addr)) {
		t.ipv4.saddr = t.ipv4.daddr = q->dst.addr.ip_be[3];
		t.ipv4.sport = bpf_htons(at);
		t.ipv4.dport = bpf_htons(q->dst.port);
		client = bpf_sk_lookup_udp(c, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(t.ipv6.saddr, q->dst.addr.ip_be, 16);
		__builtin_memcpy(t.ipv6.daddr, q->dst.addr.ip_be, 16);
		t.ipv6.sport = bpf_htons(at);
		t.ipv6.dport = bpf_htons(q->dst.port);
		client = bpf_sk_lookup_udp(c, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (client) {
		m = bpf_sk_storage_get(&ambit_asked, client, 0, 0);
		if (m)
			found = dns_meant(m, client->state == BPF_TCP_ESTABLISHED_, at, to);
		bpf_sk_release(client);
	}
	if (!found)
		return refuse(AMBIT_OUT_DNS_FORWARD_UNKNOWN);
	count(AMBIT_OUT_DNS_FORWARD);
	return 1;
}

/* 0: the system call fails; 1: it goes on; 2: it goes on to *to. */
static __always_inline int on_connect(struct bpf_sock_addr *c, const struct ambit_end *dst, struct ambit_end *to)
{
	struct ambit_answer a = {};
	struct ambit_ask q = { .dst = *dst };
	struct ambit_asked *m;

	if (!c->sk)
		return 1;
	ask(c, &q);
	verdict_connect(&q, &a);
	switch (a.verdict) {
	case AMBIT_PASS:
		if (!role_is_mesh(q.role))
			forget(c, q.proto);
		if (a.outcome)
			count(a.outcome);
		return 1;
	case AMBIT_FORWARD:
		return forward(c, &q, to) ? 2 : 0;
	case AMBIT_CAPTURE:
	case AMBIT_DNS:
		break;
	default:
		return refuse(a.outcome);
	}
	if (q.proto == 6) {
		if (!capture(c, &q, a.verdict == AMBIT_DNS ? AMBIT_KIND_DNS : AMBIT_KIND_CAPTURED))
			return 0;
	} else {
		m = asked(c);
		if (!m)
			return refuse(AMBIT_OUT_DNS_DENIED);
		m->peer = *dst;
	}
	*to = a.to;
	count(a.outcome);
	return 2;
}

/*
 * sendto(). send() on a connected AF_INET6 socket with a mapped peer comes here again, with the address that connect has
 * rewritten: that is the pod's own and passes, and passing forgets nothing here.
 */
static __always_inline int on_sendmsg(struct bpf_sock_addr *c, const struct ambit_end *dst, struct ambit_end *to)
{
	struct ambit_answer a = {};
	struct ambit_ask q = { .dst = *dst };
	struct ambit_asked *m;

	if (!c->sk)
		return 1;
	ask(c, &q);
	verdict_connect(&q, &a);
	if (a.verdict == AMBIT_PASS || a.verdict == AMBIT_FORWARD) {
		if (a.outcome)
			count(a.outcome);
		return 1;
	}
	if (a.verdict != AMBIT_DNS)
		return refuse(a.outcome);
	m = asked(c);
	if (!m)
		return refuse(AMBIT_OUT_DNS_DENIED);
	*to = a.to;
	to->port = dns_port(dns_remember(m, dst));
	count(a.outcome);
	return 2;
}

/* The pod's resolver answers; the application must see the nameserver that it asked. */
static __always_inline int on_recvmsg(struct bpf_sock_addr *c, const struct ambit_end *src, struct ambit_end *as)
{
	struct ambit_asked *m;
	struct ambit_pod *pod;
	__u64 netns;

	if (!c->sk || src->port < AMBIT_PORT_DNS || src->port >= AMBIT_PORT_DNS + AMBIT_NAMESERVERS)
		return 1;
	m = bpf_sk_storage_get(&ambit_asked, c->sk, 0, 0);
	if (!m)
		return 1;
	netns = bpf_get_netns_cookie(c);
	pod = bpf_map_lookup_elem(&ambit_pods, &netns);
	if (pod && !addr_equal(pod_addr(pod, &src->addr), &src->addr))
		return 1;
	return dns_answer(m, c->sk->state == BPF_TCP_ESTABLISHED_, src->port, as) ? 2 : 1;
}

#endif
