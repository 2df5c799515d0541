package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// list is a CNI network configuration list with whatever else it holds.
type list map[string]any

// parseList reads a configuration list, or makes one of a single plugin's configuration.
func parseList(text []byte) (list, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var l list
	if err := d.Decode(&l); err != nil {
		return nil, fmt.Errorf("configuration list: %w", err)
	}
	if _, ok := l["plugins"].([]any); ok {
		return l, nil
	}
	if _, ok := l["type"].(string); !ok {
		return nil, errors.New("configuration list: neither plugins nor a type")
	}
	made := list{"plugins": []any{map[string]any(l)}}
	for _, key := range []string{"cniVersion", "name"} {
		if v, ok := l[key]; ok {
			made[key] = v
			delete(l, key)
		}
	}
	if made["name"] == nil {
		made["name"] = "k8s-pod-network"
	}
	return made, nil
}

// Chain puts our entry last in a configuration list, once. changed is false when it was there, just so.
func Chain(text []byte, entry json.RawMessage) (out []byte, changed bool, err error) {
	l, err := parseList(text)
	if err != nil {
		return nil, false, err
	}
	d := json.NewDecoder(bytes.NewReader(entry))
	d.UseNumber()
	var ours map[string]any
	if err := d.Decode(&ours); err != nil {
		return nil, false, fmt.Errorf("plugin configuration: %w", err)
	}
	plugins := l["plugins"].([]any)
	if n := len(plugins); n > 0 && reflect.DeepEqual(plugins[n-1], any(ours)) && !slices.ContainsFunc(plugins[:n-1], isOurs) {
		return text, false, nil
	}
	others := slices.DeleteFunc(slices.Clone(plugins), isOurs)
	if len(others) == 0 {
		return nil, false, errors.New("configuration list: no other plugin makes the pod's network")
	}
	l["plugins"] = append(others, any(ours))
	out, err = json.MarshalIndent(l, "", "  ")
	return append(out, '\n'), true, err
}

// Unchain takes our entry out of a configuration list.
func Unchain(text []byte) (out []byte, changed bool, err error) {
	l, err := parseList(text)
	if err != nil {
		return nil, false, err
	}
	plugins := l["plugins"].([]any)
	if !slices.ContainsFunc(plugins, isOurs) {
		return text, false, nil
	}
	l["plugins"] = slices.DeleteFunc(slices.Clone(plugins), isOurs)
	out, err = json.MarshalIndent(l, "", "  ")
	return append(out, '\n'), true, err
}

func isOurs(plugin any) bool {
	m, ok := plugin.(map[string]any)
	return ok && m["type"] == Type
}
