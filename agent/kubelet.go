package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ambit-mesh/ambit/agent/datapath"
	"golang.org/x/sys/unix"
)

// kubeletPeriod is how often the kubelet is looked for: it may restart, and then its probes are not exempt until it is found.
const kubeletPeriod = 2 * time.Second

// kubeletWatch keeps the kernel's idea of the kubelet up to date.
type kubeletWatch struct {
	cfg   *Config
	home  uint64 // cookie of the node's network namespace
	set   func(datapath.Kubelet) error
	log   *slog.Logger
	state atomic.Pointer[string]

	refused atomic.Pointer[string] // why it is not identified; nil: it is, or is not looked for
}

func (k *kubeletWatch) configured() bool {
	return k.cfg.KubeletPID > 0 || k.cfg.KubeletFile != "" || k.cfg.KubeletName != ""
}

func (k *kubeletWatch) run(ctx context.Context) error {
	if !k.configured() {
		k.say("not configured: probes are treated like other plaintext")
		return k.set(datapath.Kubelet{})
	}
	ticker := time.NewTicker(kubeletPeriod)
	defer ticker.Stop()
	var last datapath.Kubelet
	said := ""
	for first := true; ; first = false {
		now, err := k.find()
		if err != nil {
			now = datapath.Kubelet{} // one that cannot be told from others gets nothing
		}
		if first || now != last {
			if setErr := k.set(now); setErr != nil {
				return setErr
			}
			last = now
		}
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			k.say("refused: " + said)
			why := said
			k.refused.Store(&why)
			k.log.Warn("kubelet is not identified; its probes are treated like other plaintext", "err", err)
		case err == nil:
			said = ""
			k.refused.Store(nil)
			k.say(fmt.Sprintf("identified: pid %d, cgroup %d", now.PID, now.Cgroup))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (k *kubeletWatch) say(s string) { k.state.Store(&s) }

func (k *kubeletWatch) find() (datapath.Kubelet, error) {
	pid, err := k.pid()
	if err != nil {
		return datapath.Kubelet{}, err
	}
	found, err := datapath.FindProcess(k.cfg.ProcDir, k.cfg.CgroupRoot, pid)
	found.Netns = k.home
	return found, err
}

func (k *kubeletWatch) pid() (int, error) {
	switch {
	case k.cfg.KubeletPID > 0:
		return k.cfg.KubeletPID, nil
	case k.cfg.KubeletFile != "":
		text, err := os.ReadFile(k.cfg.KubeletFile)
		if err != nil {
			return 0, fmt.Errorf("kubelet's pid: %w", err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid <= 0 {
			return 0, fmt.Errorf("kubelet's pid: %.32q is none", text)
		}
		return pid, nil
	}
	return k.byName()
}

// byName finds the only process of that name that root runs in this network namespace.
func (k *kubeletWatch) byName() (int, error) {
	var home unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &home); err != nil {
		return 0, fmt.Errorf("own network namespace: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(k.cfg.ProcDir, "[0-9]*", "comm"))
	if err != nil {
		return 0, fmt.Errorf("processes: %w", err)
	}
	found := 0
	for _, path := range names {
		text, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(text)) != k.cfg.KubeletName {
			continue
		}
		dir := filepath.Dir(path)
		var owner, ns unix.Stat_t
		if unix.Stat(dir, &owner) != nil || unix.Stat(filepath.Join(dir, "ns", "net"), &ns) != nil || owner.Uid != 0 || ns.Ino != home.Ino {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if found != 0 {
			return 0, fmt.Errorf("processes %d and %d are both called %s", found, pid, k.cfg.KubeletName)
		}
		found = pid
	}
	if found == 0 {
		return 0, errors.New("no process of root's called " + k.cfg.KubeletName + " runs in this network namespace")
	}
	return found, nil
}
