/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What the kernel programs share with agent/datapath: structs in maps, and enums. bpf2go makes the Go types of it.
 * AMBIT_ABI names the layout and is part of the pin directory: raise it with any change here.
 */
#ifndef AMBIT_ABI_H
#define AMBIT_ABI_H

#include "include/bpf.h"

#define AMBIT_ABI 1

/* The mesh's ports in every enrolled pod. Applications may not bind them. UDP DNS may use up to AMBIT_NAMESERVERS ports. */
enum ambit_port {
	AMBIT_PORT_OUTBOUND = 15001,
	AMBIT_PORT_INBOUND = 15006,
	AMBIT_PORT_HBONE = 15008,
	AMBIT_PORT_DNS = 15053,
};
#define AMBIT_NAMESERVERS 4 /* that one unconnected UDP socket is remembered to have asked */

/* Whose a socket is. Children of a listener inherit its role. */
enum ambit_role {
	AMBIT_ROLE_NONE = 0,
	AMBIT_ROLE_OUTBOUND = 1, /* listener of what the pod's applications connect to */
	AMBIT_ROLE_INBOUND = 2,  /* listener of plaintext that arrives */
	AMBIT_ROLE_HBONE = 3,    /* listener of tunnels that arrive */
	AMBIT_ROLE_DNS = 4,      /* DNS over TCP (listener) and UDP */
	AMBIT_ROLE_OUTGOING = 5, /* what the ztunnel connects with, as the pod */
	AMBIT_ROLE_OLDER = 6,    /* an application's connection that is older than the pod's enrolment */
	AMBIT_ROLE_BYPASSED = 7, /* accepted by an application while its inbound capture was off */
};

/* What a slot, and a listed tuple, are for. */
enum ambit_kind {
	AMBIT_KIND_NONE = 0,
	AMBIT_KIND_CAPTURED = 1, /* an application's connection, to the outbound listener */
	AMBIT_KIND_DNS = 2,      /* an application's DNS over TCP, to the DNS listener */
	AMBIT_KIND_PRESENT = 3,  /* the ztunnel's connection to an application, which shows a client's address */
	AMBIT_KIND_PROBE = 4,    /* kubelet's probe, straight to the application */
};

enum ambit_pod_flag {
	AMBIT_POD_DNS = 1,            /* capture DNS */
	AMBIT_POD_STRICT = 2,         /* the backstop drops */
	AMBIT_POD_BYPASS_INBOUND = 4, /* plaintext goes to the application as if there were no mesh */
};

/* Outcomes that are counted; the index into ambit_counters. Append only. */
enum ambit_outcome {
	AMBIT_OUT_NONE = 0,
	AMBIT_OUT_CONNECT_CAPTURED,
	AMBIT_OUT_CONNECT_LOCAL,         /* to loopback, link-local or the pod itself: left alone */
	AMBIT_OUT_CONNECT_DENIED_FULL,   /* no slot */
	AMBIT_OUT_CONNECT_DENIED_FAMILY, /* the pod has no address of that family */
	AMBIT_OUT_CONNECT_DENIED_MEMORY, /* no socket storage */
	AMBIT_OUT_DNS_CAPTURED_TCP,
	AMBIT_OUT_DNS_CAPTURED_UDP,
	AMBIT_OUT_DNS_DENIED,            /* no socket storage, or no address of that family */
	AMBIT_OUT_DNS_FORWARD,           /* a resolver's socket was connected to the nameserver that a client asked */
	AMBIT_OUT_DNS_FORWARD_UNKNOWN,   /* no such client: refused */
	AMBIT_OUT_UDP_UNPROTECTED,       /* connect or first send of UDP that is no DNS */
	AMBIT_OUT_BIND_PRESENTED,
	AMBIT_OUT_BIND_DENIED_FULL,
	AMBIT_OUT_BIND_DENIED_PORT,      /* an application wanted a port of the mesh */
	AMBIT_OUT_ADDRESS_CARRIED,       /* an accepted socket knows its original destination or true client */
	AMBIT_OUT_ADDRESS_MISSING,       /* accepted by the mesh without one: marked, the ztunnel resets it */
	AMBIT_OUT_ADDRESS_LOST,          /* could not be carried (should stay 0) */
	AMBIT_OUT_LOOKUP_OUTBOUND,
	AMBIT_OUT_LOOKUP_INBOUND,
	AMBIT_OUT_LOOKUP_HBONE,
	AMBIT_OUT_LOOKUP_DNS,
	AMBIT_OUT_LOOKUP_SELF,           /* the pod to itself */
	AMBIT_OUT_LOOKUP_BYPASS,
	AMBIT_OUT_LOOKUP_PROBE,
	AMBIT_OUT_LOOKUP_DROPPED,        /* no listener: the kernel resets */
	AMBIT_OUT_LOOKUP_DROPPED_PORT,   /* the pod itself, straight to a port of the mesh */
	AMBIT_OUT_PROBE_ADMITTED,
	AMBIT_OUT_PROBE_FULL,
	AMBIT_OUT_PROBE_STRANGER,        /* another process of the host's namespace, to a declared probe port: not exempt */
	AMBIT_OUT_EGRESS_MESH,
	AMBIT_OUT_EGRESS_CONTROL,        /* RST, or a bare ACK of a connection that is closed already */
	AMBIT_OUT_EGRESS_PROBE,
	AMBIT_OUT_EGRESS_OLDER,
	AMBIT_OUT_EGRESS_NOT_TCP,
	AMBIT_OUT_EGRESS_BYPASS,         /* the application's own answers, inbound capture being off */
	AMBIT_OUT_EGRESS_APPLICATION,    /* a connection of the application's that was not captured */
	AMBIT_OUT_EGRESS_RAW,            /* a raw or packet socket */
	AMBIT_OUT_EGRESS_NO_SOCKET,
	AMBIT_OUT_EGRESS_UNPARSED,
	AMBIT_OUT_EGRESS_DROPPED,        /* of the last four, in strict capture */
	AMBIT_OUT_OLDER_TAGGED,
	AMBIT_OUT_OLDER_DESTROYED,
	AMBIT_OUT_SLOT_SWEPT,            /* counted by the agent */
	AMBIT_OUTCOMES,
};

