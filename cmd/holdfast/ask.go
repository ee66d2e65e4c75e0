package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// passwordVariable is the one cosign reads, so that both tools work in one pipeline.
const passwordVariable = "COSIGN_PASSWORD"

// password of a private key: from the environment, where an empty value is an empty password, or asked on a terminal.
func (d *desk) password(question string, twice bool) ([]byte, error) {
	if value, ok := os.LookupEnv(passwordVariable); ok {
		return []byte(value), nil
	}
	if !d.asks {
		return nil, &failure{code: exitUsage, message: "no password for the private key: not on a terminal", hint: "set " + passwordVariable + " (it may be empty)"}
	}
	first, err := d.secret(question)
	if err != nil || !twice {
		return first, err
	}
	second, err := d.secret(question + " again")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, fmt.Errorf("password: the two do not match")
	}
	return first, nil
}

func (d *desk) secret(question string) ([]byte, error) {
	fmt.Fprintf(d.talk, "%s: ", question)
	value, err := term.ReadPassword(int(d.in.Fd()))
	fmt.Fprintln(d.talk)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	return value, nil
}

// agree asks whether to go on with a plan that was just shown. Without a terminal, only --yes agrees.
func (d *desk) agree(yes bool) error {
	if yes {
		return nil
	}
	if !d.asks {
		return &failure{code: exitUsage, message: "nothing was done: this needs --yes", hint: "look at the plan above, then repeat with --yes"}
	}
	fmt.Fprint(d.talk, "Go on? [y/N] ")
	answer, _ := bufio.NewReader(d.in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &failure{code: exitFailed, message: "nothing was done"}
}
