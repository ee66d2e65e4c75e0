package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
)

// failure is an error of a command that was called rightly.
type failure struct {
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func failed(err error, hint string) error { return &failure{err, hint} }

func asFailure(err error, target **failure) bool { return errors.As(err, target) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast-edge",
		Short: "Keep one site's cluster on the bundles its owner signed",
		Long: `holdfast-edge is the agent of one site. It takes bundles from the hub, verifies them, applies them to the site's cluster and keeps them
right, also while the hub is away, for as long as it takes.

Exit codes: 0 ended when asked to, 1 failed, 2 called wrongly.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.AddCommand(newRun(), newStatus(), newEvents(), newBusy(), newOverride(), newDoctor(), newImport(), newExportReport(), newPermissions(), newStore(), newWatchdog(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), buildinfo.Version())
			return err
		},
	})
	return root
}
