// Command holdfast-edge is the agent of one site: it keeps the site's cluster on the bundles its owner signed, with the hub or without.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // windows hold in the site's time zone, on machines without zones too
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(Main(ctx, os.Args[1:]))
}

// Main runs the command line and gives the exit code.
func Main(ctx context.Context, args []string) int {
	root := newRoot()
	root.DisableSuggestions = true // they are more lines than an error is
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(os.Stderr, "error: %v\n", err)
	var failed *failure
	if asFailure(err, &failed) {
		if failed.hint != "" {
			fmt.Fprintf(os.Stderr, "hint: %s\n", failed.hint)
		}
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "hint: holdfast-edge --help")
	return exitUsage
}
