package podnet

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// The settings of a namespace that the mesh changes, as paths below /proc/sys.
const (
	twReuse       = "net/ipv4/tcp_tw_reuse"            // short-lived connections of ours must not run out of ports
	reservedPorts = "net/ipv4/ip_local_reserved_ports" // the kernel must not give our ports to others
	migrateReq    = "net/ipv4/tcp_migrate_req"         // waiting connections follow when a listener is replaced (5.14)
)

// Values are settings and what they are.
type Values map[string]string

// Write is one setting to be written.
type Write struct{ Key, Value string }

// want is what each setting should be, given what it is now.
func want(key, now string, ports []uint16) (string, error) {
	if key != reservedPorts {
		return "1", nil
	}
	s, err := parsePorts(now)
	if err != nil {
		return "", err
	}
	for _, p := range ports {
		s.add(p)
	}
	return s.String(), nil
}

// planApply says what to write, given the settings as they are (absent: the kernel has none of the name) and as they were
// before an earlier Apply (nil: there was none), and which old values to remember.
func planApply(now, before Values, ports []uint16) (writes []Write, remember Values, err error) {
	remember = maps.Clone(before)
	if remember == nil {
		remember = Values{}
	}
	for key, value := range now {
		wanted, err := want(key, value, ports)
		if err != nil {
			return nil, nil, err
		}
		if _, known := remember[key]; !known {
			remember[key] = value
		}
		if !same(key, value, wanted) {
			writes = append(writes, Write{key, wanted})
		}
	}
	sortWrites(writes)
	return writes, remember, nil
}

// planRestore says what to write so that the settings are as before. What somebody else changed meanwhile stays his: of a
// plain setting when it no longer is ours, of the reserved ports all but ours.
func planRestore(now, before Values, ports []uint16) ([]Write, error) {
	var writes []Write
	for key, old := range before {
		value, present := now[key]
		if !present {
			continue
		}
		if key == reservedPorts {
			mine, err := withoutOurs(value, old, ports)
			if err != nil {
				return nil, err
			}
			old = mine
		} else if value != "1" {
			continue
		}
		if !same(key, value, old) {
			writes = append(writes, Write{key, old})
		}
	}
	sortWrites(writes)
	return writes, nil
}

func withoutOurs(now, before string, ports []uint16) (string, error) {
	current, err := parsePorts(now)
	if err != nil {
		return "", err
	}
	old, err := parsePorts(before)
	if err != nil {
		return "", err
	}
	for _, p := range ports {
		if !old.has(p) {
			current.remove(p)
		}
	}
	return current.String(), nil
}

func same(key, a, b string) bool {
	if key != reservedPorts {
		return a == b
	}
	x, errX := parsePorts(a)
	y, errY := parsePorts(b)
	return errX == nil && errY == nil && *x == *y
}

func sortWrites(w []Write) {
	slices.SortFunc(w, func(a, b Write) int { return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Value, b.Value)) })
}
