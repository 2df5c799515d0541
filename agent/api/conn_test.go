package api_test

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/api/apitest"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

func addPod(n int) *api.ToZtunnel {
	kinds := []api.ListenerKind{api.ListenerKind_OUTBOUND, api.ListenerKind_INBOUND, api.ListenerKind_HBONE}
	return &api.ToZtunnel{Message: &api.ToZtunnel_AddPod{AddPod: &api.AddPod{
		Pod: &api.Pod{Uid: "u-1", Name: "web", Namespace: "shop", Addresses: [][]byte{{10, 0, 0, 1}}}, Kinds: kinds[:n],
	}}}
}

func sockets(n int) *api.ToZtunnel {
	return &api.ToZtunnel{Message: &api.ToZtunnel_Sockets{Sockets: &api.Sockets{
		Request: 1, Uid: "u-1", Kind: api.SocketKind_TCP4, Count: uint32(n),
	}}}
}

// pipes makes n descriptors whose other ends tell whether all copies are closed: reading them gives EOF.
func pipes(t *testing.T, n int) (fds api.Fds, ends api.Fds) {
	t.Helper()
	for range n {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		ends, fds = append(ends, p[0]), append(fds, p[1])
	}
	return fds, ends
}

func TestMessagesCrossWithTheirDescriptors(t *testing.T) {
	a, b := apitest.Pair(t)
	for _, n := range []int{0, 1, 3} {
		fds, ends := pipes(t, n)
		sent := addPod(n)
		seq, err := a.Send(sent, fds...)
		if err != nil {
			t.Fatal(err)
		}
		fds.Close()
		var got api.ToZtunnel
		received, err := b.Recv(&got)
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(sent, &got) || got.Seq != seq || len(received) != n {
			t.Errorf("got %v with %d descriptors, want %v with %d", &got, len(received), sent, n)
		}
		for i, fd := range received {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor %d: flags %#x, %v; want close-on-exec", i, flags, err)
			}
			if _, err := unix.Write(fd, []byte{byte(i)}); err != nil {
				t.Error(err)
			}
			var one [1]byte
			if _, err := unix.Read(ends[i], one[:]); err != nil || one[0] != byte(i) {
				t.Errorf("descriptor %d carried %d, %v", i, one[0], err)
			}
		}
		received.Close()
		ends.Close()
	}
}

func TestTheMostDescriptorsCross(t *testing.T) {
	before := apitest.OpenFds(t)
	a, b := apitest.Pair(t)
	fds, ends := pipes(t, 1)
	many := make([]int, api.MaxFds)
	for i := range many {
		many[i] = fds[0]
	}
	if _, err := a.Send(sockets(api.MaxFds), many...); err != nil {
		t.Fatal(err)
	}
	var got api.ToZtunnel
	received, err := b.Recv(&got)
	if err != nil || len(received) != api.MaxFds {
		t.Fatalf("%d descriptors, %v", len(received), err)
	}
	received.Close()
	fds.Close()
	ends.Close()
	a.Close()
	b.Close()
	if after := apitest.OpenFds(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

// What is wrong with a packet must not leave its descriptors behind.
func TestRefusedPacketsLeakNoDescriptors(t *testing.T) {
	encode := func(m *api.ToZtunnel, seq uint64) []byte {
		m.Seq = seq
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cases := map[string]struct {
		packet []byte
		fds    int
	}{
		"not protobuf":         {[]byte{0xff, 0xff}, 2},
		"empty":                {nil, 2},
		"surplus descriptors":  {encode(addPod(1), 1), 3},
		"missing descriptors":  {encode(addPod(3), 1), 1},
		"nothing said":         {encode(&api.ToZtunnel{}, 1), 1},
		"out of sequence":      {encode(addPod(1), 7), 1},
		"too long":             {make([]byte, api.MaxMessage+100), 2},
		"the longest, garbage": {make([]byte, api.MaxMessage), 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := apitest.OpenFds(t)
			a, b := apitest.RawPair(t)
			fds, ends := pipes(t, c.fds)
			if _, _, err := a.WriteMsgUnix(c.packet, unix.UnixRights(fds...), nil); err != nil {
				t.Fatal(err)
			}
			fds.Close()
			conn := api.NewConn(b)
			if got, err := conn.Recv(&api.ToZtunnel{}); err == nil || got != nil {
				t.Errorf("accepted: %v, %v", got, err)
			} else if !errors.Is(err, api.ErrProtocol) && !errors.Is(err, io.EOF) {
				t.Errorf("error %v is not the peer's fault", err)
			}
			for _, end := range ends {
				if n, err := unix.Read(end, make([]byte, 1)); n != 0 || err != nil {
					t.Errorf("a copy is still open: %d, %v", n, err)
				}
			}
			ends.Close()
			a.Close()
			conn.Close()
			if after := apitest.OpenFds(t); after != before {
				t.Errorf("%d descriptors open, %d before", after, before)
			}
		})
	}
}

// With the table of open files full, the kernel cuts descriptors off: an error, never a message with too few.
func TestDescriptorsThatWereCutOffAreAnError(t *testing.T) {
	a, b := apitest.Pair(t)
	fds, ends := pipes(t, 3)
	defer fds.Close()
	defer ends.Close()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Send(addPod(3), fds...); err != nil {
		t.Fatal(err)
	}
	// No further descriptor than those open now, lest other numbers be free below the limit: count the first free one.
	free, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free + 1), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Recv(&api.ToZtunnel{})
	if restoreErr := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); restoreErr != nil {
		t.Fatal(restoreErr)
	}
	if !errors.Is(err, api.ErrProtocol) {
		t.Errorf("got %v, want ErrProtocol", err)
	}
	again, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil || again != free {
		t.Errorf("the next free descriptor is %d, was %d: something leaked (%v)", again, free, err)
	}
	unix.Close(again)
}

func TestSendRefusesWhatThePeerWould(t *testing.T) {
	a, _ := apitest.Pair(t)
	for name, m := range map[string]api.Message{
		"nothing": &api.ToAgent{}, "no pod": &api.ToAgent{Message: &api.ToAgent_ReturnPod{ReturnPod: &api.ReturnPod{}}},
		"too few fds": addPod(2),
	} {
		if _, err := a.Send(m); err == nil {
			t.Errorf("%s was sent", name)
		}
	}
}

func TestManySendersOneSequence(t *testing.T) {
	a, b := apitest.Pair(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				if _, err := a.Send(&api.ToAgent{Message: &api.ToAgent_Ready{Ready: &api.Ready{}}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 400 {
		if _, err := b.Recv(&api.ToAgent{}); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
}

func TestEndOfConnection(t *testing.T) {
	a, b := apitest.Pair(t)
	a.Close()
	if _, err := b.Recv(&api.ToAgent{}); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
	c, _ := apitest.Pair(t)
	if err := c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := c.Recv(&api.ToAgent{}); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, want a timeout", err)
	}
}

func TestDialSeesWhoListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix(api.Network, &net.UnixAddr{Name: path, Net: api.Network})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := api.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	peer, err := a.Peer()
	if err != nil || int(peer.Pid) != unix.Getpid() || int(peer.Uid) != unix.Getuid() {
		t.Errorf("peer %+v, %v", peer, err)
	}
}
