package storekey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// commandPatience is how long a program may take: a TPM is slow, and nobody waits at a console.
const commandPatience = 30 * time.Second

// command is a source that a program prints. What its arguments are is divided by blanks; there is no quoting, and no shell.
func command(line string) (Source, error) {
	words := strings.Fields(line)
	if len(words) == 0 || !filepath.IsAbs(words[0]) {
		return nil, fmt.Errorf("store key %.200q: want command:/PATH ARGUMENT…, with a path that begins at /", "command:"+line)
	}
	return &program{words}, nil
}

type program struct{ words []string }

// String leaves out the arguments: they may be secret.
func (p *program) String() string { return "command:" + p.words[0] }

func (p *program) Read(ctx context.Context) (Ring, error) {
	ctx, cancel := context.WithTimeout(ctx, commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.words[0], p.words[1:]...)
	out := &limited{limit: maxText + 1}
	cmd.Stdout, cmd.WaitDelay = out, time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not end within %s", commandPatience)
	}
	var ring Ring
	if err == nil {
		if ring, err = Parse(out.Bytes()); err == nil && ring.Empty() {
			err = errors.New("it printed nothing")
		}
	}
	if err != nil {
		return Ring{}, fmt.Errorf("store key %s: %w", p, err)
	}
	return ring, nil
}

func (p *program) Write(context.Context, Ring) error {
	return fmt.Errorf("store key %s: %w", p, ErrReadOnly)
}

// limited keeps the first bytes of what is written.
type limited struct {
	bytes.Buffer
	limit int
}

func (l *limited) Write(b []byte) (int, error) {
	_, _ = l.Buffer.Write(b[:min(len(b), l.limit-l.Len())])
	return len(b), nil
}