/* An IP address; IPv4 as ::ffff:a.b.c.d. All zero: none. */
struct ambit_addr {
	__u32 ip_be[4];
};

struct ambit_end {
	struct ambit_addr addr;
	__u16 port; /* host byte order */
	__u16 pad;
};

/* A connection as its initiator sees it. */
struct ambit_tuple {
	struct ambit_end src, dst;
};

struct ambit_pod {
	struct ambit_addr ip4, ip6; /* the pod's own, all zero if it has none of the family */
	enum ambit_pod_flag flags;  /* or-ed */
	__u32 pad;
};

/* What is known of one of the pods' addresses where there is no netns cookie (sk_lookup). */
struct ambit_local {
	__u64 netns;
	enum ambit_pod_flag flags; /* or-ed */
	__u32 pad;
};

struct ambit_own {
	enum ambit_role role;
	__u32 pad;
	struct ambit_end present; /* outgoing: the source that the application must see; port 0: none */
	__u32 pad2;
};

/* What getsockname or getpeername must answer. */
struct ambit_seen {
	struct ambit_end end;
	__u32 marked; /* accepted by the mesh without an original destination: end is all zero */
};

/* The nameservers that a UDP socket addressed. */
struct ambit_asked {
	struct ambit_end peer;                  /* by connect() */
	struct ambit_end by_send[AMBIT_NAMESERVERS]; /* by sendto() */
	__u32 used;                             /* of by_send */
	__u32 last;                             /* index of the last one sent to */
	__u32 turn;                             /* which one the next forwarded query goes to, where several share a port */
};

/* One handshake that the mesh has to do with: made where the socket can still be refused, gone when it is over. */
struct ambit_slot {
	__u64 since_ns; /* CLOCK_MONOTONIC */
	__u64 netns;
	struct ambit_tuple tuple; /* all zero until the SYN */
	enum ambit_kind kind;
	__u32 pad;
};

struct ambit_flow_key {
	__u64 netns;
	struct ambit_tuple tuple;
};

/* Travels from the connecting to the accepted socket. */
struct ambit_flow {
	__u64 slot; /* cookie of the connecting socket */
	struct ambit_end end;
	__u32 pad;
};

/* Where sk_lookup sends a SYN. */
struct ambit_steer {
	__u64 slot;
	__u64 since_ns;
	enum ambit_kind kind;
	__u32 pad;
};

struct ambit_listener {
	struct ambit_addr addr;
	enum ambit_role role;
};

/* The process whose connections to declared probe ports are exempt. What is 0 is not compared; netns 0: nobody. */
struct ambit_kubelet {
	__u64 netns;
	__u64 cgroup;
	__u64 start; /* start of the process since boot, in 1/100 s as in /proc/PID/stat */
	__u32 pid;   /* in its own pid namespace: the node itself may be a container */
	__u32 pidns; /* inode of that namespace */
};

#define AMBIT_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " has another layout: raise AMBIT_ABI")
AMBIT_SIZE(ambit_addr, 16);
AMBIT_SIZE(ambit_end, 20);
AMBIT_SIZE(ambit_tuple, 40);
AMBIT_SIZE(ambit_pod, 40);
AMBIT_SIZE(ambit_local, 16);
AMBIT_SIZE(ambit_own, 32);
AMBIT_SIZE(ambit_seen, 24);
AMBIT_SIZE(ambit_asked, 112);
AMBIT_SIZE(ambit_slot, 64);
AMBIT_SIZE(ambit_flow_key, 48);
AMBIT_SIZE(ambit_flow, 32);
AMBIT_SIZE(ambit_steer, 24);
AMBIT_SIZE(ambit_listener, 20);
AMBIT_SIZE(ambit_kubelet, 32);

#endif
