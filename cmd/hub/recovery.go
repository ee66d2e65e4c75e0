package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/hub"
	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/internal/wholefile"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

func newRecovery() *cobra.Command {
	cmd := &cobra.Command{
		Use: "recovery", Short: "Keep what another machine needs beside a backup, and put it there",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRecoverySave(), newRecoveryInstall())
	return cmd
}

func newRecoverySave() *cobra.Command {
	var o runOptions
	var to string
	cmd := &cobra.Command{
		Use: "save --trust FOLDER --to FILE", Short: "Write the secrets of a hub, running or not, into one file",
		Long: `Write the secrets of a hub, running or not, into one file: the keys of its bus and of its CA, the admin's access, the online
keys, the key that opens store and backups, and the published root of trust. With it and a backup another machine becomes this
hub; whoever has it is this hub. It holds no key that releases anything. Keep it apart from the backups, offline. Write it anew
after a rotation of the online key, and after holdfast-hub store rotate-key --rewrite.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" || o.trust == "" {
				return usageError{errors.New("--trust and --to: both are needed")}
			}
			repository := o.repository()
			if _, err := tuf.ReadRepository(os.DirFS(repository)); err != nil {
				return fmt.Errorf("trust folder %s: %w", o.trust, err)
			}
			var keys [][]byte
			for _, file := range o.onlineFiles() {
				raw, err := readFile("online key", file, online.MaxFile)
				if err != nil {
					return missingKey{err}
				}
				keys = append(keys, raw)
			}
			keyed, err := keyedData(o.data, o.storeKey, "error")
			if err != nil {
				return err
			}
			saved, err := keyed.Recovery(cmd.Context(), os.DirFS(repository), keys)
			if err != nil {
				return err
			}
			raw, err := saved.Encode()
			if err != nil {
				return err
			}
			if err := wholefile.Create(to, raw, 0o600); err != nil {
				return fmt.Errorf("recovery: %w", err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s holds the secrets of this hub: keep it apart from its backups, and from whoever may not be this hub\n", to)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", defaultData, "`directory` of the hub's keys and store")
	f.StringVar(&o.storeKey, "store-key", "", storeKeyUsage)
	f.StringVar(&o.trust, "trust", "", "`folder` with the fleet's root of trust, as the hub is started with")
	f.StringSliceVar(&o.onlineKeys, "online-key", nil, "private key `file` that the hub is started with, repeatable (default online.key in the folder of --trust)")
	f.StringVar(&to, "to", "", "new `file`, which only its owner may read")
	return cmd
}

func newRecoveryInstall() *cobra.Command {
	var data, storeKey, trust, from string
	cmd := &cobra.Command{
		Use: "install --from FILE --trust FOLDER", Short: "Put the secrets of a hub on a machine that has none",
		Long: `Put the secrets of a hub on a machine that has none. What is there is never replaced. Then restore a backup and start the hub:

    holdfast-hub recovery install --from hub.recovery --data DIR --trust FOLDER
    holdfast-hub restore --from BACKUP --data DIR --yes
    holdfast-hub run --data DIR --trust FOLDER --host …

The old hub must not run any more: two hubs of one name would order against each other.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || trust == "" {
				return usageError{errors.New("--from and --trust: both are needed")}
			}
			raw, err := readFile("recovery", from, hub.MaxRecovery+1)
			if err != nil {
				return err
			}
			recovery, err := hub.DecodeRecovery(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Clean(from), err)
			}
			keyed, err := keyedData(data, storeKey, "error")
			if err != nil {
				return err
			}
			if err := recovery.Install(cmd.Context(), keyed, trust); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "the hub's secrets are in %s and %s\nnext: holdfast-hub restore --from BACKUP --data %s --yes\n", data, trust, data)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "`file` that recovery save wrote")
	f.StringVar(&data, "data", defaultData, "`directory` for the hub's keys and store, empty or missing")
	f.StringVar(&storeKey, "store-key", "", storeKeyUsage)
	f.StringVar(&trust, "trust", "", "`folder` for the root of trust and the online keys, empty or missing")
	return cmd
}
