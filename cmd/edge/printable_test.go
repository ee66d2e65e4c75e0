package main

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// What a cluster or a program at the site says steers nobody's terminal.
func TestTablesSteerNoTerminal(t *testing.T) {
	var out bytes.Buffer
	a := &asking{output: "table"}
	err := a.show(&out, nil, func(w io.Writer) { fmt.Fprintf(w, "busy\t%s\n", "till\x1b[2J\x07é") })
	if want := "busy  till·[2J·é\n"; err != nil || out.String() != want {
		t.Errorf("%q, %v, want %q", out.String(), err, want)
	}
}
