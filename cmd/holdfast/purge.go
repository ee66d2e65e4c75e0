package main

import "github.com/spf13/cobra"

func newPurge(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "purge", Short: "Have the hub forget what is over: old rollouts, what is left of them, old audit records",
		Long: `Have the hub forget what is over: rollouts that ended long ago and of which nothing comes any more, chunks that no rollout names, and the oldest
records of the audit log. How long each is kept is said where the hub is started (--keep-rollouts, --keep-audit), and the hub does it by itself every six hours.

A rollout by which returning sites still catch up is kept, however old. The audit log stays a chain: the hash of the last record that went is kept, and
holdfast audit verify begins there.`,
		Example: "  holdfast purge --dry-run\n  holdfast purge --yes", Args: exactly(),
	}
	f, asked := outputFlag(cmd), destructive(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		impact, err := hub.Foresee().Purge(cmd.Context())
		if err != nil {
			return err
		}
		if !asked.dry && !impact.Changed {
			d.sayf("%s", blastOf(impact))
			return d.show(*f, impact, func() page { return page{} })
		}
		return d.destroy(*f, asked, mended, impact, func() (string, error) {
			_, err := hub.Purge(cmd.Context())
			return "purged", err
		})
	}
	return cmd
}
