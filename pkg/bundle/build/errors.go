package build

import (
	"fmt"
	"slices"
	"strings"
)

// MaxErrors is how many errors are reported together.
const MaxErrors = 20

// Error is one thing that is wrong with the input.
type Error struct {
	File     string // relative to the directory, with slashes; or the name of the Source
	Line     int    // from 1; 0 where there is none to name
	Document int    // from 1; 0 where the file has only one
	Object   string // bundle.ObjectID.String, as far as it is known
	Err      error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Document > 0 {
		fmt.Fprintf(&b, " (document %d)", e.Document)
	}
	b.WriteString(": ")
	if e.Object != "" {
		b.WriteString(e.Object + ": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Errors are all that was found, in order of files and lines, at most MaxErrors and how many more there are.
type Errors struct {
	List []*Error
	More int
}

func (e *Errors) Error() string {
	lines := make([]string, 0, len(e.List)+1)
	for _, one := range e.List {
		lines = append(lines, one.Error())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As and errors.Is look at each.
func (e *Errors) Unwrap() []error {
	list := make([]error, len(e.List))
	for i, one := range e.List {
		list[i] = one
	}
	return list
}

// findings collects errors and warnings.
type findings struct {
	errors   []*Error
	warnings []*Error
}

func (f *findings) refuse(e *Error) { f.errors = append(f.errors, e) }
func (f *findings) warn(e *Error)   { f.warnings = append(f.warnings, e) }

// err is nil or an *Errors.
func (f *findings) err() error {
	if len(f.errors) == 0 {
		return nil
	}
	list := sortErrors(f.errors)
	return &Errors{List: list[:min(len(list), MaxErrors)], More: max(0, len(list)-MaxErrors)}
}

func sortErrors(list []*Error) []*Error {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b *Error) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return sorted
}
