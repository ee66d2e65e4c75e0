package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

// initPlan is what init was told.
type initPlan struct {
	fleet               string
	keys                []string
	names               []string
	signers             int
	notBefore, notAfter string
	rootKeys            []string
	makeRootKeys        int
	rootThreshold       int
	onlineKey           string
	expires             string
}

func newInit(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a fleet's root of trust: which keys may release which bundles, and who may change that",
		Long: `Make a fleet's root of trust in DIR: which keys may release which bundles, and which keys may change that. The hub is started with
DIR, which holds what is published (DIR/tuf), and every site file carries it.

Release keys: with --key, the given public keys are trusted; without, a pair is made: DIR/release.key and DIR/release.pub. --names says which
bundle names they may sign: a name, a beginning followed by "*", or "*"; --threshold how many of them must sign each bundle.

Root keys: with --root-key, the given public keys hold the root, --root-threshold of them together (more than half if not given); their holders
sign DIR/draft.json on their own machines (holdfast root sign), and holdfast root publish --no-hub completes it. Without, --root-keys pairs are made,
three if not given, of which two must sign, and everything is signed and published at once: carry DIR/root-1.key, root-2.key and root-3.key to three
places then. --root-keys 1 makes one, which is good for trying things out and nothing else.

The hub's online key, which can release nothing and change no root, is --online-key (holdfast key generate --online) or is made: DIR/online.key, for
the hub alone. Nothing is overwritten.`,
		Example: "  holdfast init ./fleet --fleet acme\n  holdfast init ./fleet --fleet acme --key team.pub --names 'shop-*'\n" +
			"  holdfast init ./fleet --fleet acme --root-key alice.pub --root-key bob.pub --root-key carol.pub --root-threshold 2",
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef(cmd, "init takes one directory, got %d arguments", len(args))
		}
		return nil
	}
	var plan initPlan
	cmd.Flags().StringVar(&plan.fleet, "fleet", "fleet", "`name` of the fleet")
	cmd.Flags().StringArrayVar(&plan.keys, "key", nil, "public release `key` to trust; may be repeated")
	cmd.Flags().StringArrayVar(&plan.names, "names", []string{"*"}, "`pattern` of bundle names that the keys may sign; may be repeated")
	cmd.Flags().IntVar(&plan.signers, "threshold", 1, "how many different release keys must sign each bundle")
	cmd.Flags().StringVar(&plan.notBefore, "not-before", "", "`time` from which what the keys signed may be accepted")
	cmd.Flags().StringVar(&plan.notAfter, "not-after", "", "`time` after which nothing new by the keys is accepted")
	cmd.Flags().StringArrayVar(&plan.rootKeys, "root-key", nil, "public `key` that holds the root; may be repeated")
	cmd.Flags().IntVar(&plan.makeRootKeys, "root-keys", 3, "how many root keys are made where none is given")
	cmd.Flags().IntVar(&plan.rootThreshold, "root-threshold", 0, "how many root keys must sign; 0 is more than half")
	cmd.Flags().StringVar(&plan.onlineKey, "online-key", "", "the hub's public online `key`")
	cmd.Flags().StringVar(&plan.expires, "root-expires", "", "`time` until which the root is good; a year from now if not given")
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
	f := fleetFolder{dir}
	if err := mustBeFree(f.draftPath(), f.path("")); err != nil {
		return err
	}
	c := &change{trust: &verify.Trust{Schema: verify.TrustSchema, Fleet: plan.fleet}, expires: d.now().Add(rootLife)}
	if err := c.plan(plan); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	private, err := d.releaseKeys(dir, c, plan)
	if err != nil {
		return err
	}
	rootKeys, err := d.rootKeys(dir, c, plan)
	if err != nil {
		return err
	}
	draft, err := c.draft(tuf.Metadata{})
	if err != nil {
		return err
	}
	d.sayf("root of trust of fleet %s: %s", plan.fleet, dir)
	if len(rootKeys) == 0 {
		if err := d.saveDraft(f.draftPath(), draft); err != nil {
			return err
		}
	} else if err := d.publishFirst(f, draft, rootKeys[:c.holders.Threshold]); err != nil {
		return err
	}
	switch len(rootKeys) {
	case 0:
	case 1:
		d.sayf("warning: one key holds the root: whoever gets %s and its password can change everything; holdfast key add --root adds holders", rootKeys[0])
	default:
		d.sayf("take the %d root keys to %d different places: %d of them change the root, and none is needed from day to day", len(rootKeys), len(rootKeys), c.holders.Threshold)
	}
	d.sayf("next: start the hub     holdfast-hub run --trust %s", dir)
	d.sayf("      build a bundle    holdfast bundle build DIR --name NAME --version 1.0.0 -o NAME.hfb")
	d.sayf("      sign it           holdfast bundle sign NAME.hfb --key %s", private)
	d.sayf("      give it the hub   holdfast bundle push NAME.hfb")
	return nil
}

