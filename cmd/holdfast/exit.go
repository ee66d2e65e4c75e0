package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes. They are frozen: scripts rely on them, and `holdfast help exit-codes` prints them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 4
	exitNotFound    = 5
	exitConflict    = 6
	exitDenied      = 7
	exitDifferent   = 8
	exitStopped     = 9
	exitInterrupted = 130
)

func newExitCodes() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `The exit codes of holdfast:

  0    done
  1    failed: bad input, a file that cannot be read or written, or anything not named below
  2    wrong usage: unknown verb or flag, missing argument
  3    refused: a signature, the fleet's trust or a bundle's policy does not allow it
  4    no hub: no context, or the hub does not answer
  5    not found: no such site, bundle, version or file
  6    conflict: it exists already, with other contents
  7    denied: the hub does not accept the token, or the token may not do this
  8    different: bundle diff --exit-code or bundle render --site found a difference, drift --exit-code found drift, --dry-run would change something
  9    stopped: rollout watch saw the rollout paused or aborted, rollout simulate would end so
  130  interrupted

Where a verb acts on several sites and some fail, the code is that of the first failure.`,
	}
}

// failure is an error with all that the operator is told.
type failure struct {
	code    int
	message string // empty: nothing to say beyond the code
	hint    string
	cause   error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.cause }

// withHint adds advice to an error that has none.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	f := *explain(err)
	if f.hint == "" {
		f.hint = hint
	}
	return &f
}

// explain sorts an error: what to say, what to advise, which exit code.
func explain(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	if h := explainHub(err); h != nil {
		return h
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &failure{code: exitInterrupted, message: "interrupted", cause: err}
	case errors.Is(err, fs.ErrNotExist):
		return &failure{code: exitNotFound, message: err.Error(), cause: err}
	case isCobraUsage(err.Error()):
		message, meant, _ := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
		hint := "holdfast --help"
		if words := strings.Fields(meant); len(words) > 0 {
			hint = "did you mean " + strings.Join(words, " or ") + "? holdfast --help lists the verbs"
		}
		return &failure{code: exitUsage, message: message, hint: hint, cause: err}
	}
	return &failure{code: exitFailed, message: err.Error(), cause: err}
}

// isCobraUsage recognises the errors that cobra gives no type.
func isCobraUsage(message string) bool {
	for _, begin := range []string{"unknown command", "required flag(s)", "if any flags in the group", "at least one of the flags"} {
		if strings.HasPrefix(message, begin) {
			return true
		}
	}
	return false
}
