// Command holdfast-hub runs a fleet's hub.
//
// Exit codes: 0 done, 1 it could not be done, 2 the command line is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
)

func main() { os.Exit(execute()) }

func execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	if err := root.ExecuteContext(ctx); err != nil {
		return complain(os.Stderr, err)
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "holdfast-hub", Short: "Run the hub of a Holdfast fleet", SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRun(), newBackup(), newRestore(), newRecovery(), newSettle(), newStore(), newNATSConfig(), newVersion())
	for _, command := range root.Commands() {
		command.Args = noArguments
		for _, below := range command.Commands() {
			below.Args = noArguments
		}
	}
	return root
}

// usageError is a command line that cannot be meant.
type usageError struct{ error }

// Hint says where help is.
func (usageError) Hint() string { return "holdfast-hub --help" }

func (u usageError) Unwrap() error { return u.error }

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, got %q", cmd.Name(), args[0])}
	}
	return nil
}

// complain tells the person what went wrong and what to do, and gives the exit code.
func complain(w io.Writer, err error) int {
	// A hint that an adapter could only put into its text.
	text, hint, _ := strings.Cut(err.Error(), ": hint: ")
	var knows interface{ Hint() string }
	if errors.As(err, &knows) && knows.Hint() != "" {
		hint = knows.Hint()
	}
	fmt.Fprintln(w, "error:", text)
	if hint != "" {
		fmt.Fprintln(w, "hint:", hint)
	}
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "holdfast-hub", buildinfo.Version())
			return err
		},
	}
}
