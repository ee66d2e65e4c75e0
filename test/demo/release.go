package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// release is what the demo releases: two versions of one bundle.
type release struct {
	name        string
	first, next string // folders
	flags       []string
}

var shop = release{name: "shop", first: "deploy/examples/shop", next: "deploy/examples/shop-next"}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// anyRelease takes a folder of manifests as the first version and the same with one more ConfigMap as the next.
func anyRelease(from, next string) (release, error) {
	info, err := os.Stat(from)
	if err != nil {
		return release{}, fmt.Errorf("BUNDLE: %w", err)
	}
	if !info.IsDir() {
		return release{}, fmt.Errorf("BUNDLE: %s is not a folder", from)
	}
	from = filepath.Clean(from)
	name := filepath.Base(from)
	if name == "new" || name == "old" {
		name = filepath.Base(filepath.Dir(from))
	}
	name = strings.Trim(notName.ReplaceAllString(strings.ToLower(name), "-"), "-")
	namespace := strings.TrimSuffix(strings.ReplaceAll(name, "argo-cd", "argocd"), "-")
	r := release{name: name, first: from, next: next, flags: []string{"--namespace", namespace, "--create-namespace"}}
	if err := copyFolder(from, next); err != nil {
		return release{}, fmt.Errorf("BUNDLE: %w", err)
	}
	more := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: holdfast-demo, namespace: %s}\ndata: {version: \"1.1.0\"}\n", namespace)
	return r, os.WriteFile(filepath.Join(next, "holdfast-demo.yaml"), []byte(more), 0o600)
}

func copyFolder(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), raw, 0o600)
	})
}
