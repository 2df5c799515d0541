package telemetry

import "time"

// Event is what a record tells of.
type Event uint8

// The events.
const (
	EventComplete   Event = iota // a connection ended
	EventFailed                  // it ended before anything was known of it
	eventOpened                  // it began; logged at debug level
	eventSuppressed              // lines were left out; not of a connection
)

// Record is what happened to one connection.
type Record struct {
	Event Event
	Flow
	Outcome
	// End is when it happened, Duration how long the connection was open.
	End                         time.Time
	Duration                    time.Duration
	RequestBytes, ResponseBytes uint64

	suppressed uint64 // lines, of eventSuppressed
}

// message and level are Istio's.
func (r *Record) message() (message, level string) {
	switch {
	case r.Event == eventOpened:
		return "connection opened", "debug"
	case r.Event == eventSuppressed:
		return "connection lines suppressed", "warn"
	case r.Event == EventFailed:
		return "connection failed", "warn"
	case r.Err != nil:
		return "connection complete", "error"
	default:
		return "connection complete", "info"
	}
}

// fields calls a writer for each field that is there, in the order of the log line.
func (r *Record) fields(w fieldWriter) {
	if r.Event == eventSuppressed {
		w.text("reason", r.Reason)
		w.number("count", r.suppressed)
		return
	}
	src, dst := &r.Source, &r.Destination
	w.addr("src.addr", r.Client)
	w.text("src.workload", or(r.SourcePod, src.CanonicalService))
	w.text("src.namespace", src.Namespace)
	if r.Secure {
		w.text("src.identity", src.Principal.String())
	}
	w.text("src.cluster", src.Cluster)
	w.addr("dst.addr", r.Dial)
	w.bare("dst.hbone_addr", r.Authority)
	w.text("dst.service", r.Service.Host)
	w.text("dst.workload", or(r.DestinationPod, dst.CanonicalService))
	w.text("dst.namespace", dst.Namespace)
	if r.Secure {
		w.text("dst.identity", dst.Principal.String())
	}
	w.text("dst.cluster", dst.Cluster)
	w.text("direction", r.Reporter.Direction())
	w.text("plan", r.Plan)
	if r.Event == EventComplete {
		sent, received := r.RequestBytes, r.ResponseBytes
		if r.Reporter == Destination { // as seen by the workload of this node
			sent, received = received, sent
		}
		w.number("bytes_sent", sent)
		w.number("bytes_recv", received)
		w.duration("duration", r.Duration)
	}
	w.text("policy", r.Policy.String())
	w.text("reason", r.Reason)
	if r.Snapshot != 0 {
		w.number("snapshot", r.Snapshot)
	}
	w.text("close", r.Close)
	if r.Err != nil {
		w.text("error", r.Err.Error())
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