// plan takes everything from the plan that needs no key to be made, so that nothing is written for a plan that cannot be.
func (c *change) plan(plan initPlan) error {
	if err := c.trust.Check(); err != nil {
		return err
	}
	if at, err := instant("--root-expires", plan.expires); err != nil {
		return err
	} else if at != nil {
		c.expires = *at
	}
	from, until, err := window(plan.notBefore, plan.notAfter)
	if err != nil {
		return err
	}
	for _, file := range plan.keys {
		public, err := readLimited(file, verify.MaxTrustSize)
		if err != nil {
			return err
		}
		if err := believe(c.trust, file, public, plan.names); err != nil {
			return err
		}
		key := &c.trust.Keys[len(c.trust.Keys)-1]
		key.NotBefore, key.NotAfter = from, until
	}
	if plan.signers != 1 {
		if plan.signers > max(1, len(plan.keys)) {
			return &failure{code: exitUsage, message: fmt.Sprintf("--threshold %d: there are only %d release keys", plan.signers, max(1, len(plan.keys)))}
		}
		c.trust.Thresholds = map[string]int{}
		for _, pattern := range plan.names {
			c.trust.Thresholds[pattern] = plan.signers
		}
	}
	for _, file := range plan.rootKeys {
		if err := c.addHolder(file, 0); err != nil {
			return err
		}
	}
	if c.holders.Threshold = plan.rootThreshold; plan.rootThreshold == 0 {
		c.holders.Threshold = len(plan.rootKeys)/2 + 1
		if len(plan.rootKeys) == 0 {
			c.holders.Threshold = plan.makeRootKeys/2 + 1
		}
	}
	if err := c.planOnline(plan.onlineKey); err != nil {
		return err
	}
	if len(plan.rootKeys) > 0 {
		return errors.Join(c.holders.Check(), c.trust.Check())
	}
	if plan.makeRootKeys < 1 || plan.makeRootKeys > author.MaxKeys || c.holders.Threshold < 1 || c.holders.Threshold > plan.makeRootKeys {
		return &failure{code: exitUsage, message: fmt.Sprintf("--root-keys %d, of which %d must sign: want 1 to %d, and no more signers than keys", plan.makeRootKeys, c.holders.Threshold, author.MaxKeys)}
	}
	return c.trust.Check()
}

// planOnline names the hub's online key, which is made where no file is given.
func (c *change) planOnline(file string) error {
	var public []byte
	var err error
	if file != "" {
		public, err = readLimited(file, online.MaxFile)
	} else {
		c.online, public, err = online.Generate()
	}
	if err != nil {
		return err
	}
	return c.nameOnline(public)
}

// nameOnline makes a public key the hub's only one.
func (c *change) nameOnline(public []byte) error {
	key, err := online.DecodePublic(public)
	if err != nil {
		return err
	}
	if c.trust.Online, err = online.Of(key); err != nil {
		return err
	}
	c.holders.Online = []string{string(public)}
	return nil
}

// releaseKeys makes a release key where none was given, and says where the private half is.
func (d *desk) releaseKeys(dir string, c *change, plan initPlan) (private string, err error) {
	if len(plan.keys) > 0 {
		return "your private key", nil
	}
	prefix := filepath.Join(dir, "release")
	public, err := d.makeKeys(prefix)
	if err != nil {
		return "", err
	}
	if err := believe(c.trust, prefix+".pub", public, plan.names); err != nil {
		return "", err
	}
	key := &c.trust.Keys[0]
	key.NotBefore, key.NotAfter, err = window(plan.notBefore, plan.notAfter)
	return prefix + ".key", err
}

// rootKeys makes the root keys where none were given, and writes the online key if init made it. It gives the files of the root keys it made.
func (d *desk) rootKeys(dir string, c *change, plan initPlan) (private []string, err error) {
	for n := 1; len(plan.rootKeys) == 0 && n <= plan.makeRootKeys; n++ {
		prefix := filepath.Join(dir, "root")
		if plan.makeRootKeys > 1 {
			prefix += fmt.Sprintf("-%d", n)
		}
		public, err := d.makeKeys(prefix)
		if err != nil {
			return nil, err
		}
		c.holders.Root, private = append(c.holders.Root, string(public)), append(private, prefix+".key")
	}
	if c.online == nil {
		return private, nil
	}
	return private, writeNew(filepath.Join(dir, onlineKeyFile), c.online, 0o600)
}

// publishFirst signs and publishes the first root where its keys are here.
func (d *desk) publishFirst(f fleetFolder, draft *author.Draft, rootKeys []string) error {
	for _, key := range rootKeys {
		if _, err := d.signDraft(draft, key); err != nil {
			return err
		}
	}
	raw, err := draft.Encode()
	if err != nil {
		return err
	}
	if err := writeNew(f.draftPath(), raw, 0o644); err != nil {
		return err
	}
	return d.publish(f, nil)
}

func believe(trust *verify.Trust, file string, public []byte, names []string) error {
	key, err := verify.NewKey(string(public), names...)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	trust.Keys = append(trust.Keys, key)
	return nil
}
