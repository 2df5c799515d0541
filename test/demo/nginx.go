package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// marker is text that nginx sends and that must never stand on the wire.
const marker = "ambit-demo-marker-4f1c97"

// nginx starts nginx on port 80 of a pod, both families, with an access log that begins with the client's address.
func (w *World) nginx(ctx context.Context, pod netlab.Pod) error {
	dir, err := w.folder(pod, "nginx", 0, 0)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(marker+" from "+pod.Name+"\n"), 0o644); err != nil {
		return err
	}
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr warn;
events { worker_connections 4096; }
http {
  log_format who '$remote_addr "$request" $status';
  access_log %[1]s/access.log who;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server { listen 80; listen [::]:80 ipv6only=on; root %[1]s; }
}
`, dir)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return err
	}
	return w.start(ctx, pod, netlab.Spec{
		Name: processName(pod, "nginx"), Argv: []string{"nginx", "-e", "stderr", "-p", dir, "-c", file},
	}, 80)
}

// setReady takes away the page that the kubelet probes nginx for, or puts it back, and waits until the pod counts as that.
func (w *World) setReady(ctx context.Context, pod netlab.Pod, ready bool) error {
	dir, err := w.folder(pod, "nginx", 0, 0)
	if err != nil {
		return err
	}
	from, to := filepath.Join(dir, "index.html"), filepath.Join(dir, "away.html")
	if ready {
		from, to = to, from
	}
	return errors.Join(os.Rename(from, to), w.Lab.SetReady(ctx, pod.Ref(), ready))
}

func (w *World) accessLog(pod netlab.Pod) (string, error) {
	content, err := os.ReadFile(filepath.Join(w.Lab.Dir(), "data", pod.Namespace+"_"+pod.Name, "nginx", "access.log"))
	return string(content), err
}
