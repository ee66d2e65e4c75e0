//go:build !linux

package cluster

import (
	"os/exec"
	"syscall"
)

// childAttributes: an own group. Only Linux can tie a child's life to its parent's; elsewhere a parent that is killed
// leaves its control plane running (see C5).
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func startBound(cmd *exec.Cmd) error { return cmd.Start() }
