package main

import "github.com/spf13/cobra"

func newSecretDelete(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAMESPACE/NAME",
		Short: "Have sites remove a secret",
		Long: `Have sites remove a secret. The plan is shown first; without a terminal to ask on, --yes is needed. Sites that are away remove it when they come back.
The hub keeps what was sealed, as it keeps every bundle: change the password itself where somebody may have learnt it.`,
		Example: "  holdfast secret delete shop/db --site shop-berlin --yes",
		Args:    exactly("NAMESPACE/NAME"),
	}
	chosen := siteChoice(cmd)
	asked := destructive(cmd)
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref, err := parseSecretRef(args[0])
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		ids, err := chosen(cmd.Context(), hub)
		if err != nil {
			return err
		}
		return d.remove(cmd.Context(), *f, asked, hub, ref.bundle(), ids)
	}
	return cmd
}
