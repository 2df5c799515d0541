/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#ifndef AMBIT_STATS_H
#define AMBIT_STATS_H

#include "maps.h"

/* Per CPU; atomic all the same, since hooks of process context are interrupted by hooks of softirq. */
static __always_inline void count(__u32 outcome)
{
	__u64 *n = bpf_map_lookup_elem(&ambit_counters, &outcome);

	if (n)
		__sync_fetch_and_add(n, 1);
}

#endif
