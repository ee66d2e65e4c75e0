package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// settings is what root set was told.
type settings struct {
	floors, thresholds []string
	epoch              uint64
	rootThreshold      int
	sigstoreRoot       string
	expires            string
	renew              bool
}

func newRootSet(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Change floors, thresholds, the counter epoch, or how long the root is good",
		Long: `Change what the root of trust says besides keys. --floor NAME=COUNTER refuses lower counters for ever; --threshold PATTERN=N wants N
different signers for the names that match, 0 takes the line away. --counter-epoch begins release counters anew, after a stolen key drove
one up: raise floors with it. --renew makes a new root although nothing changes, before the old one expires.

The change is a draft until enough root keys have signed it and it is published.`,
		Example: "  holdfast root set --floor pos=1004002900\n  holdfast root set --threshold 'pos=2' --dir fleet\n  holdfast root set --renew --expires 2028-01-01",
		Args:    exactly(),
	}
	dir := dirFlag(cmd)
	var s settings
	cmd.Flags().StringArrayVar(&s.floors, "floor", nil, "`NAME=COUNTER`; may be repeated")
	cmd.Flags().StringArrayVar(&s.thresholds, "threshold", nil, "`PATTERN=N` signers; may be repeated")
	cmd.Flags().Uint64Var(&s.epoch, "counter-epoch", 0, "the new counter `epoch`, higher than the last")
	cmd.Flags().IntVar(&s.rootThreshold, "root-threshold", 0, "how many root keys must sign")
	cmd.Flags().StringVar(&s.sigstoreRoot, "sigstore-root", "", "trusted_root.json `file` with the authorities for identities")
	cmd.Flags().StringVar(&s.expires, "expires", "", "`time` until which root and trust document are good; a year from now if not given")
	cmd.Flags().BoolVar(&s.renew, "renew", false, "make a new root although nothing changes")
	cmd.RunE = func(*cobra.Command, []string) error {
		return d.change(*dir, func(c *change) error { return c.set(s) })
	}
	return cmd
}

func (c *change) set(s settings) error {
	c.newRoot = s.renew
	at, err := instant("--expires", s.expires)
	if err != nil {
		return err
	}
	if at != nil {
		c.expires = *at
	}
	if s.rootThreshold != 0 {
		c.holders.Threshold = s.rootThreshold
	}
	if s.epoch != 0 {
		if s.epoch <= c.trust.CounterEpoch {
			return fmt.Errorf("--counter-epoch %d: it is %d now and only rises", s.epoch, c.trust.CounterEpoch)
		}
		c.trust.CounterEpoch = s.epoch
	}
	if s.sigstoreRoot != "" {
		if c.trust.SigstoreRoot, err = readLimited(s.sigstoreRoot, verify.MaxTrustSize); err != nil {
			return err
		}
	}
	if err := c.setFloors(s.floors); err != nil {
		return err
	}
	return c.setThresholds(s.thresholds)
}

func (c *change) setFloors(pairs []string) error {
	floors, err := splitPairs("--floor", pairs)
	if err != nil {
		return err
	}
	for name, counter := range floors {
		if c.trust.Floors == nil {
			c.trust.Floors = map[bundle.Name]bundle.Counter{}
		}
		if old := c.trust.Floors[bundle.Name(name)]; bundle.Counter(counter) < old {
			return fmt.Errorf("--floor %s=%d: it is %d now and only rises", name, counter, old)
		}
		c.trust.Floors[bundle.Name(name)] = bundle.Counter(counter)
	}
	return nil
}

func (c *change) setThresholds(pairs []string) error {
	thresholds, err := splitPairs("--threshold", pairs)
	if err != nil {
		return err
	}
	for pattern, signers := range thresholds {
		if c.trust.Thresholds == nil {
			c.trust.Thresholds = map[string]int{}
		}
		if c.trust.Thresholds[pattern] = int(min(signers, 1<<30)); signers == 0 {
			delete(c.trust.Thresholds, pattern)
		}
	}
	return nil
}

func splitPairs(flag string, pairs []string) (map[string]uint64, error) {
	texts, err := splitSets(pairs)
	if err != nil {
		return nil, &failure{code: exitUsage, message: flag + ": want NAME=NUMBER, each name once", cause: err}
	}
	values := map[string]uint64{}
	for name, value := range texts {
		if values[name], err = strconv.ParseUint(value, 10, 64); err != nil {
			return nil, &failure{code: exitUsage, message: fmt.Sprintf("%s %s=%s: want a number", flag, name, value), cause: err}
		}
	}
	return values, nil
}
