package load

import (
	"fmt"
	"time"

	"github.com/ambit-mesh/ambit/test/bench/stat"
)

// Kind names a client.
type Kind string

// The clients that end by themselves; Idle is apart.
const (
	KindUpload      Kind = "upload"
	KindDownload    Kind = "download"
	KindRequests    Kind = "requests"
	KindRate        Kind = "rate"
	KindConnections Kind = "connections"
)

// Job says what a client does. It is passed to the client's process as JSON.
type Job struct {
	Kind     Kind          `json:"kind"`
	Host     string        `json:"host"`
	Parallel int           `json:"parallel"`           // streams or connections at once
	Bytes    int64         `json:"bytes,omitempty"`    // of upload and download, over all streams
	Rate     int           `json:"rate,omitempty"`     // requests a second
	Duration time.Duration `json:"duration,omitempty"` // of requests, rate and connections
}

// Run does the job and adds the processor time that the whole machine spent meanwhile.
func (j Job) Run() (Result, error) {
	before, err := stat.Machine()
	if err != nil {
		return Result{}, err
	}
	r, err := j.run()
	if err != nil {
		return r, fmt.Errorf("%s over %d to %s: %w", j.Kind, j.Parallel, j.Host, err)
	}
	after, err := stat.Machine()
	r.CPU = after - before
	return r, err
}

func (j Job) run() (Result, error) {
	switch j.Kind {
	case KindUpload:
		return Upload(j.Host, j.Parallel, j.Bytes)
	case KindDownload:
		return Download(j.Host, j.Parallel, j.Bytes)
	case KindRequests:
		return Requests(j.Host, j.Parallel, j.Duration)
	case KindRate:
		return Rate(j.Host, j.Parallel, j.Rate, j.Duration)
	case KindConnections:
		return Connections(j.Host, j.Parallel, j.Duration)
	default:
		return Result{}, fmt.Errorf("no client of kind %q", j.Kind)
	}
}
