package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// passwordVariable is the one cosign reads, so that both tools work in one pipeline.
const passwordVariable = "COSIGN_PASSWORD"

// errNoTerminal says that nobody sits there who could be asked.
var errNoTerminal = errors.New("not on a terminal")

// terminal is where the operator can be asked, whatever the streams are connected to.
func (d *desk) terminal() (*os.File, error) {
	if !term.IsTerminal(int(d.in.Fd())) {
		return nil, errNoTerminal
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errNoTerminal
	}
	return tty, nil
}

// password of a private key: from the environment, where an empty value is an empty password, or asked on a terminal.
func (d *desk) password(question string, twice bool) ([]byte, error) {
	if value, ok := os.LookupEnv(passwordVariable); ok {
		return []byte(value), nil
	}
	tty, err := d.terminal()
	if err != nil {
		return nil, &failure{code: exitUsage, message: "no password for the private key: " + err.Error(), hint: "set " + passwordVariable + " (it may be empty)", cause: err}
	}
	defer tty.Close()
	first, err := unseen(tty, question)
	if err != nil || !twice {
		return first, err
	}
	second, err := unseen(tty, question+" again")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("password: the two do not match")
	}
	return first, nil
}

func unseen(tty *os.File, question string) ([]byte, error) {
	fmt.Fprintf(tty, "%s: ", question)
	value, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
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
	tty, err := d.terminal()
	if err != nil {
		return &failure{code: exitUsage, message: "nothing was done: this needs --yes", hint: "look at the plan above, then repeat with --yes", cause: err}
	}
	defer tty.Close()
	fmt.Fprint(tty, "Go on? [y/N] ")
	answer, err := bufio.NewReader(tty).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &failure{code: exitFailed, message: "nothing was done", cause: err}
}
