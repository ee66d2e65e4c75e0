package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// plane is the set of programs of one control plane, each its own process in its own process group.
type plane struct {
	binary string
	dir    string
	flags  map[string][]string // by program

	mu        sync.Mutex
	processes map[string]*process
	stopped   bool
}

// process is one life of a program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it is gone and reaped
	err  error         // how it ended; valid after done

	killed bool // by us; under the plane's lock
}

func newPlane(binary, dir string, port int, options Options) *plane {
	return &plane{binary: binary, dir: dir, flags: programFlags(dir, port, options), processes: map[string]*process{}}
}

func (p *plane) start(program string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	flags, known := p.flags[program]
	switch {
	case !known:
		return fmt.Errorf("no program %q (have %q)", program, Programs)
	case p.stopped:
		return errors.New("the cluster was stopped")
	case p.alive(program):
		return errors.New("already running")
	}
	log, err := os.OpenFile(p.logFile(program), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.binary, append([]string{program}, flags...)...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = log, log
	// Nothing of the caller's environment: a proxy, a KUBECONFIG or a GOGC there must not change the cluster.
	cmd.Env = []string{"HOME=" + p.dir, "TMPDIR=" + p.dir, "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = childAttributes()
	if err := startBound(cmd); err != nil {
		return err
	}
	life := &process{cmd: cmd, done: make(chan struct{})}
	p.processes[program] = life
	go func() {
		life.err = cmd.Wait()
		close(life.done)
	}()
	return nil
}

// alive wants the lock held.
func (p *plane) alive(program string) bool {
	life := p.processes[program]
	if life == nil {
		return false
	}
	select {
	case <-life.done:
		return false
	default:
		return true
	}
}

func (p *plane) running(program string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive(program)
}

func (p *plane) pid(program string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive(program) {
		return 0
	}
	return p.processes[program].cmd.Process.Pid
}

// signal sends to the program's whole group. The group of a process that is not yet reaped cannot be reused, and reaping
// closes done, so under the lock a live process is never mistaken for another; that it ends meanwhile is not an error.
func (p *plane) signal(program string, s syscall.Signal) (*process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive(program) {
		return nil, errors.New("not running")
	}
	life := p.processes[program]
	if err := syscall.Kill(-life.cmd.Process.Pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return nil, err
	}
	life.killed = life.killed || s == syscall.SIGKILL
	return life, nil
}

func (p *plane) kill(program string) error {
	life, err := p.signal(program, syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-life.done
	return nil
}

func (p *plane) pause(program string) error {
	_, err := p.signal(program, syscall.SIGSTOP)
	return err
}

func (p *plane) resume(program string) error {
	_, err := p.signal(program, syscall.SIGCONT)
	return err
}

// stopAll kills what runs, in the order that leaves the least to complain about, and refuses later starts.
func (p *plane) stopAll() error {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	var lives []*process
	for _, program := range slices.Backward(Programs) {
		if life, err := p.signal(program, syscall.SIGKILL); err == nil {
			lives = append(lives, life)
		}
	}
	for _, life := range lives {
		<-life.done
	}
	return nil
}

// watchOver polls until ready returns nil. It gives up early when one of the programs that this needs ended by itself,
// which is the usual reason why ready never would, and then shows that program's last words.
func (p *plane) watchOver(ctx context.Context, what string, programs []string, ready func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// Bounded: a paused or overloaded server must not hold one question for ever.
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := ready(ask)
		cancel()
		if err == nil {
			return nil
		}
		if died := p.death(programs); died != nil {
			return died
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s not ready (%w): %w; logs in %s", what, context.Cause(ctx), err, p.dir)
		case <-tick.C:
		}
	}
}

// death describes one of the programs that was started and ended by itself, or is nil.
func (p *plane) death(programs []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, program := range programs {
		life := p.processes[program]
		if life == nil || life.killed || p.alive(program) {
			continue
		}
		return fmt.Errorf("%s: %w; the end of %s:\n%s", program, life.err, p.logFile(program), tail(p.logFile(program)))
	}
	return nil
}

func (p *plane) logFile(program string) string { return filepath.Join(p.dir, program+".log") }

// tail is the last lines of a file, at most 2 KiB, or why it cannot be read.
func tail(file string) []byte {
	all, err := os.ReadFile(file)
	if err != nil {
		return []byte(err.Error())
	}
	const most = 2048
	if len(all) <= most {
		return all
	}
	all = all[len(all)-most:]
	return all[bytes.IndexByte(all, '\n')+1:]
}
