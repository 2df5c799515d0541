package ztunnel

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// privileges are what the kernel lets this process do, of /proc/self/status.
type privileges struct {
	uid          int
	capabilities uint64 // effective, permitted, inheritable and ambient together
	noNewPrivs   bool
}

func currentPrivileges() (privileges, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return privileges{}, fmt.Errorf("own privileges: %w", err)
	}
	return parsePrivileges(string(text))
}

func parsePrivileges(status string) (privileges, error) {
	p := privileges{uid: -1}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "Uid": // real, effective, saved, file system: any root is root
			for _, field := range strings.Fields(value) {
				uid, err := strconv.Atoi(field)
				if err != nil {
					return p, fmt.Errorf("own privileges: uid %q", field)
				}
				if p.uid != 0 {
					p.uid = uid
				}
			}
		case "CapInh", "CapPrm", "CapEff", "CapAmb":
			set, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return p, fmt.Errorf("own privileges: %s %q", name, value)
			}
			p.capabilities |= set
		case "NoNewPrivs":
			p.noNewPrivs = value == "1"
		}
	}
	if p.uid < 0 {
		return p, errors.New("own privileges: no uid in /proc/self/status")
	}
	return p, nil
}

// refuse says why a process with these privileges must not parse what strangers send.
func (p privileges) refuse() error {
	switch {
	case p.capabilities != 0:
		return fmt.Errorf("the ztunnel must run without privileges, but has capabilities %#x: drop them all "+
			"(securityContext.capabilities.drop: [ALL]), or pass --require-unprivileged=false", p.capabilities)
	case p.uid == 0:
		return errors.New("the ztunnel must run without privileges, but runs as root: " +
			"give it a user of its own (securityContext.runAsUser), or pass --require-unprivileged=false")
	}
	return nil
}
