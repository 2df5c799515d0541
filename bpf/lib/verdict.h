/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What is done with a socket or packet, as functions of values: hooks gather the question and act on the answer, tests/ asks
 * the same functions through BPF_PROG_RUN, and agent/datapath/plan is their model in Go.
 */
#ifndef AMBIT_VERDICT_H
#define AMBIT_VERDICT_H

#include "addr.h"

enum ambit_verdict {
	AMBIT_DENY = 0, /* the safe zero */
	AMBIT_PASS = 1,
	AMBIT_CAPTURE = 2, /* to the outbound listener */
	AMBIT_DNS = 3,     /* to the resolver */
	AMBIT_FORWARD = 4, /* a resolver's socket: to the nameserver that the client asked */
	AMBIT_PRESENT = 5, /* bind: bind nothing, remember the address */
	AMBIT_LISTENER = 6, /* sk_lookup: to the listener of answer.role */
	AMBIT_DIRECT = 7,  /* kept for granted same-node pairs: straight to the other pod. Never given yet */
};

/* connect() and sendto(). */
struct ambit_ask {
	struct ambit_pod pod; /* all zero if the pod is not enrolled */
	struct ambit_end dst;
	__u32 enrolled;
	__u32 proto; /* 6, 17 or other */
	__u32 role;  /* of the socket */
};

struct ambit_answer {
	__u32 verdict; /* enum ambit_verdict */
	__u32 outcome; /* enum ambit_outcome, 0: none */
	__u32 role;    /* lookup: which listener */
	struct ambit_end to; /* capture and DNS: the rewritten destination */
};

static __always_inline int role_is_mesh(__u32 role)
{
	return role >= AMBIT_ROLE_OUTBOUND && role <= AMBIT_ROLE_OUTGOING;
}

static __always_inline const struct ambit_addr *pod_addr(const struct ambit_pod *p, const struct ambit_addr *like)
{
	return addr_is_v4(like) ? &p->ip4 : &p->ip6;
}

static __always_inline void verdict_connect(const struct ambit_ask *q, struct ambit_answer *a)
{
	const struct ambit_addr *own = pod_addr(&q->pod, &q->dst.addr);
	int tcp = q->proto == 6, dns = q->dst.port == 53 && (q->pod.flags & AMBIT_POD_DNS);

	a->verdict = AMBIT_PASS;
	if ((!tcp && q->proto != 17) || !q->enrolled)
		return;
	if (role_is_mesh(q->role)) {
		/* No application's query to the pod itself is captured, so this address can mean nothing else. */
		if (!tcp && q->role == AMBIT_ROLE_OUTGOING && addr_equal(&q->dst.addr, own))
			a->verdict = AMBIT_FORWARD;
		return;
	}
	if (addr_is_near(&q->dst.addr) || addr_equal(&q->dst.addr, own)) {
		if (tcp)
			a->outcome = AMBIT_OUT_CONNECT_LOCAL;
		return;
	}
	if (!tcp && !dns) {
		a->outcome = AMBIT_OUT_UDP_UNPROTECTED;
		return;
	}
	if (addr_is_zero(own)) {
		a->verdict = AMBIT_DENY;
		a->outcome = dns ? AMBIT_OUT_DNS_DENIED : AMBIT_OUT_CONNECT_DENIED_FAMILY;
		return;
	}
	a->to.addr = *own;
	if (dns) {
		a->verdict = AMBIT_DNS;
		a->outcome = tcp ? AMBIT_OUT_DNS_CAPTURED_TCP : AMBIT_OUT_DNS_CAPTURED_UDP;
	} else {
		a->verdict = AMBIT_CAPTURE;
		a->outcome = AMBIT_OUT_CONNECT_CAPTURED;
	}
	a->to.port = tcp ? spread_port(&q->dst) : AMBIT_PORT_DNS;
}

static __always_inline int port_is_mesh(__u16 port)
{
	return port == AMBIT_PORT_OUTBOUND || port == AMBIT_PORT_INBOUND || port == AMBIT_PORT_HBONE ||
	       (port >= AMBIT_PORT_DNS && port < AMBIT_PORT_DNS + AMBIT_NAMESERVERS);
}

static __always_inline void verdict_bind(const struct ambit_ask *q, struct ambit_answer *a)
{
	a->verdict = AMBIT_PASS;
	if (q->role == AMBIT_ROLE_OUTGOING) {
		a->verdict = AMBIT_PRESENT;
	} else if (!role_is_mesh(q->role) && q->enrolled && port_is_mesh(q->dst.port) &&
		   (q->proto == 6 || q->proto == 17)) {
		a->verdict = AMBIT_DENY;
		a->outcome = AMBIT_OUT_BIND_DENIED_PORT;
	}
}

/* A packet for no known connection. */
struct ambit_syn {
	struct ambit_tuple tuple; /* as the client sees it */
	__u32 kind;               /* enum ambit_kind of a listed tuple */
	__u32 flags;              /* enum ambit_pod_flag of the pod that has the address */
};

