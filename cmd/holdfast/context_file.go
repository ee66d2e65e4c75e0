package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newContext(d *desk) *cobra.Command {
	return group("context", "Keep the context files of several hubs and users, and choose one", newContextList(d), newContextAdd(d), newContextUse(d), newContextShow(d))
}

// keptContext is a context file that has a name here. Its token is not shown.
type keptContext struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	Used bool   `json:"used"` // where no other is given
}

// contextsDir is where context files with a name are, and the file that is used where no other is given: a link to one of them.
func contextsDir() (dir, used string, err error) {
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", "", fmt.Errorf("contexts: %w", err)
		}
		base = filepath.Join(home, ".config")
	}
	return filepath.Join(base, "holdfast", "contexts"), filepath.Join(base, "holdfast", "context.json"), nil
}

func contextFileOf(dir, name string) (string, error) {
	if _, err := bundle.ParseName(name); err != nil {
		return "", fmt.Errorf("context %.80q: want lower-case letters, digits and inner dashes", name)
	}
	return filepath.Join(dir, name+".json"), nil
}

func decodeContext(path string, raw []byte) (c api.ContextFile, err error) {
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, &failure{code: exitFailed, message: fmt.Sprintf("context %s: not a context file: %s", path, err), hint: contextHint, cause: err}
	}
	if c.URL == "" || c.Token == "" {
		return c, &failure{code: exitFailed, message: fmt.Sprintf("context %s: url and token are needed", path), hint: contextHint}
	}
	return c, nil
}

func newContextList(d *desk) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the contexts; the one with a star is used where no other is given", Example: "  holdfast context list", Args: exactly()}
	f := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		kept, err := keptContexts()
		if err != nil {
			return err
		}
		return d.show(*f, kept, func() page {
			t := table{head: []string{"", "CONTEXT", "HUB"}, none: "no contexts"}
			for _, c := range kept {
				star := ""
				if c.Used {
					star = "*"
				}
				t.add(text(star), text(c.Name), text(c.URL))
			}
			return page{tables: []table{t}}
		})
	}
	return cmd
}

func keptContexts() ([]keptContext, error) {
	dir, used, err := contextsDir()
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("contexts: %w", err)
	}
	target, _ := os.Readlink(used) // no link: none of them
	kept := []keptContext{}
	for _, file := range files {
		name, isJSON := strings.CutSuffix(file.Name(), ".json")
		if !isJSON {
			continue
		}
		path := filepath.Join(dir, file.Name())
		raw, err := readLimited(path, contextLimit)
		if err != nil {
			return nil, fmt.Errorf("context %s: %w", name, err)
		}
		c, err := decodeContext(path, raw)
		if err != nil {
			return nil, err
		}
		kept = append(kept, keptContext{name, c.URL, target == path})
	}
	return kept, nil
}

func newContextAdd(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NAME FILE", Short: "Keep a copy of a context file under a name",
		Long:    "Keep a copy of a context file under a name, readable by you alone. After that --context NAME means it, and holdfast context use makes it the one that is used.",
		Example: "  holdfast context add acme olga.context.json\n  holdfast context use acme", Args: exactly("NAME", "FILE"),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir, _, err := contextsDir()
		if err != nil {
			return err
		}
		path, err := contextFileOf(dir, args[0])
		if err != nil {
			return err
		}
		raw, err := readLimited(args[1], contextLimit)
		if err != nil {
			return err
		}
		if _, err := decodeContext(args[1], raw); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("contexts: %w", err)
		}
		if err := writeNew(path, raw, 0o600); err != nil {
			return err
		}
		d.sayf("context %s is kept", args[0])
		return nil
	}
	return cmd
}

func newContextUse(d *desk) *cobra.Command {
	cmd := &cobra.Command{Use: "use NAME", Short: "Use a context where no other is given", Example: "  holdfast context use acme", Args: exactly("NAME")}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir, used, err := contextsDir()
		if err != nil {
			return err
		}
		path, err := contextFileOf(dir, args[0])
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return &failure{code: exitNotFound, message: fmt.Sprintf("context %s: there is none of that name", args[0]), hint: "holdfast context list shows them, holdfast context add keeps one", cause: err}
		}
		if info, err := os.Lstat(used); err == nil && info.Mode()&fs.ModeSymlink == 0 {
			return &failure{code: exitConflict, message: used + ": a file is there, and would be lost", hint: "keep it with holdfast context add NAME " + used + ", then remove it"}
		}
		next := used + ".next"
		os.Remove(next) // of a try that was cut off
		if err := os.Symlink(path, next); err != nil {
			return fmt.Errorf("context %s: %w", args[0], err)
		}
		if err := os.Rename(next, used); err != nil {
			return fmt.Errorf("context %s: %w", args[0], err)
		}
		d.sayf("context %s is used from now on", args[0])
		return nil
	}
	return cmd
}

// shownContext is what context show says.
type shownContext struct {
	File string   `json:"file"`
	URL  string   `json:"url"`
	User api.User `json:"user"`
}

func newContextShow(d *desk) *cobra.Command {
	cmd := &cobra.Command{Use: "show", Short: "Show which context is used, and who the hub says you are", Example: "  holdfast context show", Args: exactly()}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := d.readContext()
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		me, err := hub.WhoAmI(cmd.Context())
		if err != nil {
			return err
		}
		file, _ := d.contextPath()
		return d.show(*f, shownContext{file, c.URL, me}, func() page {
			until := "for ever"
			if me.Expires != nil {
				until = me.Expires.UTC().Format(time.RFC3339)
			}
			return page{facts: []fact{{"Context", text(file)}, {"Hub", text(c.URL)}, {"User", text(me.Name)}, {"Role", text(string(me.Role))}, {"Sites", text(scopeText(me.Scope))}, {"Until", text(until)}}}
		})
	}
	return cmd
}
