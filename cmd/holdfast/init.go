package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

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
	rootThreshold       int
	onlineKey           string
	expires             string
}

func newInit(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a fleet's root of trust: which keys may release which bundles, and who may change that",
		Long: `Make a fleet's root of trust in DIR: which keys may release which bundles, and which keys may change that. The hub is started with
DIR/trust.json, and every site file carries it.

Release keys: with --key, the given public keys are trusted; without, a pair is made: DIR/release.key and DIR/release.pub. --names says which
bundle names they may sign: a name, a beginning followed by "*", or "*"; --threshold how many of them must sign each bundle.

Root keys: with --root-key, the given public keys hold the root, --root-threshold of them together (more than half if not given); their holders
sign DIR/draft.json on their own machines (holdfast root sign), and holdfast root publish completes it. Without, a pair is made, DIR/root.key and
DIR/root.pub, and everything is signed and published at once: good for one person, to be split later with holdfast key add --root.

The hub's online key, which can release nothing, is --online-key or is made: DIR/online.key. Nothing is overwritten.`,
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
	if err := mustBeFree(f.trustPath(), f.draftPath(), f.path("")); err != nil {
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
	rootKey, err := d.rootKeys(dir, c, plan)
	if err != nil {
		return err
	}
	draft, err := c.draft(tuf.Metadata{})
	if err != nil {
		return err
	}
	raw, err := verify.EncodeTrust(c.trust)
	if err != nil {
		return err
	}
	if err := writeNew(f.trustPath(), raw, 0o644); err != nil {
		return err
	}
	d.sayf("trust of fleet %s: %s", plan.fleet, f.trustPath())
	if rootKey == "" {
		if err := d.saveDraft(f.draftPath(), draft); err != nil {
			return err
		}
	} else if err := d.publishFirst(f, draft, rootKey); err != nil {
		return err
	}
	d.sayf("next: start the hub     holdfast-hub run --trust %s", f.trustPath())
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
		c.holders.Threshold = max(1, len(plan.rootKeys))/2 + 1
	}
	if plan.onlineKey != "" {
		public, err := readLimited(plan.onlineKey, verify.MaxTrustSize)
		if err != nil {
			return err
		}
		c.holders.Online = []string{string(public)}
	} else {
		secret, public, err := onlineKey()
		if err != nil {
			return err
		}
		c.holders.Online, c.online = []string{string(public)}, secret
	}
	if len(plan.rootKeys) == 0 {
		if c.holders.Threshold != 1 {
			return &failure{code: exitUsage, message: fmt.Sprintf("--root-threshold %d: only one root key is made", plan.rootThreshold), hint: "give the public keys of all holders with --root-key"}
		}
		return c.trust.Check()
	}
	return errors.Join(c.holders.Check(), c.trust.Check())
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

// rootKeys makes the root key where none was given, and writes the online key if init made it. It gives the root key's file if there is one.
func (d *desk) rootKeys(dir string, c *change, plan initPlan) (private string, err error) {
	if len(plan.rootKeys) == 0 {
		prefix := filepath.Join(dir, "root")
		public, err := d.makeKeys(prefix)
		if err != nil {
			return "", err
		}
		c.holders.Root, private = []string{string(public)}, prefix+".key"
	}
	if c.online == nil {
		return private, nil
	}
	return private, writeNew(filepath.Join(dir, "online.key"), c.online, 0o600)
}

// onlineKey makes a key for the hub, which starts without anybody who could type a password.
func onlineKey() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("online key: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("online key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("online key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// publishFirst signs and publishes the first root where its only key is here.
func (d *desk) publishFirst(f fleetFolder, draft *author.Draft, rootKey string) error {
	if _, err := d.signDraft(draft, rootKey); err != nil {
		return err
	}
	raw, err := draft.Encode()
	if err != nil {
		return err
	}
	if err := writeNew(f.draftPath(), raw, 0o644); err != nil {
		return err
	}
	return d.publish(f, f, "")
}

func believe(trust *verify.Trust, file string, public []byte, names []string) error {
	key, err := verify.NewKey(string(public), names...)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	trust.Keys = append(trust.Keys, key)
	return nil
}
