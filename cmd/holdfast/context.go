package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// contextLimit bounds a context file, in bytes.
const contextLimit = 1 << 20

// contextPath is where the hub's address is looked for: --context, a file or the name of a kept one; HOLDFAST_CONTEXT; the one in use.
func (d *desk) contextPath() (path string, chosen bool) {
	if d.contextFile != "" {
		if dir, _, err := contextsDir(); err == nil && !strings.ContainsAny(d.contextFile, `/.`) {
			if kept, err := contextFileOf(dir, d.contextFile); err == nil {
				if _, err := os.Stat(kept); err == nil {
					return kept, true
				}
			}
		}
		return d.contextFile, true
	}
	if env := os.Getenv("HOLDFAST_CONTEXT"); env != "" {
		return env, true
	}
	_, used, _ := contextsDir() // no home: no file either
	return used, false
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
	return decodeContext(path, raw)
}
