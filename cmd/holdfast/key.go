package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
)

func newKey(d *desk) *cobra.Command {
	return group("key", "Make keys, and say whose may release what", newKeyGenerate(d), newKeyAdd(d), newKeyRevoke(d), newKeyRotate(d), newKeyList(d))
}

func newKeyGenerate(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate --out PREFIX",
		Short: "Make a key pair: PREFIX.key and PREFIX.pub",
		Long: `Make a key pair in cosign's format, for releasing bundles or for holding the root of trust: PREFIX.key, encrypted by a password and readable by you alone, and PREFIX.pub.
The password comes from COSIGN_PASSWORD (it may be empty) or is asked on a terminal. With --online it is a key for the hub instead: Ed25519, without a password, because nobody is there to type it when a hub starts.
Nothing is overwritten.`,
		Example: "  holdfast key generate --out release",
		Args:    exactly(),
	}
	forHub := cmd.Flags().Bool("online", false, "make an online key for the hub")
	out := cmd.Flags().String("out", "", "`prefix` of the two files")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *out == "" {
			return usagef(cmd, "--out is needed")
		}
		if *forHub {
			return d.makeOnlineKey(*out)
		}
		_, err := d.makeKeys(*out)
		return err
	}
	return cmd
}

// makeOnlineKey writes PREFIX.key and PREFIX.pub for a hub.
func (d *desk) makeOnlineKey(prefix string) error {
	if err := mustBeFree(prefix+".key", prefix+".pub"); err != nil {
		return err
	}
	private, public, err := online.Generate()
	if err != nil {
		return err
	}
	if err := writeNew(prefix+".key", private, 0o600); err != nil {
		return err
	}
	if err := writeNew(prefix+".pub", public, 0o644); err != nil {
		os.Remove(prefix + ".key")
		return err
	}
	d.sayf("private key %s.key (for the hub alone: holdfast-hub run --online-key)", prefix)
	d.sayf("public key  %s.pub", prefix)
	return nil
}

// makeKeys writes PREFIX.key and PREFIX.pub and gives the public key.
func (d *desk) makeKeys(prefix string) (public []byte, err error) {
	private := prefix + ".key"
	if err := mustBeFree(private, prefix+".pub"); err != nil {
		return nil, err
	}
	password, err := d.password("Password for the private key "+private, true)
	if err != nil {
		return nil, err
	}
	secret, public, err := sign.GenerateKeyPair(password)
	if err != nil {
		return nil, err
	}
	if err := writeNew(private, secret, 0o600); err != nil {
		return nil, err
	}
	if err := writeNew(prefix+".pub", public, 0o644); err != nil {
		os.Remove(private) // half a pair is of no use, and nobody has seen it yet
		return nil, err
	}
	_, id, err := verify.ParseKey(string(public))
	if err != nil {
		return nil, err
	}
	d.sayf("private key %s (keep it safe; whoever has it and its password can sign for your fleet)", private)
	d.sayf("public key  %s.pub", prefix)
	d.sayf("key id      %s", id)
	return public, nil
}
