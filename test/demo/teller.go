package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// teller writes what happens, in colour only on a terminal.
type teller struct {
	out   io.Writer
	bold  string
	faint string
	green string
	reset string
	began time.Time
}

func newTeller(out *os.File) *teller {
	t := &teller{out: out, began: time.Now()}
	if term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == "" {
		t.bold, t.faint, t.green, t.reset = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m"
	}
	return t
}

func (t *teller) scene(format string, args ...any) {
	fmt.Fprintf(t.out, "\n%s== %s%s\n", t.bold, fmt.Sprintf(format, args...), t.reset)
}

func (t *teller) done(format string, args ...any) {
	fmt.Fprintf(t.out, "%s%5.1fs%s %s✓%s %s\n", t.faint, time.Since(t.began).Seconds(), t.reset, t.green, t.reset, fmt.Sprintf(format, args...))
}

func (t *teller) print(title, text string) {
	fmt.Fprintf(t.out, "\n  %s$ %s%s\n", t.faint, title, t.reset)
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprint(t.out, "  ", line)
	}
	fmt.Fprintln(t.out)
}
