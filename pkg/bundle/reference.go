package bundle

import (
	"fmt"
	"regexp"
	"strings"
)

// ReferenceMark begins a reference to a parameter; a string without it holds none.
const ReferenceMark = "${{ params."

var (
	reference = regexp.MustCompile(`\$\{\{ params\.([a-z][a-zA-Z0-9]{0,62}) \}\}`)
	// nearReference finds what was meant as a reference and would be left as text.
	nearReference = regexp.MustCompile(`\$\{\{\s*params\.[^}]{0,80}\}?\}?`)
)

// References lists the parameters that a string refers to, in order. whole says that the string is one reference and nothing else.
// Something that looks like a reference and is not written exactly as one is an error.
func References(s string) (names []string, whole bool, err error) {
	if !strings.Contains(s, "${{") {
		return nil, false, nil
	}
	rest := reference.ReplaceAllString(s, "")
	if near := nearReference.FindString(rest); near != "" {
		return nil, false, fmt.Errorf("parameter reference %.80q: write it exactly as ${{ params.NAME }}", near)
	}
	for _, m := range reference.FindAllStringSubmatch(s, -1) {
		names = append(names, m[1])
	}
	return names, len(names) == 1 && rest == "", nil
}

// ReplaceReferences puts values in the place of the references of s. A lone reference becomes the value itself; a reference among other text
// becomes the value's text. The names were checked before: value is asked only for declared parameters.
func ReplaceReferences(s string, value func(name string) any) any {
	names, whole, err := References(s)
	if err != nil || len(names) == 0 {
		return s
	}
	if whole {
		return value(names[0])
	}
	return reference.ReplaceAllStringFunc(s, func(m string) string {
		return fmt.Sprint(value(reference.FindStringSubmatch(m)[1]))
	})
}
