package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-fleet/holdfast/test/kind"
)

// kindTimeout bounds the creation of a kind cluster, its image pulled included.
const kindTimeout = 10 * time.Minute

// kindCount tells the kind clusters of one process apart.
var kindCount atomic.Int32

// createKind makes a kind cluster by the kind tool: HOLDFAST_KIND, or bin/kind of the checkout, or kind in PATH.
func (c *Cluster) createKind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kindTimeout)
	defer cancel()
	if err := dockerAnswers(ctx); err != nil {
		return err
	}
	tool, err := kindTool()
	if err != nil {
		return err
	}
	prefix := os.Getenv("HOLDFAST_KIND_PREFIX") // by it run.sh finds what a killed suite left behind
	c.name = fmt.Sprintf("%s%s-%d-%d", prefix, c.name, os.Getpid(), kindCount.Add(1))
	file := filepath.Join(c.dir, "kind.kubeconfig")
	// Registered first: a creation that fails half-way leaves containers behind.
	c.onStop = append([]func() error{func() error {
		return run(exec.Command(tool, "delete", "cluster", "--name", c.name, "--kubeconfig", file))
	}}, c.onStop...)
	create := exec.CommandContext(ctx, tool, "create", "cluster", "--name", c.name, "--kubeconfig", file, "--config", "-", "--wait", "3m")
	create.Stdin = bytes.NewReader(kind.Config)
	if err := run(create); err != nil {
		return err
	}
	return c.adopt(file)
}

func dockerAnswers(ctx context.Context) error {
	docker, err := exec.LookPath("docker")
	if err != nil {
		return errors.New("kind needs Docker, and there is no docker in PATH; without Docker use HOLDFAST_CLUSTER=controlplane")
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := run(exec.CommandContext(ctx, docker, "version", "--format", "{{.Server.Version}}")); err != nil {
		return fmt.Errorf("kind needs Docker, and its daemon does not answer; without Docker use HOLDFAST_CLUSTER=controlplane: %w", err)
	}
	return nil
}

func kindTool() (string, error) {
	if named := os.Getenv("HOLDFAST_KIND"); named != "" {
		return named, nil
	}
	if root, err := moduleRoot(); err == nil {
		built := filepath.Join(root, "bin", "kind")
		if _, err := os.Stat(built); err == nil {
			return built, nil
		}
	}
	tool, err := exec.LookPath("kind")
	if err != nil {
		return "", errors.New("no kind tool: test/kind/run.sh installs it into bin/kind; or name one in HOLDFAST_KIND")
	}
	return tool, nil
}

// run runs a command to its end; its error carries what it said.
func run(cmd *exec.Cmd) error {
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(said))
	}
	return nil
}
