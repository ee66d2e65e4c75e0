// Command holdfast is the operator's hand: it builds, signs, checks and compares bundles at the desk, without a hub, and talks to
// a hub about sites, assignments, drift and events.
//
// What it promises:
//
//	C1  Data goes to stdout, talk to stderr. With -o json the data is exactly the hub's API types, one document a call.
//	C2  An error is one line "error: …", with "hint: …" where there is something to do, and an exit code that scripts may rely on
//	    (holdfast help exit-codes).
//	C3  Every fact about a site is shown with its age. What a silent site said last is shown as what it was, never as what is.
//	C4  Nothing is destroyed without --yes or a question answered on a terminal; nothing secret is overwritten.
//	C5  Colour, progress and questions are only for terminals; NO_COLOR is honoured.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

// run is main with an exit code, so that tests run the very same program.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := newDesk()
	root := newRoot(d)
	root.SetArgs(os.Args[1:])
	return d.conclude(root.ExecuteContext(ctx))
}
