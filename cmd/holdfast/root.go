package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newRoot(d *desk) *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Keep a fleet of Kubernetes clusters on the software their owner signed for them",
		Long: `Keep a fleet of Kubernetes clusters at the edge on the software their owner signed for them.

Bundles are built, signed, checked and compared at the desk, without a hub. Everything about sites goes through a hub,
which is found by --context, HOLDFAST_CONTEXT or ~/.config/holdfast/context.json.`,
		Example: `  holdfast bundle build ./manifests --name shop --version 1.0.0 -o shop-1.0.0.hfb
  holdfast bundle sign shop-1.0.0.hfb --key release.key
  holdfast bundle push shop-1.0.0.hfb
  holdfast assign shop-berlin shop@1.0.0`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(d.out)
	root.SetErr(d.talk)
	root.PersistentFlags().StringVar(&d.contextFile, "context", "", "context `file` that says where the hub is, or the name of a kept one")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(cmd, "%s", err)
	})
	root.AddCommand(
		newReport(d),
		newInit(d), newKey(d), newRootOfTrust(d), newBundle(d), newToken(d), newSite(d), newUser(d), newAssign(d), newUnassign(d), newSecret(d),
		newGroup(d), newPlan(d), newRollout(d), newNotification(d), newPurge(d), newGet(d), newApply(d), newContext(d), newDoctor(d),
		newStatus(d), newDrift(d), newEvents(d), newAudit(d), newVersion(d), newExitCodes(),
	)
	return root
}

// group makes a command that only holds others.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usagef(cmd, "unknown command %q for %q", args[0], cmd.CommandPath())
		},
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// exactly wants the named arguments, no more and no fewer.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return usagef(cmd, "%s takes no arguments, but got %q", cmd.CommandPath(), args[0])
		}
		return usagef(cmd, "%s wants %s, got %d %s", cmd.CommandPath(), strings.Join(names, " and "), len(args), plural(len(args), "argument"))
	}
}

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &failure{code: exitUsage, message: fmt.Sprintf(format, args...), hint: fmt.Sprintf("%s --help", cmd.CommandPath())}
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
