package cluster_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func TestF21ObjectsSurviveKilledPrograms(t *testing.T) {
	t.Parallel()
	c := startServer(t, cluster.Options{})
	client := clientOf(t, c.Config())
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: named}, create); err != nil {
		t.Fatal(err)
	}
	for _, down := range [][]string{{"kube-apiserver"}, {"etcd"}, {"kube-apiserver", "etcd"}} {
		for _, program := range down {
			before := c.PID(program)
			if err := c.Kill(program); err != nil {
				t.Fatal(err)
			}
			if c.Running(program) || gone(before) != nil {
				t.Error(program, "still runs after Kill")
			}
			if err := c.Kill(program); err == nil {
				t.Error("killed twice:", program)
			}
		}
		for _, program := range down {
			if err := c.StartProgram(t.Context(), program); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.StartProgram(t.Context(), down[0]); err == nil {
			t.Error("started twice:", down[0])
		}
		// A kept-alive connection of the dead server may cost one attempt.
		eventually(t, "object after a restart", 10*time.Second, func() error {
			_, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "shop", get)
			return err
		})
	}
}

func TestF21PausedServerAnswersNothingUntilResumed(t *testing.T) {
	t.Parallel()
	c := startServer(t, cluster.Options{})
	client := clientOf(t, c.Config())
	if err := c.Pause("kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.CoreV1().Namespaces().Get(ctx, "default", get); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("a paused server answered:", err)
	}
	if !c.Running("kube-apiserver") {
		t.Error("paused is not ended")
	}
	if err := c.Resume("kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), "default", get); err != nil {
		t.Error("after resuming:", err)
	}
}

// The kernel ties a child to the thread that started it, not to the process.
func TestC5ProgramOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	c := startServer(t, cluster.Options{})
	if err := c.Kill("etcd"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		done <- c.StartProgram(t.Context(), "etcd")
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		<-ctx.Done()
		cancel()
		if !c.Running("etcd") {
			t.Fatal("etcd died with the thread of its starter")
		}
	}
}

func TestUnknownProgramIsRefused(t *testing.T) {
	c := cluster.Shared(t)
	if err := c.StartProgram(t.Context(), "kubelet"); err == nil {
		t.Error("started a kubelet")
	}
	if err := c.Kill("kubelet"); err == nil {
		t.Error("killed a kubelet")
	}
}
