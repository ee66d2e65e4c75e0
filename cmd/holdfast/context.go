package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// contextLimit bounds a context file, in bytes.
const contextLimit = 1 << 20

// contextPath is where the hub's address is looked for: --context, HOLDFAST_CONTEXT, the user's configuration.
func (d *desk) contextPath() (path string, chosen bool) {
	if d.contextFile != "" {
		return d.contextFile, true
	}
	if env := os.Getenv("HOLDFAST_CONTEXT"); env != "" {
		return env, true
	}
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", false
		}
		base = filepath.Join(home, ".config")
	}
	return filepath.Join(base, "holdfast", "context.json"), false
}

const contextHint = "the hub writes a context file for its admin at first start; give it with --context FILE or HOLDFAST_CONTEXT"

// readContext reads where the hub is.
func (d *desk) readContext() (api.ContextFile, error) {
	var c api.ContextFile
	path, chosen := d.contextPath()
	raw, err := readLimited(path, contextLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist) || path == "":
		message := "no hub: no context file"
		if chosen {
			message = fmt.Sprintf("context %s: no such file", path)
		}
		return c, &failure{code: exitUnreachable, message: message, hint: contextHint, cause: err}
	case err != nil:
		return c, fmt.Errorf("context: %w", err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, &failure{code: exitFailed, message: fmt.Sprintf("context %s: not a context file: %s", path, err), hint: contextHint, cause: err}
	}
	if c.URL == "" || c.Token == "" {
		return c, &failure{code: exitFailed, message: fmt.Sprintf("context %s: url and token are needed", path), hint: contextHint}
	}
	return c, nil
}
