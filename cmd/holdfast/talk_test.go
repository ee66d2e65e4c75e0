package main

import (
	"bytes"
	"testing"
)

// What others say steers no terminal, whether it is data or talk.
func TestTalkSteersNoTerminal(t *testing.T) {
	var talk bytes.Buffer
	d := &desk{talk: &talk}
	d.sayf("site %s: %s", "shop-1", "\x1b]0;owned\x07\x1b[2J\u202edone\r")
	d.conclude(&failure{code: exitRefused, message: "refused: \x1b[31mno\nnext", hint: "\x1b[1A"})
	want := "site shop-1: ·]0;owned··[2J·done·\nerror: refused: ·[31mno\nerror: next\nhint: ·[1A\n"
	if talk.String() != want {
		t.Errorf("got  %q\nwant %q", talk.String(), want)
	}
}
