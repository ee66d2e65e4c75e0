package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"time"
)

// until PATTERN PROGRAM ARGS… is a program: it runs another, shows what that writes, interrupts it at the first line that matches,
// and fails if it does not end well then, or if no line matches within half a minute.
func until() {
	if err := runUntil(os.Args[1], os.Args[2], os.Args[3:]...); err != nil {
		fmt.Fprintln(os.Stderr, "until:", err)
		os.Exit(1)
	}
}

func runUntil(pattern, program string, args ...string) error {
	want, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	child := exec.Command(program, args...)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	late := time.AfterFunc(30*time.Second, func() { child.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewScanner(out)
	seen := false
	for lines.Scan() {
		fmt.Println(lines.Text())
		if !seen && want.MatchString(lines.Text()) {
			seen = true
			if err := child.Process.Signal(os.Interrupt); err != nil {
				return err
			}
		}
	}
	if err := child.Wait(); err != nil {
		return fmt.Errorf("%s (matched: %v): %w", program, seen, err)
	}
	if !seen {
		return fmt.Errorf("%s ended, and no line matched %s", program, pattern)
	}
	return nil
}
