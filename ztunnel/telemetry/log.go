package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// logQueue is how many records may wait for the writer.
	logQueue = 10_000
	// logBatch is how many bytes are gathered into one write.
	logBatch = 64 << 10
	// logDrain bounds the writing of what is left when Run ends, where the output knows deadlines.
	logDrain = 2 * time.Second
)

// LogConfig is what a Log needs.
type LogConfig struct {
	Out io.Writer
	// JSON chooses the format; otherwise plain text.
	JSON bool
	// Level decides what is written: "connection opened" is debug, complete info, failed warn or error. nil is info.
	Level slog.Leveler
	// Queue is how many records may wait: 10,000.
	Queue int
	// Rate is how many lines a second each reason may have of connections that were never served: 10; at once, Burst: 100.
	Rate, Burst int
}

// Log writes records in the background. What does not fit into its queue is lost and counted: a log that nobody reads
// must not stop traffic. What a flood of rejected connections would write is suppressed and counted: it must not push
// everything else out of the files that a node keeps.
type Log struct {
	cfg     LogConfig
	limits  *limits
	queue   chan *Record
	lost    atomic.Uint64
	written atomic.Uint64
	failed  atomic.Uint64
}

// NewLog makes a Log; Run writes.
func NewLog(cfg LogConfig) *Log {
	if cfg.Queue <= 0 {
		cfg.Queue = logQueue
	}
	if cfg.Level == nil {
		cfg.Level = slog.LevelInfo
	}
	if cfg.Rate <= 0 {
		cfg.Rate = logRate
	}
	if cfg.Burst <= 0 {
		cfg.Burst = logBurst
	}
	return &Log{cfg: cfg, limits: newLimits(cfg.Rate, cfg.Burst), queue: make(chan *Record, cfg.Queue)}
}

// wantsOpened: nil-safe, as write is.
func (l *Log) wantsOpened() bool { return l != nil && l.cfg.Level.Level() <= slog.LevelDebug }

// write hands a record over or drops it.
func (l *Log) write(r *Record) {
	if l == nil || levelOf(r) < l.cfg.Level.Level() {
		return
	}
	if why := r.unserved(); why != "" && !l.limits.allow(why) {
		return
	}
	select {
	case l.queue <- r:
	default:
		l.lost.Add(1)
	}
}

func levelOf(r *Record) slog.Level {
	switch _, level := r.message(); level {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// Run writes until ctx ends, then what is still queued. An output that stalls for good, also in the middle of a write,
// holds it up for logDrain if it knows deadlines, as pipes do; files do not, and do not stall.
func (l *Log) Run(ctx context.Context) error {
	if d, ok := l.cfg.Out.(interface{ SetWriteDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { _ = d.SetWriteDeadline(time.Now().Add(logDrain)) })
		defer stop()
	}
	buf := make([]byte, 0, logBatch+16<<10)
	tick := time.NewTicker(summaryEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case r := <-l.queue:
			buf = l.batch(buf[:0], r)
			l.flush(buf)
		case <-tick.C:
			if buf = l.summary(buf[:0]); len(buf) > 0 {
				l.flush(buf)
			}
		case <-ctx.Done():
		}
	}
	return l.drain(buf)
}

// batch formats a record and those that wait behind it.
func (l *Log) batch(buf []byte, r *Record) []byte {
	for {
		buf = l.format(buf, r)
		l.written.Add(1)
		if len(buf) >= logBatch {
			return buf
		}
		select {
		case r = <-l.queue:
		default:
			return buf
		}
	}
}

// summary formats a line for each reason of which lines were suppressed since the last one. They are written at any level: so
// were those that they stand for.
func (l *Log) summary(buf []byte) []byte {
	now := time.Now()
	l.limits.take(func(why string, n uint64) {
		buf = l.format(buf, &Record{Event: eventSuppressed, End: now, Outcome: Outcome{Reason: why}, suppressed: n})
		l.written.Add(1)
	})
	return buf
}

func (l *Log) format(buf []byte, r *Record) []byte {
	if l.cfg.JSON {
		return AppendJSON(buf, r)
	}
	return AppendText(buf, r)
}

// flush writes; an error is counted and the lines are lost, there is nobody to tell.
func (l *Log) flush(buf []byte) {
	if _, err := l.cfg.Out.Write(buf); err != nil {
		l.failed.Add(1)
	}
}

// drain writes what is left. The deadline is set by a callback that may still be on its way: writes block until it is.
func (l *Log) drain(buf []byte) error {
	for {
		select {
		case r := <-l.queue:
			if _, err := l.cfg.Out.Write(l.batch(buf[:0], r)); err != nil {
				return fmt.Errorf("access log: %w", err)
			}
		default:
			if buf = l.summary(buf[:0]); len(buf) > 0 {
				if _, err := l.cfg.Out.Write(buf); err != nil {
					return fmt.Errorf("access log: %w", err)
				}
			}
			return nil
		}
	}
}

func (l *Log) collectors() []prometheus.Collector {
	counter := func(name, help string, v *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ambit_ztunnel_access_log_" + name, Help: help},
			func() float64 { return float64(v.Load()) })
	}
	return []prometheus.Collector{
		l.limits.suppressed,
		counter("lines_total", "Access log lines formatted.", &l.written),
		counter("lost_total", "Access log lines lost because the output was slower than the traffic. If it grows, look at who reads the log.", &l.lost),
		counter("write_errors_total", "Writes of access log lines that failed. If it grows, the log's reader is gone.", &l.failed),
	}
}
