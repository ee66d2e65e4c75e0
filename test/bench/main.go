// Command bench measures what issue 2 promises, on this machine and in one run: a hub, an agent and a Kubernetes control plane as real
// processes. It prints a table and writes one flat JSON object. It judges nothing: the column "met" compares with the goal, and the exit code is
// 0 whenever everything could be measured.
//
// # How it measures
//
// The path of the edge is measured whole: from the hub's answer to an assignment until the agent's core has noted the apply as done (the time in
// its Applied event), so fetching, verifying, storing, dry-running, recording the intent, applying and recording the inventory are in
// it. Its rivals run in turn with it against the same API server, with credentials of the same kind and as many workers:
//
//   - the bare loop: plain HTTP, dry-runs and then applies the same bytes, reads and drops the answers. It has no inventory, no
//     verification and no stages; where a bundle brings definitions it applies them and the namespaces first and waits until they are served.
//   - plain fluxcd/pkg/ssa: ApplyAllStaged at the concurrency that is best here.
//
// A ratio is the median of the ratios of the rounds. Requests are counted at the API server, by a flow schema that only the agent matches:
// nothing stands between the agent and the server. Bytes are counted on the line between agent and hub, TLS and all.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-fleet/holdfast/test/bench/figures"
)

type options struct {
	out, bin, corpus, only string
	rounds                 int
}

func main() {
	var o options
	flag.StringVar(&o.out, "out", "", "write the figures here, as one flat JSON object")
	flag.StringVar(&o.bin, "bin", "bin", "folder of the three programs and the control plane")
	flag.StringVar(&o.corpus, "corpus", "../shared/corpus", "folder of real-world manifests; figures that need it are left out where it is absent")
	flag.StringVar(&o.only, "only", "", "parts to measure, separated by commas: "+strings.Join(partNames(), ", "))
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of the comparisons with rivals")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "error: bench: %v\n", err)
		os.Exit(1)
	}
}

// part is a group of measures that share their preparation.
type part struct {
	name    string
	measure func(*stand, context.Context) error
}

var parts = []part{
	{"thousand", (*stand).thousand},
	{"example", (*stand).example},
	{"stack", (*stand).stack},
	{"wire", (*stand).wire},
	{"size", (*stand).sizes},
}

func partNames() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

func run(ctx context.Context, o options) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s := &stand{options: o, Figures: &figures.Figures{}, began: began, dir: dir}
	defer s.close()
	if err := s.measure(ctx); err != nil {
		fmt.Print(s.Table())
		return err
	}
	s.Note("machine_cores", float64(runtime.NumCPU()), "cores")
	s.Note("bench_seconds", time.Since(began).Seconds(), "s")
	fmt.Print(s.Table())
	return s.Write(s.out)
}

func (s *stand) measure(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	for _, p := range parts {
		if s.only != "" && !strings.Contains(","+s.only+",", ","+p.name+",") {
			continue
		}
		if err := p.measure(s, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}
