/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* As much of a packet's headers as the backstop needs. Offsets count from the IP header: some devices have no other. */
#ifndef AMBIT_PACKET_H
#define AMBIT_PACKET_H

#include "verdict.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

enum {
	PROTO_HOPOPTS = 0,
	PROTO_TCP = 6,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AH = 51,
	PROTO_DSTOPTS = 60,
};

/* RFC 791, 8200, 9293: fields that are wider than a byte are in network order. */
struct ip4 {
	__u8 version_ihl, tos;
	__u16 length_be, id_be, fragment_be;
	__u8 ttl, proto;
	__u16 sum_be;
	__u32 src_be, dst_be;
};
struct ip6 {
	__u32 class_be;
	__u16 length_be;
	__u8 next, hops;
	struct ambit_addr src, dst;
};
struct tcp {
	__u16 src_be, dst_be;
	__u32 seq_be, ack_be;
	__u8 offset, flags;
	__u16 window_be, sum_be, urgent_be;
};

#define EXTENSIONS 6 /* IPv6 extension headers that are followed */

static __always_inline int packet_is_ip(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) || skb->protocol == bpf_htons(ETH_P_IPV6);
}

static __always_inline int packet_read(struct __sk_buff *skb, __u32 off, void *to, __u32 size)
{
	return bpf_skb_load_bytes_relative(skb, off, to, size, BPF_HDR_START_NET);
}

static __always_inline int is_extension(__u8 proto)
{
	return proto == PROTO_HOPOPTS || proto == PROTO_ROUTING || proto == PROTO_DSTOPTS;
}

/* Finds the TCP header. 0: there is one at *off, the packet ends at *end; 1: no TCP; -1: cannot tell. */
static __always_inline int find4(struct __sk_buff *skb, struct ambit_tuple *t, __u32 *off, __u32 *end)
{
	struct ip4 ip;

	if (packet_read(skb, 0, &ip, sizeof(ip)))
		return -1;
	t->dst.addr = addr_v4(ip.src_be);
	t->src.addr = addr_v4(ip.dst_be);
	*off = (ip.version_ihl & 15) * 4;
	*end = bpf_ntohs(ip.length_be);
	if (ip.proto != PROTO_TCP)
		return 1;
	return ip.fragment_be & bpf_htons(0x1fff) ? -1 : 0; /* later fragments have no header */
}

static __always_inline int find6(struct __sk_buff *skb, struct ambit_tuple *t, __u32 *off, __u32 *end)
{
	struct ip6 ip;
	__u8 ext[2], proto;
	__u32 i;

	if (packet_read(skb, 0, &ip, sizeof(ip)))
		return -1;
	t->dst.addr = ip.src;
	t->src.addr = ip.dst;
	*off = sizeof(ip);
	*end = *off + bpf_ntohs(ip.length_be);
	proto = ip.next;
	for (i = 0; i < EXTENSIONS && is_extension(proto); i++) {
		if (packet_read(skb, *off, ext, sizeof(ext)))
			return -1;
		proto = ext[0];
		*off += (ext[1] + 1) * 8;
	}
	if (proto == PROTO_TCP)
		return 0;
	return is_extension(proto) || proto == PROTO_FRAGMENT || proto == PROTO_AH ? -1 : 1;
}

/* *t is the connection as the other side sees it: the packet's destination is its source. */
static __always_inline void packet_parse(struct __sk_buff *skb, struct ambit_packet *q, struct ambit_tuple *t)
{
	__u32 off = 0, end = 0;
	struct tcp tcp;
	int found;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		found = find4(skb, t, &off, &end);
	else
		found = find6(skb, t, &off, &end);
	if (found < 0 || (!found && packet_read(skb, off, &tcp, sizeof(tcp))))
		return;
	q->parsed = 1;
	if (found)
		return;
	q->tcp = 1;
	q->syn = !!(tcp.flags & 2);
	q->rst = !!(tcp.flags & 4);
	q->ack = !!(tcp.flags & 16);
	/* A packet larger than 64 KiB (BIG TCP) says length 0; it is made of segments, and that the kernel tells. */
	q->payload = skb->gso_size || end > off + (tcp.offset >> 4) * 4;
	t->dst.port = bpf_ntohs(tcp.src_be);
	t->src.port = bpf_ntohs(tcp.dst_be);
}

#endif
