package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"k8s.io/client-go/rest"
)

// Programs of a control plane, in the order they are started.
var Programs = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"}

// Kill ends one of Programs at once (SIGKILL) and returns when it is gone. ErrForeign on clusters that are not ours.
func (c *Cluster) Kill(program string) error {
	return c.onPlane("kill", program, func() error { return c.plane.kill(program) })
}

// StartProgram starts a program again that was killed or died. After etcd or kube-apiserver it waits until the API
// server is ready, unless the other of the two is down.
func (c *Cluster) StartProgram(ctx context.Context, program string) error {
	return c.onPlane("start", program, func() error {
		if err := c.plane.start(program); err != nil {
			return err
		}
		if program != "etcd" && program != "kube-apiserver" || !c.plane.running("etcd") || !c.plane.running("kube-apiserver") {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		return c.waitReady(ctx)
	})
}

// Pause stops a program without ending it (SIGSTOP): connections stay open and nothing answers.
func (c *Cluster) Pause(program string) error {
	return c.onPlane("pause", program, func() error { return c.plane.pause(program) })
}

// Resume lets a paused program go on.
func (c *Cluster) Resume(program string) error {
	return c.onPlane("resume", program, func() error { return c.plane.resume(program) })
}

// Running says whether a program of ours runs (or is paused). It is false for programs that are not ours.
func (c *Cluster) Running(program string) bool { return c.plane != nil && c.plane.running(program) }

// PID of a running program, for measurements of memory and processor time; 0 when it is not running or not ours.
func (c *Cluster) PID(program string) int {
	if c.plane == nil {
		return 0
	}
	return c.plane.pid(program)
}

func (c *Cluster) onPlane(verb, program string, do func() error) error {
	err := ErrForeign
	if c.plane != nil {
		err = do()
	}
	if err != nil {
		return fmt.Errorf("cluster %s: %s %s: %w", c.name, verb, program, err)
	}
	return nil
}

// waitReady waits for the API server's own word that it is ready, its bootstrap roles included.
func (c *Cluster) waitReady(ctx context.Context) error {
	client, err := rest.HTTPClientFor(c.admin)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return c.plane.watchOver(ctx, "kube-apiserver", []string{"etcd", "kube-apiserver"}, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.admin.Host+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			words, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
			return fmt.Errorf("/readyz: %s: %s", response.Status, words)
		}
		return nil
	})
}
