package passthrough

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// pipeSize is what a pipe is asked to hold; 256 KiB is within what an unprivileged process may set.
const pipeSize = 256 << 10

// pipe carries bytes from one socket to another without copying them to user space. It is empty whenever it is in the pool.
type pipe struct {
	r, w int
	held int // bytes in it
}

// pipes are shared by all relays of the process, like the buffers: nothing holds one while it waits for data.
var pipes = pipePool{idle: make([]*pipe, 0, maxIdlePipes)}

const (
	maxIdlePipes = 16
	maxPipes     = 128 // a relay that gets none copies through a buffer
)

type pipePool struct {
	mu   sync.Mutex
	idle []*pipe
	made int
}

// get answers nil when there are too many, or no descriptors.
func (p *pipePool) get() *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		one := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return one
	}
	if p.made >= maxPipes {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil
	}
	// A smaller pipe only means more system calls.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	p.made++
	return &pipe{r: fds[0], w: fds[1]}
}

func (p *pipePool) put(one *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.held == 0 && len(p.idle) < maxIdlePipes {
		p.idle = append(p.idle, one)
		return
	}
	unix.Close(one.r)
	unix.Close(one.w)
	p.made--
}

// splice moves bytes until there are none for the moment; then the caller reads again, which waits. Where the kernel or the
// kind of socket does not allow it, or there is no pipe to be had, it does nothing.
func (h *half) splice() error {
	p := pipes.get()
	if p == nil {
		return nil
	}
	defer pipes.put(p)
	for {
		n, err := h.fill(p)
		if n <= 0 || err != nil {
			return err
		}
		if err := h.empty(p); err != nil {
			h.broken = h.dst
			return fmt.Errorf("splice: %w", err)
		}
	}
}

// fill takes what the source has, without waiting. 0 is nothing yet or the end: the next read tells.
func (h *half) fill(p *pipe) (n int64, err error) {
	controlErr := h.srcRaw.Read(func(fd uintptr) bool {
		n, err = unix.Splice(int(fd), nil, p.w, nil, pipeSize, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		return true
	})
	switch {
	case controlErr != nil:
		h.broken = h.src
		return 0, controlErr
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		h.broken = h.src
		return 0, err
	}
	p.held += int(n)
	return n, nil
}

// empty gives everything in the pipe to the destination, waiting as long as it takes.
func (h *half) empty(p *pipe) error {
	var err error
	controlErr := h.dstRaw.Write(func(fd uintptr) bool {
		for p.held > 0 {
			var n int64
			n, err = unix.Splice(p.r, nil, int(fd), nil, p.held, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EAGAIN):
				return false
			case err != nil:
				return true
			}
			p.held -= int(n)
			h.count.Add(uint64(n))
		}
		return true
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}
