package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Source is a text of YAML and what errors call it.
type Source struct {
	Name string
	YAML []byte
}

// Form is how a directory says what its objects are.
type Form string

// The forms of a directory.
const (
	FormPlain     Form = "plain"
	FormKustomize Form = "kustomize"
	FormHelm      Form = "helm"
)

var kustomizationNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// Detect looks at what stands at the top of a directory.
func Detect(dir string) (Form, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("build: %s is a file: want the directory it stands in", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	defer root.Close()
	for _, name := range kustomizationNames {
		if _, err := root.Lstat(name); err == nil {
			return FormKustomize, nil
		}
	}
	if _, err := root.Lstat("Chart.yaml"); err == nil {
		return FormHelm, nil
	}
	return FormPlain, nil
}

// plainSources reads the YAML files below dir, in order of their paths.
func plainSources(ctx context.Context, dir string) ([]Source, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	defer root.Close()
	var names []string
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && name != "."
		switch {
		case entry.IsDir() && hidden:
			return fs.SkipDir
		case entry.IsDir() || hidden || !isYAML(name) || name == ConfigFile:
			return nil
		case !entry.Type().IsRegular():
			return &Error{File: name, Err: errors.New("not a regular file: symbolic links are not followed")}
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, one(err)
	}
	slices.Sort(names)
	return readAll(root, names)
}

func readAll(root *os.Root, names []string) ([]Source, error) {
	sources := make([]Source, 0, len(names))
	total := 0
	for _, name := range names {
		text, err := readFile(root, name)
		if err != nil {
			return nil, err
		}
		if total += len(text); total > maxInput {
			return nil, one(&Error{File: name, Err: fmt.Errorf("the directory holds more than the %d bytes of YAML allowed", maxInput)})
		}
		sources = append(sources, Source{Name: name, YAML: text})
	}
	return sources, nil
}

func isYAML(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	if len(text) > maxFile {
		return nil, one(&Error{File: name, Err: fmt.Errorf("more than the %d bytes allowed", maxFile)})
	}
	return text, nil
}
