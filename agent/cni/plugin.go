package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// Type is the plugin's name in a configuration and of its binary.
const Type = "ambit-cni"

// Conf is the plugin's configuration. Whatever else it holds is an error, but for what CNI itself puts there.
type Conf struct {
	types.PluginConf
	Socket            string   `json:"socket"`            // where the agent listens
	ExcludeNamespaces []string `json:"excludeNamespaces"` // whose pods start without asking
	TimeoutSeconds    int      `json:"timeoutSeconds"`    // to wait for the agent; default 30
}

// known are the keys that may occur: ours, and the specification's.
var known = []string{
	"socket", "excludeNamespaces", "timeoutSeconds",
	"cniVersion", "cniVersions", "name", "type", "prevResult", "capabilities", "runtimeConfig", "args", "ipam", "dns", "ipMasq",
}

const (
	defaultTimeout = 30
	maxTimeout     = 220             // the kubelet gives a sandbox 4 minutes
	delTimeout     = 3 * time.Second // a pod must go even where no agent is left
)

// ParseConf reads and checks a configuration.
func ParseConf(text []byte) (*Conf, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	for key := range keys {
		if !slices.Contains(known, key) && !strings.HasPrefix(key, "cni.dev/") {
			return nil, fmt.Errorf("configuration: unknown key %.64q", key)
		}
	}
	conf := &Conf{TimeoutSeconds: defaultTimeout}
	if err := json.Unmarshal(text, conf); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	switch {
	case conf.Type != "" && conf.Type != Type:
		return nil, fmt.Errorf("configuration: type %.64q is not %q", conf.Type, Type)
	case !strings.HasPrefix(conf.Socket, "/"):
		return nil, fmt.Errorf("configuration: socket %.64q is not an absolute path", conf.Socket)
	case conf.TimeoutSeconds < 1 || conf.TimeoutSeconds > maxTimeout:
		return nil, fmt.Errorf("configuration: timeoutSeconds %d is not between 1 and %d", conf.TimeoutSeconds, maxTimeout)
	case slices.Contains(conf.ExcludeNamespaces, ""):
		return nil, errors.New("configuration: excludeNamespaces holds an empty name")
	}
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return nil, fmt.Errorf("configuration: prevResult: %w", err)
	}
	return conf, nil
}

// podArgs are what a Kubernetes runtime tells of the pod in CNI_ARGS.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_UID, K8S_POD_INFRA_CONTAINER_ID types.UnmarshallableString //nolint:revive // CNI's names
}

// Plugin is the plugin's functions for skel.
func Plugin() skel.CNIFuncs {
	return skel.CNIFuncs{Add: CmdAdd, Del: CmdDel, Check: CmdCheck}
}

// CmdAdd lets a pod start when it is in the mesh, or outside it by decision.
func CmdAdd(args *skel.CmdArgs) error {
	conf, r, err := read(args, Add)
	if err != nil {
		return err
	}
	if conf.PrevResult == nil {
		return failure(types.ErrInvalidNetworkConfig, Type+" must be chained behind the plugin that makes the pod's network: there is no prevResult")
	}
	if err := admit(conf, r, args.Netns); err != nil {
		return err
	}
	return types.PrintResult(conf.PrevResult, conf.CNIVersion)
}

// CmdCheck asks whether a pod is as it should be.
func CmdCheck(args *skel.CmdArgs) error {
	conf, r, err := read(args, Check)
	if err != nil {
		return err
	}
	return admit(conf, r, args.Netns)
}

// CmdDel tells the agent that a pod goes. It never fails: the agent learns of it in other ways too.
func CmdDel(args *skel.CmdArgs) error {
	conf, r, err := read(args, Del)
	if err != nil || slices.Contains(conf.ExcludeNamespaces, r.Namespace) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), delTimeout)
	defer cancel()
	if answer, err := askAbout(ctx, conf, r, args.Netns, false); err != nil || !answer.OK {
		fmt.Fprintf(os.Stderr, "%s: the agent was not told that pod %s/%s goes: %s %v\n", Type, r.Namespace, r.Pod, answer.Detail, err)
	}
	return nil
}

func read(args *skel.CmdArgs, command string) (*Conf, Request, error) {
	conf, err := ParseConf(args.StdinData)
	if err != nil {
		return nil, Request{}, failure(types.ErrInvalidNetworkConfig, err.Error())
	}
	var pod podArgs
	pod.IgnoreUnknown = true
	if err := types.LoadArgs(args.Args, &pod); err != nil {
		return nil, Request{}, failure(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: "+err.Error())
	}
	r := Request{
		Command: command, Container: args.ContainerID, Interface: args.IfName,
		Namespace: string(pod.K8S_POD_NAMESPACE), Pod: string(pod.K8S_POD_NAME), UID: string(pod.K8S_POD_UID),
	}
	if r.Namespace == "" || r.Pod == "" {
		return nil, Request{}, failure(types.ErrInvalidEnvironmentVariables, "CNI_ARGS names no Kubernetes pod: whether it belongs to the mesh cannot be known")
	}
	if conf.PrevResult != nil {
		result, err := types100.NewResultFromResult(conf.PrevResult)
		if err != nil {
			return nil, Request{}, failure(types.ErrInvalidNetworkConfig, "prevResult: "+err.Error())
		}
		for _, ip := range result.IPs {
			r.IPs = append(r.IPs, ip.Address.IP.String())
		}
	}
	return conf, r, nil
}

// admit fails closed: only an excluded namespace, or the agent's word, lets a pod start.
func admit(conf *Conf, r Request, netnsPath string) error {
	if slices.Contains(conf.ExcludeNamespaces, r.Namespace) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(conf.TimeoutSeconds)*time.Second)
	defer cancel()
	answer, err := askAbout(ctx, conf, r, netnsPath, true)
	if err != nil {
		return failure(types.ErrTryAgainLater, fmt.Sprintf("pod %s/%s must not start before the mesh's agent on this node has answered at %s: %v",
			r.Namespace, r.Pod, conf.Socket, err))
	}
	if !answer.OK {
		return failure(types.ErrTryAgainLater, fmt.Sprintf("pod %s/%s cannot join the mesh: %s: %s", r.Namespace, r.Pod, answer.Reason, answer.Detail))
	}
	return nil
}

func askAbout(ctx context.Context, conf *Conf, r Request, netnsPath string, must bool) (Response, error) {
	fd := -1
	if netnsPath != "" {
		f, err := os.Open(netnsPath)
		if err != nil && must {
			return Response{}, fmt.Errorf("the pod's network namespace: %w", err)
		}
		if err == nil {
			defer f.Close()
			fd = int(f.Fd())
		}
	}
	return Ask(ctx, conf.Socket, r, fd)
}

func failure(code uint, message string) error { return types.NewError(code, message, "") }

// Entry is the plugin's part of a configuration list.
func Entry(socket string, exclude []string, timeout time.Duration) (json.RawMessage, error) {
	text, err := json.Marshal(map[string]any{
		"type": Type, "socket": socket, "excludeNamespaces": exclude, "timeoutSeconds": int(timeout.Seconds()),
	})
	if err != nil {
		return nil, fmt.Errorf("plugin configuration: %w", err)
	}
	if _, err := ParseConf(text); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(text), nil
}
