package kube

import (
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// TestT16_ComplaintsDoNotRepeatLargeValues: what the server says of a changed Job repeats its whole template.
func TestT16_ComplaintsDoNotRepeatLargeValues(t *testing.T) {
	template := `{"Containers":[{"Env":[{"Name":"PASSWORD","Value":"canary"}],"Image":"` + strings.Repeat("x", 100) + `"}]}`
	for _, c := range []struct{ cause, want string }{
		{`Invalid value: ` + template + `: field is immutable`, `Invalid value: …: field is immutable`},
		{`Invalid value: 70000: must be between 1 and 65535, inclusive`, `Invalid value: 70000: must be between 1 and 65535, inclusive`},
		{`Invalid value: ` + template[:90], `Invalid value: ` + template[:90]}, // no value that can be read
		{`Required value`, `Required value`},
	} {
		begin := `Job.batch "seed" is invalid: spec.template: `
		status := metav1.Status{Message: begin + c.cause, Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: "spec.template", Message: c.cause}}}}
		got := fromStatus(status, http.StatusUnprocessableEntity)
		if got.Words != begin+c.want {
			t.Errorf("%s\nwant\n%s", got.Words, begin+c.want)
		}
		if immutable := strings.Contains(c.cause, "immutable"); (got.Class == apply.Immutable) != immutable {
			t.Errorf("%s: class %v", got.Words, got.Class)
		}
	}
}
