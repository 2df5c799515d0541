// Package cni is the mesh's part in starting a pod: the CNI plugin asks the agent, before any container runs, and the agent
// answers when the pod's hooks and listeners are in place. It answers how the two talk, what the plugin does with the answer,
// and how the plugin gets into the node's CNI configuration and stays there. What becomes of a pod the agent decides ([Handler]).
//
//	runtime                plugin                          agent
//	   | ADD, stdin, env     |                               |
//	   |-------------------->| Request + descriptor of netns |   unixpacket, one packet of JSON each way
//	   |                     |------------------------------>|   peer must be uid 0
//	   |                     |        Response, or nothing   |
//	   |                     |<------------------------------|   no answer in time: ADD fails, and says why
//	   | prevResult, or error|                               |
//	   |<--------------------|
//
// The plugin passes the namespace as a descriptor: the two need not see the same mounts. Namespaces on the plugin's exclude
// list never wait; all others fail closed. Server and Installer are run by the agent, the rest by cmd/cni.
package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Commands of a Request.
const (
	Add   = "ADD"
	Del   = "DEL"
	Check = "CHECK"
)

// Bounds of the protocol.
const (
	maxPacket = 64 << 10
	maxFds    = 4
	redial    = 100 * time.Millisecond
)

// Request is what the plugin knows of a pod.
type Request struct {
	Command   string   `json:"command"`
	Container string   `json:"container"`
	Interface string   `json:"interface"`
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	UID       string   `json:"uid,omitempty"` // not told by every runtime
	IPs       []string `json:"ips,omitempty"` // of the previous plugins' result
}

// Response is the agent's answer.
type Response struct {
	OK       bool   `json:"ok"`
	Enrolled bool   `json:"enrolled"`
	Reason   string `json:"reason"` // an enroll.Reason, or another word
	Detail   string `json:"detail"`
}

func (r *Request) check() error {
	switch {
	case r.Command != Add && r.Command != Del && r.Command != Check:
		return fmt.Errorf("unknown command %.32q", r.Command)
	case r.Namespace == "" || r.Pod == "" || len(r.Namespace) > 253 || len(r.Pod) > 253 || len(r.UID) > 253:
		return errors.New("no pod is named")
	case len(r.Container) > 1024 || len(r.Interface) > 64 || len(r.IPs) > 32:
		return errors.New("a field is too long")
	}
	return nil
}

// Ask sends one request to the agent that listens at path and waits for its answer until ctx ends; while nobody listens it
// tries again. netns is the pod's namespace, or -1 where there is none (any more).
func Ask(ctx context.Context, path string, r Request, netns int) (Response, error) {
	packet, err := json.Marshal(r)
	if err != nil {
		return Response{}, fmt.Errorf("request: %w", err)
	}
	for {
		answer, err := ask(ctx, path, packet, netns)
		if err == nil {
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return Response{}, err
		case <-time.After(redial):
		}
	}
}

func ask(ctx context.Context, path string, packet []byte, netns int) (Response, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unixpacket", path)
	if err != nil {
		return Response{}, fmt.Errorf("the node agent does not answer: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var rights []byte
	if netns >= 0 {
		rights = unix.UnixRights(netns)
	}
	if _, _, err := c.(*net.UnixConn).WriteMsgUnix(packet, rights, nil); err != nil {
		return Response{}, fmt.Errorf("ask the node agent: %w", err)
	}
	buffer := make([]byte, maxPacket)
	n, err := c.Read(buffer)
	if err != nil {
		if ctx.Err() != nil {
			return Response{}, fmt.Errorf("the node agent did not answer in time: %w", ctx.Err())
		}
		return Response{}, fmt.Errorf("the node agent's answer: %w", err)
	}
	var answer Response
	if err := json.Unmarshal(buffer[:n], &answer); err != nil {
		return Response{}, fmt.Errorf("the node agent's answer: %w", err)
	}
	return answer, nil
}