static __always_inline void verdict_lookup(const struct ambit_syn *q, struct ambit_answer *a)
{
	const struct ambit_end *l = &q->tuple.dst, *r = &q->tuple.src;

	a->verdict = AMBIT_LISTENER;
	if (q->kind == AMBIT_KIND_CAPTURED) {
		a->role = AMBIT_ROLE_OUTBOUND;
		a->outcome = AMBIT_OUT_LOOKUP_OUTBOUND;
	} else if (q->kind == AMBIT_KIND_DNS) {
		a->role = AMBIT_ROLE_DNS;
		a->outcome = AMBIT_OUT_LOOKUP_DNS;
	} else if (l->port == AMBIT_PORT_HBONE) {
		/* Also from the pod itself: the ztunnel tunnels to it there. */
		a->role = AMBIT_ROLE_HBONE;
		a->outcome = AMBIT_OUT_LOOKUP_HBONE;
	} else if (addr_is_loopback(&r->addr) || addr_equal(&l->addr, &r->addr)) {
		a->verdict = AMBIT_PASS;
		a->outcome = AMBIT_OUT_LOOKUP_SELF;
		if (l->port == AMBIT_PORT_OUTBOUND || l->port == AMBIT_PORT_INBOUND || l->port == AMBIT_PORT_DNS) {
			a->verdict = AMBIT_DENY;
			a->outcome = AMBIT_OUT_LOOKUP_DROPPED_PORT;
		}
	} else if (q->kind == AMBIT_KIND_PROBE) {
		a->verdict = AMBIT_PASS;
		a->outcome = AMBIT_OUT_LOOKUP_PROBE;
	} else if ((q->flags & AMBIT_POD_BYPASS_INBOUND) && !port_is_mesh(l->port)) {
		a->verdict = AMBIT_PASS;
		a->outcome = AMBIT_OUT_LOOKUP_BYPASS;
	} else {
		a->role = AMBIT_ROLE_INBOUND;
		a->outcome = AMBIT_OUT_LOOKUP_INBOUND;
	}
}

enum ambit_socket {
	AMBIT_SOCKET_NONE = 0,
	AMBIT_SOCKET_STREAM = 1,
	AMBIT_SOCKET_RAW = 2, /* also the kernel's own, which sends RST and the ACKs of closed connections */
	AMBIT_SOCKET_PARTIAL = 3, /* TIME_WAIT, or a request socket whose listener is gone */
};

/* A packet that leaves the pod. */
struct ambit_packet {
	__u32 parsed;  /* 0: extension headers that we do not follow */
	__u32 tcp;
	__u32 socket;  /* enum ambit_socket */
	__u32 role;    /* of the socket, or of the listener behind a request socket */
	__u32 syn, rst, ack;
	__u32 payload; /* there is some */
	__u32 probe;   /* answers a listed probe */
	__u32 flags;   /* enum ambit_pod_flag of the source address */
};

/* PASS and outcome; strict capture turns a DENY into a drop, otherwise it is only counted. */
static __always_inline void verdict_egress(const struct ambit_packet *q, struct ambit_answer *a)
{
	a->verdict = AMBIT_PASS;
	if (q->parsed && !q->tcp) {
		a->outcome = AMBIT_OUT_EGRESS_NOT_TCP;
		return;
	}
	if (role_is_mesh(q->role)) {
		a->outcome = AMBIT_OUT_EGRESS_MESH;
		return;
	}
	if (q->role == AMBIT_ROLE_OLDER) {
		a->outcome = AMBIT_OUT_EGRESS_OLDER;
		return;
	}
	a->verdict = AMBIT_DENY;
	if (!q->parsed) {
		a->outcome = AMBIT_OUT_EGRESS_UNPARSED;
		return;
	}
	/* Opens nothing and carries nothing: what the kernel answers for sockets that are gone has this form. */
	if (!q->payload && (q->rst || (q->socket != AMBIT_SOCKET_STREAM && !q->syn))) {
		a->verdict = AMBIT_PASS;
		a->outcome = AMBIT_OUT_EGRESS_CONTROL;
		return;
	}
	if (q->probe) {
		a->verdict = AMBIT_PASS;
		a->outcome = AMBIT_OUT_EGRESS_PROBE;
		return;
	}
	if ((q->flags & AMBIT_POD_BYPASS_INBOUND) && (q->role == AMBIT_ROLE_BYPASSED || (q->syn && q->ack))) {
		a->verdict = AMBIT_PASS;
		a->outcome = AMBIT_OUT_EGRESS_BYPASS;
		return;
	}
	a->outcome = q->socket == AMBIT_SOCKET_RAW    ? AMBIT_OUT_EGRESS_RAW
		     : q->socket == AMBIT_SOCKET_NONE ? AMBIT_OUT_EGRESS_NO_SOCKET
						      : AMBIT_OUT_EGRESS_APPLICATION;
}

#endif
