package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

func newBundlePush(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "push FILE",
		Short: "Give a bundle to the hub, which verifies and publishes it",
		Long: `Give a bundle to the hub. The hub verifies it against the fleet's trust and refuses other bytes under a known name@version.
Pushing the same bundle again changes nothing. No site runs it before it is assigned.`,
		Example: "  holdfast bundle push shop-1.0.0.hfb",
		Args:    exactly("FILE"),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b, err := openBundle(args[0])
		if err != nil {
			return err
		}
		raw, err := readLimited(args[0], api.MaxFile)
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		done := d.progress(fmt.Sprintf("pushing %s (%s)", b.manifest.Ref(), api.Bytes(len(raw))))
		pushed, err := hub.Push(cmd.Context(), raw)
		done()
		if err != nil {
			return err
		}
		if pushed.Duplicate {
			d.sayf("the hub had %s@%s already", pushed.Name, pushed.Version)
		}
		return d.show(*f, pushed, func() page { return pushedPage(pushed) })
	}
	return cmd
}

// progress draws a moving line on a terminal until the function it gives is called. Elsewhere it is silent.
func (d *desk) progress(what string) (done func()) {
	if !d.live {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(120 * time.Millisecond)
		defer ticker.Stop()
		frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
		for i := 0; ; i++ {
			fmt.Fprintf(d.talk, "\r%c %s", frames[i%len(frames)], what)
			select {
			case <-stop:
				fmt.Fprintf(d.talk, "\r%s\r", strings.Repeat(" ", len([]rune(what))+2))
				return
			case <-ticker.C:
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

func pushedPage(b api.Bundle) page {
	p := page{facts: []fact{
		{"Published", cell{fmt.Sprintf("%s@%s", b.Name, b.Version), good}},
		{"Digest", text(string(b.Digest))},
		{"Signed by", text(b.Key)},
		{"Objects", textf("%d, %s", b.Objects, api.Bytes(b.Size))},
		{"On the wire", text(api.Bytes(b.Wire))},
	}}
	for _, delta := range b.Deltas {
		p.facts = append(p.facts, fact{"From " + string(delta.From), text(api.Bytes(delta.Wire))})
	}
	return p
}
