package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/hub"
)

func newNATSConfig() *cobra.Command {
	data, resolver := defaultData, ""
	cmd := &cobra.Command{
		Use: "nats-config", Short: "Print the configuration that an external NATS server or cluster needs to be this hub's bus",
		Long: "Print the accounts of an external NATS server or cluster. They are made of the keys in the data directory, which are made where they\n" +
			"are missing; the configuration holds no secret. Then start the hub with --nats-url.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := hub.BusConfig(data, resolver)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), config)
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", data, "`directory` of the hub's keys")
	cmd.Flags().StringVar(&resolver, "resolver-dir", "", "`folder` in which each server keeps account tokens, and with them who is revoked, over its own restart (default: in memory)")
	return cmd
}
