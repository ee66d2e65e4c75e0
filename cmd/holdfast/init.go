package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// initPlan is what init was told.
type initPlan struct {
	fleet string
	keys  []string
	names []string
}

func newInit(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a fleet's root of trust: which release keys may sign which bundles",
		Long: `Make a fleet's root of trust, DIR/trust.json: which release keys may sign which bundles. The hub is started with it, and
every site file carries it.

With --key, the given public keys are trusted. Without, a release key pair is made: DIR/release.key and DIR/release.pub.
--names says which bundle names the keys may sign: a name, a beginning followed by "*", or "*". Nothing is overwritten.`,
		Example: "  holdfast init ./fleet --fleet acme\n  holdfast init ./fleet --fleet acme --key team.pub --names 'shop-*'",
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef(cmd, "init takes one directory, got %d arguments", len(args))
		}
		return nil
	}
	var plan initPlan
	cmd.Flags().StringVar(&plan.fleet, "fleet", "fleet", "`name` of the fleet")
	cmd.Flags().StringArrayVar(&plan.keys, "key", nil, "public `key` to trust; may be repeated")
	cmd.Flags().StringArrayVar(&plan.names, "names", []string{"*"}, "`pattern` of bundle names that the keys may sign; may be repeated")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir := "."
		if len(args) == 1 {
			dir = args[0]
		}
		return d.initFleet(dir, plan)
	}
	return cmd
}

func (d *desk) initFleet(dir string, plan initPlan) error {
	path := filepath.Join(dir, "trust.json")
	if err := mustBeFree(path); err != nil {
		return err
	}
	trust := &verify.Trust{Schema: verify.TrustSchema, Fleet: plan.fleet}
	if err := trust.Check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range plan.keys {
		public, err := readLimited(file, verify.MaxTrustSize)
		if err != nil {
			return err
		}
		if err := believe(trust, file, public, plan.names); err != nil {
			return err
		}
	}
	private := "your private key"
	if len(plan.keys) == 0 {
		prefix := filepath.Join(dir, "release")
		public, err := d.makeKeys(prefix)
		if err != nil {
			return err
		}
		if err := believe(trust, prefix+".pub", public, plan.names); err != nil {
			return err
		}
		private = prefix + ".key"
	}
	raw, err := verify.EncodeTrust(trust)
	if err != nil {
		return err
	}
	if err := writeNew(path, raw, 0o644); err != nil {
		return err
	}
	d.sayf("trust of fleet %s: %s", plan.fleet, path)
	d.sayf("next: start the hub     holdfast-hub run --trust %s", path)
	d.sayf("      build a bundle    holdfast bundle build DIR --name NAME --version 1.0.0 -o NAME.hfb")
	d.sayf("      sign it           holdfast bundle sign NAME.hfb --key %s", private)
	d.sayf("      give it the hub   holdfast bundle push NAME.hfb")
	return nil
}

func believe(trust *verify.Trust, file string, public []byte, names []string) error {
	key, err := verify.NewKey(string(public), names...)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	trust.Keys = append(trust.Keys, key)
	return nil
}
