package main

import (
	"context"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/bench/figures"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// pair is two releases of one real bundle, about half a year apart.
type pair struct {
	name  string
	flags []string
	goal  figures.Goal // of the delta, in bytes
}

var pairs = []pair{
	{"kube-prometheus", nil, figures.AtMost(16 << 10)},
	{"argo-cd", []string{"--namespace", "argocd", "--create-namespace"}, figures.Goal{}},
	{"online-boutique", []string{"--namespace", "online-boutique", "--create-namespace"}, figures.Goal{}},
}

// wire counts what comes down the line to two sites whose clusters are away, as fetching does not need one: one goes from old to new, the
// other takes the new release whole. What is counted begins with the assignment and ends when the hub knows that the site has
// verified the bundle: TLS, assignment, signatures, chunks and acknowledgements are in it.
func (s *stand) wire(ctx context.Context) error {
	if _, err := os.Stat(s.corpus); err != nil {
		s.Skip("bytes on the wire", err.Error())
		return nil
	}
	nowhere, err := s.nowhere()
	if err != nil {
		return err
	}
	for _, name := range []string{"updated", "new"} {
		site, err := s.fleet.AddSite(name, s.cluster)
		if err != nil {
			return err
		}
		if err := site.StartEdge("--kubeconfig", nowhere); err != nil {
			return err
		}
		defer site.StopEdge(true)
		if _, err := s.event(ctx, name, s.began, fleetsync.EventLinkUp, "", ""); err != nil {
			return err
		}
	}
	for _, p := range pairs {
		if err := s.pair(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// nowhere is a kubeconfig of a cluster that does not answer.
func (s *stand) nowhere() (string, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["nowhere"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:1"}
	config.Contexts["nowhere"] = &clientcmdapi.Context{Cluster: "nowhere"}
	config.CurrentContext = "nowhere"
	file := filepath.Join(s.dir, "nowhere.kubeconfig")
	return file, clientcmd.WriteToFile(*config, file)
}

func (s *stand) pair(ctx context.Context, p pair) error {
	folder := filepath.Join(s.corpus, p.name)
	if _, err := os.Stat(filepath.Join(folder, "old")); err != nil {
		s.Skip("bytes of "+p.name, err.Error())
		return nil
	}
	s.tell("on the wire: %s", p.name)
	name := "wire-" + p.name
	if _, err := s.fleet.Release(filepath.Join(folder, "old"), name, "1.0.0", p.flags...); err != nil {
		return err
	}
	if _, err := s.carried(ctx, "updated", name, "1.0.0"); err != nil {
		return err
	}
	file, err := s.fleet.Release(filepath.Join(folder, "new"), name, "1.1.0", p.flags...)
	if err != nil {
		return err
	}
	delta, err := s.carried(ctx, "updated", name, "1.1.0")
	if err != nil {
		return err
	}
	full, err := s.carried(ctx, "new", name, "1.1.0")
	if err != nil {
		return err
	}
	_, packed, err := content(file)
	if err != nil {
		return err
	}
	pure, err := s.pureDelta(ctx, name)
	if err != nil {
		return err
	}
	measure := underscored(p.name)
	s.Put("delta_bytes_"+measure, delta, "bytes", p.goal)
	s.Note("full_bytes_"+measure, full, "bytes")
	s.Put("delta_ratio_"+measure, delta/full, "× full", figures.AtMost(0.15))
	s.Note("delta_pure_bytes_"+measure, pure, "bytes")
	s.Note("full_pure_bytes_"+measure, float64(packed), "bytes")
	return nil
}

// carried assigns a bundle and counts the bytes that come down until the site has it.
func (s *stand) carried(ctx context.Context, site, name, version string) (float64, error) {
	link := s.fleet.Sites[site].Link
	before, _ := link.Bytes()
	began, err := s.assign(ctx, site, name, version)
	if err != nil {
		return 0, err
	}
	_, err = s.event(ctx, site, began, fleetsync.EventAccepted, name, version)
	after, _ := link.Bytes()
	return float64(after - before), err
}

// pureDelta is the size of the delta itself, as the hub keeps it.
func (s *stand) pureDelta(ctx context.Context, name string) (float64, error) {
	bundles, err := s.hub.Bundles(ctx)
	if err != nil {
		return 0, err
	}
	for _, b := range bundles {
		if string(b.Name) == name && len(b.Deltas) > 0 {
			return float64(b.Deltas[0].Wire), nil
		}
	}
	return 0, fleet.ErrNotYet
}

// sizes are of the programs that `make build` made.
func (s *stand) sizes(context.Context) error {
	for _, program := range []struct{ measure, file string }{
		{"binary_edge_mib", "holdfast-edge"}, {"binary_hub_mib", "holdfast-hub"}, {"binary_cli_mib", "holdfast"},
	} {
		info, err := os.Stat(filepath.Join(s.bin, program.file))
		if err != nil {
			return err
		}
		s.Note(program.measure, float64(info.Size())/(1<<20), "MiB")
	}
	return nil
}
