package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// kustomizeSources builds a kustomization and returns each resource as a source of its own.
func kustomizeSources(ctx context.Context, dir string) ([]Source, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	local := localOnly{ctx: ctx, top: abs, seen: map[string]bool{}}
	if err := local.check(abs); err != nil {
		return nil, one(err)
	}
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsRootOnly
	options.PluginConfig = types.DisabledPluginConfig()
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), abs)
	if err != nil {
		text := strings.ReplaceAll(err.Error(), abs+string(filepath.Separator), "")
		return nil, one(&Error{File: "kustomization", Err: errors.New(strings.ReplaceAll(text, abs, "."))})
	}
	var sources []Source
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("build: kustomization: %w", err)
		}
		sources = append(sources, Source{Name: fmt.Sprintf("kustomization %s/%s", r.GetKind(), r.GetName()), YAML: text})
	}
	return sources, nil
}

// localOnly refuses kustomizations that would make kustomize fetch something or run a program, before it is asked to. kustomize takes many forms of
// strings for addresses and does so before it looks for a local file, so every path is held against what addresses look like and must exist besides.
type localOnly struct {
	ctx  context.Context
	top  string
	seen map[string]bool
}

var address = regexp.MustCompile(`(?i)(^[a-z0-9+.-]+:|//|@|\?|\.git(/|$)|_git(/|$)|^(www\.)?(github|gitlab|bitbucket)\.[a-z]+/)`)

func (l *localOnly) check(dir string) error {
	if l.seen[dir] {
		return nil
	}
	l.seen[dir] = true
	if err := l.ctx.Err(); err != nil {
		return err
	}
	for _, name := range kustomizationNames {
		file := filepath.Join(dir, name)
		text, err := readLocal(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		shown := l.shown(file)
		documents, err := parse(Source{Name: shown, YAML: text})
		if err != nil {
			return err
		}
		for _, d := range documents {
			if err := l.checkDocument(dir, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func readLocal(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, &Error{File: file, Err: fmt.Errorf("more than the %d bytes allowed", maxFile)}
	}
	return os.ReadFile(file)
}

func (l *localOnly) shown(file string) string {
	if rel, err := filepath.Rel(l.top, file); err == nil {
		return filepath.ToSlash(rel)
	}
	return file
}

// The fields of a kustomization that hold paths: lists of paths, and lists of mappings with paths in them.
var (
	pathLists  = []string{"resources", "bases", "components", "crds", "configurations", "generators", "transformers", "validators", "patchesStrategicMerge"}
	pathFields = map[string][]string{
		"patches": {"path"}, "patchesJson6902": {"path"}, "replacements": {"path"},
		"configMapGenerator": {"files", "envs", "env"}, "secretGenerator": {"files", "envs", "env"},
	}
	programFields = []string{"helmCharts", "helmChartInflationGenerator"}
)

func (l *localOnly) checkDocument(dir string, d document) error {
	if d.root.Kind != yaml.MappingNode {
		return d.fail(d.root.Line, errors.New("a kustomization is a mapping"))
	}
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		key, v := d.root.Content[i].Value, d.root.Content[i+1]
		var err error
		switch {
		case slices.Contains(programFields, key):
			err = d.fail(v.Line, fmt.Errorf("%s: charts are fetched and rendered by programs: build the chart by itself", key))
		case slices.Contains(pathLists, key):
			err = l.checkPaths(dir, d, v)
		case key == "openapi":
			err = l.checkField(dir, d, v, []string{"path"})
		case pathFields[key] != nil:
			err = l.checkFields(dir, d, v, pathFields[key])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *localOnly) checkFields(dir string, d document, list *yaml.Node, fields []string) error {
	for _, n := range list.Content {
		if err := l.checkField(dir, d, n, fields); err != nil {
			return err
		}
	}
	return nil
}

func (l *localOnly) checkField(dir string, d document, n *yaml.Node, fields []string) error {
	for _, field := range fields {
		if v := child(n, field); v != nil {
			if err := l.checkPaths(dir, d, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPaths checks a path or a list of them.
func (l *localOnly) checkPaths(dir string, d document, n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.SequenceNode {
		for _, member := range n.Content {
			if err := l.checkPaths(dir, d, member); err != nil {
				return err
			}
		}
		return nil
	}
	if n.Kind != yaml.ScalarNode || strings.Contains(n.Value, "\n") {
		return nil // an inline patch or generator
	}
	name := n.Value
	if _, file, named := strings.Cut(name, "="); named { // key=file, of a generator
		name = file
	}
	if address.MatchString(name) {
		return d.fail(n.Line, fmt.Errorf("%.120q is an address: bundles are built of local files only, fetch it first", name))
	}
	target := filepath.Join(dir, filepath.FromSlash(name))
	info, err := os.Stat(target)
	if err != nil {
		return d.fail(n.Line, fmt.Errorf("%.120q: no such file or directory", name))
	}
	if info.IsDir() {
		return l.check(target)
	}
	return nil
}
