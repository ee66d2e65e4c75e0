package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func TestMain(m *testing.M) {
	if os.Getenv(orphanmaker) != "" {
		makeOrphans()
	}
	// These tests are about the programs of a control plane, whatever provider the rest of the run uses.
	if err := os.Unsetenv("HOLDFAST_CLUSTER"); err != nil {
		panic(err)
	}
	cluster.Main(m)
}

// orphanmaker in the environment makes this test binary a parent that starts an API server and waits to be killed.
const orphanmaker = "HOLDFAST_TEST_ORPHANMAKER"

func makeOrphans() {
	c, err := cluster.Start(context.Background(), cluster.Options{ServerOnly: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.PID("etcd"), c.PID("kube-apiserver"))
	select {}
}

func clientOf(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// eventually waits until check returns nil, and fails the test with its last error after the limit.
func eventually(t *testing.T, what string, limit time.Duration, check func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-late:
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

// gone is nil when no process has the id.
func gone(pid int) error {
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d is there (%v)", pid, err)
	}
	return nil
}

func pids(c *cluster.Cluster) map[string]int {
	all := map[string]int{}
	for _, program := range cluster.Programs {
		if pid := c.PID(program); pid != 0 {
			all[program] = pid
		}
	}
	return all
}

func writeScript(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}
