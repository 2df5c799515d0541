package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ambit-mesh/ambit/agent/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Handler decides. ns is nil where the runtime gave none; the handler owns it. It answers before ctx ends.
type Handler func(ctx context.Context, r Request, ns *netns.Handle) Response

// Server answers the plugin.
type Server struct {
	Path    string // of the socket; root only
	Handle  Handler
	Timeout time.Duration // for a request, waiting for what the API server has yet to say included
	Log     *slog.Logger
}

// requestsAtOnce bounds the pods of a node that start at one time; more wait in the socket's backlog.
const requestsAtOnce = 64

// Run answers until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	l, err := s.listen()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, requestsAtOnce)
	group.Go(func() error {
		<-ctx.Done()
		return l.Close()
	})
	group.Go(func() error {
		for {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			c, err := l.AcceptUnix()
			if ctx.Err() != nil {
				if err == nil {
					c.Close()
				}
				return nil
			}
			if err != nil {
				<-slots
				s.Log.Error("cni connection not accepted; trying again", "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
				continue
			}
			group.Go(func() error {
				defer func() { <-slots }()
				s.serve(ctx, c)
				return nil
			})
		}
	})
	return group.Wait()
}

func (s *Server) listen() (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil {
		return nil, fmt.Errorf("cni socket: %w", err)
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cni socket of an earlier agent: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.Path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("cni socket: %w", err)
	}
	if err := os.Chmod(s.Path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("cni socket: %w", err), l.Close())
	}
	return l, nil
}

func (s *Server) serve(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })
	defer stop()
	r, ns, err := receive(c)
	if err != nil {
		s.Log.Warn("cni request refused", "err", err)
		s.answer(c, Response{Reason: "BadRequest", Detail: err.Error()})
		return
	}
	answer := s.Handle(ctx, r, ns)
	s.Log.Info("cni request answered", "command", r.Command, "pod", r.Namespace+"/"+r.Pod, "ok", answer.OK,
		"enrolled", answer.Enrolled, "reason", answer.Reason)
	s.answer(c, answer)
}

func (s *Server) answer(c *net.UnixConn, r Response) {
	packet, err := json.Marshal(r)
	if err == nil {
		err = c.SetWriteDeadline(time.Now().Add(time.Second))
	}
	if err == nil {
		_, err = c.Write(packet)
	}
	if err != nil {
		s.Log.Warn("cni answer not delivered", "err", err)
	}
}

// receive reads a request and its namespace from a peer that is root.
func receive(c *net.UnixConn) (Request, *netns.Handle, error) {
	if err := fromRoot(c); err != nil {
		return Request{}, nil, err
	}
	packet, oob := make([]byte, maxPacket+1), make([]byte, unix.CmsgSpace(4*maxFds))
	n, oobn, flags, _, err := c.ReadMsgUnix(packet, oob)
	fds := descriptors(oob[:oobn])
	var r Request
	switch {
	case err != nil:
	case flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 || n > maxPacket || len(fds) > 1:
		err = errors.New("request too long, or with too many descriptors")
	default:
		if err = json.Unmarshal(packet[:n], &r); err == nil {
			err = r.check()
		}
	}
	if err == nil && r.Command == Add && len(fds) == 0 {
		err = errors.New("no network namespace came with the request")
	}
	if err != nil || len(fds) == 0 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return r, nil, err
	}
	ns, err := netns.FromFile(os.NewFile(uintptr(fds[0]), "pod's network namespace"))
	return r, ns, err
}

func fromRoot(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	if credErr != nil {
		return fmt.Errorf("peer: %w", credErr)
	}
	if cred.Uid != 0 {
		return fmt.Errorf("uid %d is not root", cred.Uid)
	}
	return nil
}

func descriptors(oob []byte) []int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for _, m := range messages {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}
