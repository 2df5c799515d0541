/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The kernel has no name for our dual licence; "GPL" is the half that it must know of for the helpers we call. */
#ifndef AMBIT_LICENSE_H
#define AMBIT_LICENSE_H

#include "include/bpf.h"

char _license[] SEC("license") = "GPL";

#endif
