package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// desk is where the operator sits: the streams, the clock and what is known about the terminal.
type desk struct {
	in     *os.File
	out    io.Writer
	talk   io.Writer
	now    func() time.Time
	width  int  // columns of stdout; 0 is no limit
	colour bool // stdout takes colour
	live   bool // stderr is a terminal: progress may be drawn there

	contextFile string // --context
}

func newDesk() *desk {
	d := &desk{in: os.Stdin, out: os.Stdout, talk: os.Stderr, now: time.Now}
	d.live = term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb"
	if out := int(os.Stdout.Fd()); term.IsTerminal(out) {
		d.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if w, _, err := term.GetSize(out); err == nil {
			d.width = w
		}
	}
	return d
}

// sayf talks to the operator; it never carries data, and what it repeats of others steers no terminal.
func (d *desk) sayf(format string, args ...any) {
	for said := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		fmt.Fprintln(d.talk, printable(said))
	}
}

// conclude says what went wrong, if anything did, and gives the exit code.
func (d *desk) conclude(err error) int {
	if err == nil {
		return exitDone
	}
	f := explain(err)
	if f.message != "" {
		for _, l := range strings.Split(f.message, "\n") {
			d.sayf("error: %s", l)
		}
	}
	if f.hint != "" {
		d.sayf("hint: %s", f.hint)
	}
	return f.code
}
