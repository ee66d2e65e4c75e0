// Command up starts a control plane without containers by hand and keeps it until Ctrl-C:
//
//	go run ./test/cluster/up [-name NAME] [-nodes N] [-server-only] [-version 1.35] DIR
//
// It prints the path of the administrator's kubeconfig on stdout when the cluster is ready.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

func main() {
	var options cluster.Options
	flag.StringVar(&options.Name, "name", "", "name of the cluster")
	flag.IntVar(&options.Nodes, "nodes", 1, "number of fake nodes")
	flag.BoolVar(&options.ServerOnly, "server-only", false, "without controllers, scheduler and nodes")
	flag.StringVar(&options.EmulatedVersion, "version", "", "older Kubernetes version to emulate, as 1.35")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: up [flags] DIR")
		os.Exit(2)
	}
	options.Dir = flag.Arg(0)
	if err := run(options); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(options cluster.Options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := cluster.Start(ctx, options)
	if err != nil {
		return err
	}
	fmt.Println(c.Kubeconfig())
	fmt.Fprintln(os.Stderr, "ready; Ctrl-C stops it; logs in", c.Dir())
	<-ctx.Done()
	return c.Stop()
}
