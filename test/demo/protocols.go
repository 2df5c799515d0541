package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// Check 3: protocols in which either side speaks first, long, idle, half-closed, huge and many connections.
func protocols() Check {
	return Check{
		ID: 3, Name: "any TCP protocol: who speaks first, idle, half-close, bulk, many",
		Prepare: func(ctx context.Context, w *World) error { return w.startDatabases(ctx) },
		Steps: []Step{
			{"redis (client speaks first)", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.redis(ctx, w.store.IP4().String()) })
			}},
			{"greeting server (server speaks first)", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.greeting(ctx) })
			}},
			{"PostgreSQL", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.postgres(ctx) })
			}},
			{"long-lived and idle connections", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 20, func() (string, error) { return w.idle(ctx) })
			}},
			{"half-close by the client", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.halfClose(ctx) })
			}},
			{"half-close by the server", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.halfClose(ctx, "--down") })
			}},
			{"1 GiB from client to server", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.bulk(ctx) })
			}},
			{"1 GiB from server to client", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.bulk(ctx, "--get") })
			}},
			{"1,000 connections at once", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1000, func() (string, error) { return w.thousand(ctx) })
			}},
		},
	}
}

func (w *World) storeAddr(port int) string { return fmt.Sprintf("%s:%d", w.store.IP4(), port) }

func (w *World) redis(ctx context.Context, host string) (string, error) {
	value := fmt.Sprint(time.Now().UnixNano())
	if _, err := w.exec(ctx, w.client, "redis-cli", "-h", host, "SET", "ambit", value); err != nil {
		return "", err
	}
	got, err := w.exec(ctx, w.client, "redis-cli", "-h", host, "GET", "ambit")
	if err == nil && strings.TrimSpace(got) != value {
		err = fmt.Errorf("GET gave %q, want %s", got, value)
	}
	return "SET and GET of " + value, err
}

func (w *World) greeting(ctx context.Context) (string, error) {
	seen, err := run[result.Peer](ctx, w, w.client, "greeted", w.storeAddr(greetPort))
	if err == nil && !strings.Contains(seen.Answer, "greets "+w.client.IP4().String()) {
		err = fmt.Errorf("the server greeted somebody else")
	}
	return strings.ReplaceAll(strings.TrimSpace(seen.Answer), "\r\n", " | "), err
}

func (w *World) postgres(ctx context.Context) (string, error) {
	dsn := fmt.Sprintf("host=%s user=postgres dbname=postgres connect_timeout=8 sslmode=disable", w.store.IP4())
	got, err := w.exec(ctx, w.client, "psql", dsn, "-At", "-c", "select sum(n), inet_client_addr() from generate_series(1, 100000) n")
	if want := "5000050000|" + w.client.IP4().String(); err == nil && strings.TrimSpace(got) != want {
		err = fmt.Errorf("want %s", want)
	}
	return "select gave " + strings.TrimSpace(got), err
}

func (w *World) idle(ctx context.Context) (string, error) {
	batch, err := run[result.Batch](ctx, w, w.client, "conns", "--total", "20", "--together", "--hold", "12s", w.storeAddr(echoPort))
	if err == nil && (batch.OK != 20 || batch.Peak != 20) {
		err = fmt.Errorf("%d of 20 lived (%d at once): %v", batch.OK, batch.Peak, batch.Errors)
	}
	return fmt.Sprintf("20 connections, idle for 12 s, then used again: %d live", batch.OK), err
}

func (w *World) halfClose(ctx context.Context, args ...string) (string, error) {
	got, err := run[result.HalfClose](ctx, w, w.client, append(append([]string{"halfclose"}, args...), w.storeAddr(bulkPort))...)
	if err == nil && !got.Match {
		err = fmt.Errorf("the checksums differ")
	}
	return fmt.Sprintf("%d bytes after the other direction had ended, sha256 %.12s at both ends", got.Sent, got.SHA256), err
}

func (w *World) bulk(ctx context.Context, args ...string) (string, error) {
	got, err := run[result.Bulk](ctx, w, w.client, append(append([]string{"bulk"}, args...), w.storeAddr(bulkPort))...)
	if err == nil && (!got.Match || got.Bytes != 1<<30) {
		err = fmt.Errorf("the checksums differ")
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d bytes, sha256 %.12s at both ends, %.1f Gbit/s", got.Bytes, got.SHA256, float64(got.Bytes)*8/1e9/got.Seconds), nil
}

func (w *World) thousand(ctx context.Context) (string, error) {
	batch, err := run[result.Batch](ctx, w, w.client, "conns", "--total", "1000", "--width", "50", "--together", w.storeAddr(echoPort))
	if err == nil && (batch.OK != 1000 || batch.Peak != 1000) {
		err = fmt.Errorf("%d of 1000 worked (%d at once): %v", batch.OK, batch.Peak, batch.Errors)
	}
	return fmt.Sprintf("%d open at once, all used twice, in %.1f s", batch.Peak, batch.Seconds), err
}

// startDatabases starts redis and PostgreSQL in the store.
func (w *World) startDatabases(ctx context.Context) error {
	if err := w.start(ctx, w.store, netlab.Spec{Name: processName(w.store, "redis"), Argv: []string{
		"redis-server", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "", "--appendonly", "no",
	}, User: "nobody", Dir: "/tmp"}, 6379); err != nil {
		return err
	}
	return w.startPostgres(ctx)
}
