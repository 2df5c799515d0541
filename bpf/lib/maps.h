/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Every map of the datapath. All objects declare all of them; the loader makes one set and gives it to each object. All are
 * pinned. No LRU: a map that forgets on its own would misroute. README.md has the table.
 */
#ifndef AMBIT_MAPS_H
#define AMBIT_MAPS_H


#include "abi.h"

/* netns cookie of an enrolled pod -> the pod. Writer: agent. Reader: all hooks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096); /* Config.MaxPods */
	__type(key, __u64);
	__type(value, struct ambit_pod);
} ambit_pods SEC(".maps");

/* address of an enrolled pod -> the same, where no cookie is at hand. Writer: agent. Reader: sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192); /* two a pod */
	__type(key, struct ambit_addr);
	__type(value, struct ambit_local);
} ambit_locals SEC(".maps");

/* socket -> role; accepted children inherit it. Writer: agent (by fd), iter/tcp, bind. Reader: all hooks. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct ambit_own);
} ambit_own SEC(".maps");

/* TCP socket -> the address that getsockname or getpeername answers. Writer: connect, sockops. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct ambit_seen);
} ambit_seen SEC(".maps");

/* UDP socket -> the nameservers it addressed. Writer: connect, sendmsg. Reader: recvmsg, getpeername, a resolver's connect. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct ambit_asked);
} ambit_asked SEC(".maps");

/*
 * cookie of a connecting socket -> its handshake. Full: connect and bind are refused. Each slot has at most one entry in each
 * of the next two, which are as large: they cannot fill up. Writer: connect, bind, sockops; release and the agent's sweep delete.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768); /* Config.MaxHandshakes */
	__type(key, __u64);
	__type(value, struct ambit_slot);
} ambit_slots SEC(".maps");

/* netns and 4-tuple -> the address that the accepted socket must know. Writer and reader: sockops. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct ambit_flow_key);
	__type(value, struct ambit_flow);
} ambit_flows SEC(".maps");

/* 4-tuple -> where its SYN goes. Writer: sockops. Reader: sk_lookup, tcx. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct ambit_tuple);
	__type(value, struct ambit_steer);
} ambit_steers SEC(".maps");

/* pod address and role -> listener. An entry vanishes with the last close of its socket. Writer: agent. Reader: sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 32768); /* four roles at two addresses a pod */
	__type(key, struct ambit_listener);
	__type(value, __u64);
} ambit_listeners SEC(".maps");

/* address and port of a declared probe -> 1. Writer: agent. Reader: sockops in the host's namespace. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384); /* Config.MaxProbePorts */
	__type(key, struct ambit_end);
	__type(value, __u32);
} ambit_probes SEC(".maps");

/* 0 -> who kubelet is. Writer: agent. Reader: sockops. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ambit_kubelet);
} ambit_kubelet SEC(".maps");

/* enum ambit_outcome -> count, per CPU. Writer: all hooks. Reader: agent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, AMBIT_OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} ambit_counters SEC(".maps");

#endif
