package main

import (
	"github.com/spf13/cobra"
)

func newRootOfTrust(d *desk) *cobra.Command {
	return group("root", "Sign, show and publish the fleet's root of trust", newRootShow(d), newRootSet(d), newRootSign(d), newRootExtract(d), newRootAttach(d), newRootPublish(d))
}
