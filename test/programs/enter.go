package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// enter turns this process into a program of a pod: in the pod's network namespace, in a mount namespace of its own where
// /etc/resolv.conf and /etc/hosts are the pod's, as the user asked for, and then execs it. The lab starts enter inside the
// pod's cgroup already.
//
// The mount namespace starts as a copy of the machine's, so the copies of mounts that keep other pods' network namespaces
// and pinned programs alive are taken out of it: otherwise a namespace would live on here after its pod is gone.
func enter(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("enter", flag.ContinueOnError)
	netns := flags.String("netns", "", "network namespace to enter (path)")
	etc := flags.String("etc", "", "folder with the pod's resolv.conf and hosts; empty leaves the machine's mounts in place")
	drop := flags.String("drop-mounts", "", "comma-separated path prefixes under which mounts are taken out")
	hostname := flags.String("hostname", "", "host name of the pod")
	as := flags.String("user", "", "user name or uid to run as; empty for root")
	bare := flags.Bool("no-privileges", false, "no capabilities, not even from set-uid programs")
	dir := flags.String("dir", "", "working directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	argv := flags.Args()
	if len(argv) == 0 {
		return errors.New("no program given")
	}
	// What follows changes this thread only. Were it not the process's first, the process would for a moment of exec look
	// like a zombie, and a cgroup.kill in that moment would miss it.
	if unix.Gettid() != unix.Getpid() {
		return fmt.Errorf("not on the first thread: %w", syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
	}
	if *netns != "" {
		if err := enterNetns(*netns); err != nil {
			return err
		}
	}
	if *etc != "" {
		if err := ownMounts(*etc, strings.Split(*drop, ",")); err != nil {
			return err
		}
	}
	if *hostname != "" {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWUTS), unix.Sethostname([]byte(*hostname))); err != nil {
			return fmt.Errorf("host name: %w", err)
		}
	}
	if *dir != "" {
		if err := os.Chdir(*dir); err != nil {
			return err
		}
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	env := os.Environ()
	if *as != "" {
		home, err := becomeUser(*as, *bare)
		if err != nil {
			return err
		}
		env = append(env, "HOME="+home)
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, argv, env))
}

func enterNetns(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

func ownMounts(etc string, drop []string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	for _, name := range []string{"resolv.conf", "hosts"} {
		if err := unix.Mount(etc+"/"+name, "/etc/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("the pod's /etc/%s: %w", name, err)
		}
	}
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(table), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		for _, prefix := range drop {
			if prefix != "" && strings.HasPrefix(fields[4], prefix+"/") {
				_ = unix.Unmount(fields[4], unix.MNT_DETACH) // gone already is as good
			}
		}
	}
	return nil
}

// becomeUser gives up root, for good once a program is executed, and returns the user's home.
func becomeUser(name string, bare bool) (home string, err error) {
	uid, gid, home := 0, 0, "/"
	if u, lookupErr := user.Lookup(name); lookupErr == nil {
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
		home = u.HomeDir
	} else if uid, err = strconv.Atoi(name); err != nil {
		return "", fmt.Errorf("user %s: %w", name, lookupErr)
	} else {
		gid = uid
	}
	if bare {
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				return "", fmt.Errorf("drop capability %d: %w", c, err)
			}
		}
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return "", fmt.Errorf("no new privileges: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return "", fmt.Errorf("keep capabilities until exec: %w", err)
	}
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return "", fmt.Errorf("become user %s: %w", name, err)
	}
	if uid == 0 {
		return home, nil
	}
	return home, untilExec()
}

// untilExec leaves this thread, which is nobody's any more, the one capability to start a program that only its owner may reach:
// people clone into home folders that are closed to others. exec of a user who is not root takes it away (capabilities(7)).
func untilExec() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	const reach = 1 << unix.CAP_DAC_OVERRIDE
	data := [2]unix.CapUserData{{Effective: reach, Permitted: reach}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}
