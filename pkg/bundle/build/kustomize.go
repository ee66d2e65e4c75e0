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
	local := localOnly{ctx: ctx, top: abs, seen: map[visit]bool{}}
	if err := local.check(visit{dir: abs}); err != nil {
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
	seen map[visit]bool
}

// visit is a directory with a kustomization. In one that makes plugins, the resources are configurations of built-in plugins, which load files themselves.
type visit struct {
	dir     string
	plugins bool
}

var address = regexp.MustCompile(`(?i)(^[a-z0-9+.-]+:|//|@|\?|\.git(/|$)|_git(/|$)|^(www\.)?(github|gitlab|bitbucket)\.[a-z]+/)`)

func (l *localOnly) check(v visit) error {
	if l.seen[v] {
		return nil
	}
	l.seen[v] = true
	if err := l.ctx.Err(); err != nil {
		return err
	}
	for _, name := range kustomizationNames {
		documents, err := l.parse(filepath.Join(v.dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, d := range documents {
			if err := l.checkDocument(v, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *localOnly) parse(file string) ([]document, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	shown := file
	if rel, err := filepath.Rel(l.top, file); err == nil {
		shown = filepath.ToSlash(rel)
	}
	if info.Size() > maxFile {
		return nil, &Error{File: shown, Err: fmt.Errorf("more than the %d bytes allowed", maxFile)}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	return parse(Source{Name: shown, YAML: text})
}

// The fields of a kustomization that hold paths: lists of paths, and lists of mappings with paths in them.
var (
	pathLists   = []string{"resources", "bases", "components", "crds", "configurations", "patchesStrategicMerge"}
	pluginLists = []string{"generators", "transformers", "validators"}
	pathFields  = map[string][]string{
		"patches": {"path"}, "patchesJson6902": {"path"}, "replacements": {"path"},
		"configMapGenerator": {"files", "envs", "env"}, "secretGenerator": {"files", "envs", "env"},
	}
	programFields = []string{"helmCharts", "helmChartInflationGenerator"}
	// pluginPaths are the keys under which built-in plugins take what they load.
	pluginPaths = []string{"path", "paths", "files", "envs", "env", "repo"}
)

func (l *localOnly) checkDocument(v visit, d document) error {
	if d.root.Kind != yaml.MappingNode {
		return d.fail(d.root.Line, errors.New("a kustomization is a mapping"))
	}
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		key, n := d.root.Content[i].Value, d.root.Content[i+1]
		var err error
		switch {
		case slices.Contains(programFields, key):
			err = d.fail(n.Line, fmt.Errorf("%s: charts are fetched and rendered by programs: build the chart by itself", key))
		case slices.Contains(pathLists, key):
			err = l.checkPaths(v, d, n)
		case slices.Contains(pluginLists, key):
			err = l.checkPaths(visit{v.dir, true}, d, n)
		case key == "openapi":
			err = l.checkFields(v, d, []*yaml.Node{n}, []string{"path"})
		case pathFields[key] != nil:
			err = l.checkFields(v, d, n.Content, pathFields[key])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *localOnly) checkFields(v visit, d document, mappings []*yaml.Node, fields []string) error {
	for _, n := range mappings {
		for _, field := range fields {
			paths := child(n, field)
			if paths == nil {
				continue
			}
			if err := l.checkPaths(v, d, paths); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPaths checks a path or a list of them, or in the place of a path, inline YAML.
func (l *localOnly) checkPaths(v visit, d document, n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.SequenceNode:
		for _, member := range n.Content {
			if err := l.checkPaths(v, d, member); err != nil {
				return err
			}
		}
		return nil
	case n.Kind != yaml.ScalarNode:
		return nil
	case strings.Contains(n.Value, "\n"):
		return l.checkInline(v, d, n)
	}
	if address.MatchString(n.Value) {
		return isAddress(d, n)
	}
	target := filepath.Join(v.dir, filepath.FromSlash(n.Value))
	info, err := os.Stat(target)
	if _, file, named := strings.Cut(n.Value, "="); err != nil && named { // key=file, of a generator
		if address.MatchString(file) {
			return isAddress(d, n)
		}
		target = filepath.Join(v.dir, filepath.FromSlash(file))
		info, err = os.Stat(target)
	}
	switch {
	case err != nil:
		return d.fail(n.Line, fmt.Errorf("%.120q: no such file or directory", n.Value))
	case info.IsDir():
		return l.check(visit{target, v.plugins})
	case v.plugins:
		documents, err := l.parse(target)
		if err != nil {
			return err
		}
		return checkPlugins(documents)
	}
	return nil
}

func isAddress(d document, n *yaml.Node) error {
	return d.fail(n.Line, fmt.Errorf("%.120q is an address: bundles are built of local files only, fetch it first", n.Value))
}

func (l *localOnly) checkInline(v visit, d document, n *yaml.Node) error {
	if !v.plugins {
		return nil
	}
	documents, err := parse(Source{Name: d.source, YAML: []byte(n.Value)})
	if err != nil {
		return d.fail(n.Line, errors.New("malformed inline YAML"))
	}
	return checkPlugins(documents)
}

// checkPlugins refuses configurations of plugins that name an address where they take a path.
func checkPlugins(documents []document) error {
	for _, d := range documents {
		if err := checkPlugin(d, d.root, false); err != nil {
			return err
		}
	}
	return nil
}

func checkPlugin(d document, n *yaml.Node, isPath bool) error {
	if n.Kind == yaml.ScalarNode && isPath && address.MatchString(n.Value) {
		return isAddress(d, n)
	}
	for i, member := range n.Content {
		inPath := isPath
		if n.Kind == yaml.MappingNode {
			inPath = i%2 == 1 && slices.Contains(pluginPaths, n.Content[i-1].Value)
		}
		if member.Kind == yaml.AliasNode && inPath {
			return d.fail(member.Line, errors.New("an alias in the place of a path"))
		}
		if err := checkPlugin(d, member, inPath); err != nil {
			return err
		}
	}
	return nil
}
