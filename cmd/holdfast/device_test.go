package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// signingDevice is the program device-sign, in place of a security module: `new PREFIX` makes PREFIX.key, which holdfast cannot read, and PREFIX.pub;
// `PREFIX IN OUT` signs a file.
func signingDevice() {
	if err := useDevice(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func useDevice(args []string) error {
	if args[0] == "new" {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		private, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return err
		}
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return err
		}
		if err := os.WriteFile(args[1]+".key", private, 0o600); err != nil {
			return err
		}
		return os.WriteFile(args[1]+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644)
	}
	private, err := os.ReadFile(args[0] + ".key")
	if err != nil {
		return err
	}
	key, err := x509.ParseECPrivateKey(private)
	if err != nil {
		return err
	}
	message, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	digest := sha256.Sum256(message)
	signature, err := key.Sign(rand.Reader, digest[:], nil)
	if err != nil {
		return err
	}
	return os.WriteFile(args[2], signature, 0o644)
}
