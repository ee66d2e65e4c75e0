package cluster

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// childAttributes: an own group, so that a Ctrl-C at the terminal reaches the parent alone, which then stops them in
// order; and death with the parent, however it ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// starter is a thread that lives as long as the process. The kernel sends the parent's death signal when the *thread*
// that forked ends, and Go ends a thread whose goroutine was locked to it and returned (tests of network namespaces do
// that); a child started on such a thread would be killed out of the blue.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for do := range work {
			do()
		}
	}()
	return work
})

func startBound(cmd *exec.Cmd) error {
	result := make(chan error)
	starter() <- func() { result <- cmd.Start() }
	return <-result
}
