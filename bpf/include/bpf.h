/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The kernel's and libbpf's headers, in the order they need. They come from the distribution's linux-libc-dev and libbpf-dev. */
#ifndef AMBIT_BPF_H
#define AMBIT_BPF_H

#include <linux/types.h>
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#endif
