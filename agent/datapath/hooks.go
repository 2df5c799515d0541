package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A hook is a program's place on the cgroup root.
type hook struct {
	prog   string
	attach ebpf.AttachType
}

// hooks in the order of attaching: what only answers questions first, what captures last, so that nothing is captured before
// all that it needs is there.
var hooks = []hook{
	{"ambit_release", ebpf.AttachCgroupInetSockRelease},
	{"ambit_sockname4", ebpf.AttachCgroupInet4GetSockname},
	{"ambit_sockname6", ebpf.AttachCgroupInet6GetSockname},
	{"ambit_peername4", ebpf.AttachCgroupInet4GetPeername},
	{"ambit_peername6", ebpf.AttachCgroupInet6GetPeername},
	{"ambit_recvmsg4", ebpf.AttachCGroupUDP4Recvmsg},
	{"ambit_recvmsg6", ebpf.AttachCGroupUDP6Recvmsg},
	{"ambit_sockops", ebpf.AttachCGroupSockOps},
	{"ambit_bind4", ebpf.AttachCGroupInet4Bind},
	{"ambit_bind6", ebpf.AttachCGroupInet6Bind},
	{"ambit_sendmsg4", ebpf.AttachCGroupUDP4Sendmsg},
	{"ambit_sendmsg6", ebpf.AttachCGroupUDP6Sendmsg},
	{"ambit_connect4", ebpf.AttachCGroupInet4Connect},
	{"ambit_connect6", ebpf.AttachCGroupInet6Connect},
}

// attachHooks puts every program in its place: into the pinned link where there is one, else into a new one.
func (d *Datapath) attachHooks() error {
	for _, h := range hooks {
		prog := d.obj.progs[h.prog]
		place := func() (link.Link, error) { return attachHook(d.cfg.CgroupRoot, h, prog) }
		if err := ensureLink(filepath.Join(d.linksDir(), h.prog), prog, place); err != nil {
			return fmt.Errorf("attach %s to %s: %w", h.prog, d.cfg.CgroupRoot, err)
		}
	}
	return nil
}

// attachHook attaches prog beside whatever else is there. A program that was attached so as to admit no other (without
// BPF_F_ALLOW_MULTI, which the kernel answers with EPERM) is named: nothing else tells its owner.
func attachHook(cgroupRoot string, h hook, prog *ebpf.Program) (link.Link, error) {
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroupRoot, Attach: h.attach, Program: prog})
	if !errors.Is(err, unix.EPERM) {
		return l, err
	}
	dir, openErr := os.Open(cgroupRoot)
	if openErr != nil {
		return nil, err
	}
	defer dir.Close()
	on, queryErr := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: h.attach})
	if queryErr != nil || len(on.Programs) == 0 {
		return nil, err
	}
	var names []string
	for _, p := range on.Programs {
		name, nameErr := programName(p.ID)
		if nameErr != nil {
			name = nameErr.Error()
		}
		names = append(names, fmt.Sprintf("%s (id %d)", name, p.ID))
	}
	return nil, fmt.Errorf("%w: the program there admits no other beside it: %s; its owner must attach it with BPF_F_ALLOW_MULTI, or go "+
		"(bpftool cgroup show %s)", err, strings.Join(names, ", "), cgroupRoot)
}

// ensureLink swaps prog into the link pinned at path. Where there is none, or what it was attached to is gone, attach makes
// one and it is pinned.
func ensureLink(path string, prog *ebpf.Program, attach func() (link.Link, error)) error {
	old, err := link.LoadPinnedLink(path, nil)
	switch {
	case err == nil:
		err = old.Update(prog)
		old.Close()
		if err == nil {
			return nil
		}
		if !isGone(err) {
			return fmt.Errorf("swap program: %w", err)
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("dead link: %w", err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("pinned link: %w", err)
	}
	l, err := attach()
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Pin(path); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	return nil
}
