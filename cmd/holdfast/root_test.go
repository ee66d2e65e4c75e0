package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every verb says in one line what it does and shows one call of itself.
func TestEveryVerbIsExplained(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.CommandPath(), cmd.Short)
		}
		if !cmd.HasSubCommands() && cmd.Runnable() && !strings.Contains(cmd.Example, cmd.CommandPath()+" ") && !strings.HasSuffix(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: no example of it: %q", cmd.CommandPath(), cmd.Example)
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(newRoot(newDesk()))
}

// The exit codes that are documented are those there are.
func TestExitCodesAreDocumented(t *testing.T) {
	help := newExitCodes().Long
	for _, code := range []string{"0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "8 ", "130"} {
		if !strings.Contains(help, "\n  "+code) {
			t.Errorf("exit code %s is not documented", code)
		}
	}
}
