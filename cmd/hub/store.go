package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/hub"
)

const storeKeyUsage = "`place` of the secret that seals the key of store and backups: file:PATH (such as a mounted Secret) or command:/PATH (default " + hub.StoreKeyFile + " in the data directory)"

func newStore() *cobra.Command {
	cmd := &cobra.Command{
		Use: "store", Short: "Change the key of a stopped hub's store",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var data, storeKey, to, level string
	var anew bool
	rotate := &cobra.Command{
		Use: "rotate-key", Short: "Change the key that encrypts the store of a stopped hub",
		Long: `Change the secret that seals the key of a stopped hub's store: to a new one in the same place, or with --new-store-key to the
one of another place, which is made where it is missing. That costs one small file. With --rewrite the key itself is changed
too and the whole store is written with the new one, which needs twice its size beside it: for when somebody may have had both
the secret and a copy of the store. If it is cut off, call it again. A running hub is given a new secret without this verb: put
it into the first line, leave the old one in the second, and restart the hub.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keyed, err := keyedData(data, storeKey, level)
			if err != nil {
				return err
			}
			in, err := hub.RotateKey(cmd.Context(), keyed, to, anew)
			if err != nil {
				return err
			}
			talk := cmd.ErrOrStderr()
			fmt.Fprintf(talk, "the store's key is changed; it is in %s\n", in)
			if to != "" {
				fmt.Fprintln(talk, "next: start the hub with --store-key "+to)
			}
			if anew {
				fmt.Fprintln(talk, "next: make a backup; those from before are opened by the key from before alone")
			}
			return nil
		},
	}
	f := rotate.Flags()
	f.StringVar(&data, "data", defaultData, "`directory` of the hub's keys and store")
	f.StringVar(&storeKey, "store-key", "", storeKeyUsage)
	f.StringVar(&to, "new-store-key", "", "another `place` for the secret, as --store-key (default: the same place, a new secret)")
	f.BoolVar(&anew, "rewrite", false, "change the key itself, too, and write the store anew")
	f.StringVar(&level, "log-level", "error", "`level`: debug, info, warn or error")
	cmd.AddCommand(rotate)
	return cmd
}
