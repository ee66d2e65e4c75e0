package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/hub"
)

func newBackup() *cobra.Command {
	var data, storeKey, to, level string
	cmd := &cobra.Command{
		Use: "backup --to FOLDER", Short: "Copy the store of a stopped hub into a new folder",
		Long: `Copy the store of a stopped hub into a new folder, with digests, sealed to the hub's key.

A running hub makes backups by itself: holdfast-hub run --backup-to FOLDER. The keys in the data directory are not in a
backup: holdfast-hub recovery save writes them into a file of its own.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{errors.New("--to: a folder is needed")}
			}
			keyed, err := keyedData(data, storeKey, level)
			if err != nil {
				return err
			}
			store, err := hub.OpenStopped(cmd.Context(), keyed)
			if err != nil {
				return err
			}
			defer store.Close()
			made, err := store.Backup(cmd.Context(), to)
			if err != nil {
				return err
			}
			return told(cmd, made)
		},
	}
	cmd.Flags().StringVar(&data, "data", defaultData, "`directory` of the hub's keys and store")
	cmd.Flags().StringVar(&storeKey, "store-key", "", storeKeyUsage)
	cmd.Flags().StringVar(&to, "to", "", "new `folder` for the backup")
	cmd.Flags().StringVar(&level, "log-level", "error", "`level`: debug, info, warn or error")
	return cmd
}

func newRestore() *cobra.Command {
	var data, storeKey, from, level string
	var yes bool
	cmd := &cobra.Command{
		Use: "restore --from FOLDER --yes", Short: "Put a backup in the place of a stopped hub's store",
		Long: `Put a backup in the place of a stopped hub's store, after its digests were checked.

What the hub learned after the backup is gone from it. Sites go on with what they have: they send again what they still keep
of their events, sites with newer assignments than the restored hub knows are flagged, and nothing rolls back by itself.
A restore that was cut off has changed nothing, and is repeated whole.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				return usageError{errors.New("--from: the folder of a backup is needed")}
			}
			backup, err := bus.ReadBackup(from)
			if err != nil {
				return err
			}
			if !yes {
				if err := told(cmd, backup); err != nil {
					return err
				}
				return usageError{errors.New("this would replace the hub's store: --yes does it")}
			}
			keyed, err := keyedData(data, storeKey, level)
			if err != nil {
				return err
			}
			if _, err := hub.Restore(cmd.Context(), keyed, from); err != nil {
				return err
			}
			return told(cmd, backup)
		},
	}
	cmd.Flags().StringVar(&data, "data", defaultData, "`directory` of the hub's keys and store")
	cmd.Flags().StringVar(&storeKey, "store-key", "", storeKeyUsage)
	cmd.Flags().StringVar(&from, "from", "", "`folder` of the backup")
	cmd.Flags().BoolVar(&yes, "yes", false, "replace the store")
	cmd.Flags().StringVar(&level, "log-level", "error", "`level`: debug, info, warn or error")
	return cmd
}

func newSettle() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "settle", Short: "Say that the damage a stopped hub found in its store has been looked at",
		Long: "Say that the damage a stopped hub found in its store has been looked at. Until then the hub is not ready, and says what is damaged.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			settled, err := hub.SettleLedger(data)
			if err != nil {
				return err
			}
			for _, finding := range settled {
				fmt.Fprintln(cmd.OutOrStdout(), finding)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d settled\n", len(settled))
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", defaultData, "`directory` of the hub's keys and store")
	return cmd
}

// keyedData is the directory of a stopped hub.
func keyedData(data, storeKey, level string) (hub.Keyed, error) {
	log, err := newLogger(level, "console")
	if err != nil {
		return hub.Keyed{}, usageError{err}
	}
	return hub.Keyed{Dir: data, StoreKey: storeKey, Log: log}, nil
}

// told prints what a backup holds.
func told(cmd *cobra.Command, backup bus.Backup) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "backup of %s\n", backup.Time.UTC().Format(time.RFC3339))
	for _, taken := range backup.Streams {
		if _, err := fmt.Fprintf(out, "%-14s %8d messages %12d bytes\n", taken.Name, taken.Messages, taken.Size); err != nil {
			return err
		}
	}
	return nil
}
