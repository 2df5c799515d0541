package datapath

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// Features are the optional abilities of the running kernel.
type Features struct {
	SetRetval   bool // an unreachable family is refused as ENETUNREACH instead of EPERM
	TCX         bool // the backstop is a pinned link; without it a clsact filter
	SockDestroy bool // connections older than enrolment can be closed
}

const (
	kernelBTF = "kernel BTF"
	oldest    = "5.15" // the newest of the required features' versions
)

var errNoBTF = errors.New("functions are looked up in BTF")

// A feature is something a kernel has or lacks, tried by doing it.
type feature struct {
	name    string
	since   string
	without string // what happens on a kernel that lacks it; empty: Ambit cannot run
	try     func() error
	have    func(*Features) *bool
}

func catalogue() []feature {
	sockAddr := func(fn asm.BuiltinFunc) func() error {
		return func() error { return features.HaveProgramHelper(ebpf.CGroupSockAddr, fn) }
	}
	return []feature{
		{name: kernelBTF, since: "5.4, CONFIG_DEBUG_INFO_BTF", try: func() error {
			_, err := btf.LoadKernelSpec()
			return err
		}},
		{name: "sk_lookup", since: "5.9", try: func() error { return features.HaveProgramType(ebpf.SkLookup) }},
		{name: "socket storage in cgroup hooks", since: "5.8", try: sockAddr(asm.FnSkStorageGet)},
		{name: "netns cookie in sockops", since: "5.15", try: func() error {
			return features.HaveProgramHelper(ebpf.SockOps, asm.FnGetNetnsCookie)
		}},
		{name: "current task in sockops (CAP_PERFMON)", since: "5.8", try: func() error {
			return features.HaveProgramHelper(ebpf.SockOps, asm.FnGetCurrentTask)
		}},
		{name: "bpf_iter_tcp", since: "5.9", try: func() error { return kernelFunc("bpf_iter_tcp") }},
		{
			name: "bpf_set_retval", since: "5.18",
			without: "connects to a family that the pod does not have fail with EPERM instead of ENETUNREACH",
			try:     sockAddr(asm.FnSetRetval), have: func(f *Features) *bool { return &f.SetRetval },
		},
		{
			name: "tcx", since: "6.6", without: "the backstop is a clsact filter",
			try: haveTCX, have: func(f *Features) *bool { return &f.TCX },
		},
		{
			name: "bpf_sock_destroy", since: "6.5",
			without: "connections older than a pod's enrolment cannot be closed in strict capture; its backstop drops their packets",
			try:     func() error { return kernelFunc("bpf_sock_destroy") }, have: func(f *Features) *bool { return &f.SockDestroy },
		},
	}
}

// Probe finds out what the running kernel can do. What is missing but required is an error that names all of it.
// Features in without are treated as missing.
func Probe(without ...string) (Features, error) {
	var found Features
	var missing []string
	noBTF := false
	for _, f := range catalogue() {
		err := f.try()
		if slices.Contains(without, f.name) {
			err = ebpf.ErrNotSupported
		}
		switch {
		case err == nil:
			if f.have != nil {
				*f.have(&found) = true
			}
		case f.without == "" && noBTF && errors.Is(err, errNoBTF): // named already
		case f.without == "":
			noBTF = noBTF || f.name == kernelBTF
			missing = append(missing, fmt.Sprintf("%s (Linux %s): %v", f.name, f.since, err))
		}
	}
	if len(missing) > 0 {
		return found, fmt.Errorf("this kernel, or this process's capabilities, lack %s; this node needs Linux %s or newer built with "+
			"CONFIG_DEBUG_INFO_BTF=y, and the agent the capabilities that the chart gives it", strings.Join(missing, "; "), oldest)
	}
	return found, nil
}

// Degraded describes what this kernel lacks and what follows from that, a sentence each: for the log at start-up.
func (f Features) Degraded() []string {
	var said []string
	for _, c := range catalogue() {
		if c.have != nil && !*c.have(&f) {
			said = append(said, fmt.Sprintf("no %s (Linux %s): %s", c.name, c.since, c.without))
		}
	}
	return said
}

func kernelFunc(name string) error {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoBTF, err)
	}
	var fn *btf.Func
	if err := spec.TypeByName(name, &fn); err != nil {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return nil
}

// haveTCX asks for the programs on the loopback device, which every namespace has.
func haveTCX() error {
	_, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXEgress})
	if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return err
}
