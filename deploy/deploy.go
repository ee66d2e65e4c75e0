// Package deploy holds what Holdfast is installed from, so that the programs can say what it grants and write it out.
package deploy

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// EdgeRBAC is every right that the default installation of the edge gives the agent: YAML documents.
//
//go:embed edge/rbac.yaml
var EdgeRBAC []byte

//go:embed edge/namespaces.yaml
var edgeNamespaces string

//go:embed edge/agent.yaml
var edgeAgent string

// EnrolmentSecret is the Secret in which the default installation of the edge looks for its enrolment file enrol.json.
const EnrolmentSecret = "holdfast-enrolment"

// maxImage is how long the name of an image may be, in bytes.
const maxImage = 512

// imageLine is what an installation has to set.
const imageLine = "          image: holdfast-edge #"

// CheckImage says what is wrong with the name of an image.
func CheckImage(image string) error {
	if image == "" || len(image) > maxImage || strings.ContainsFunc(image, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
		return fmt.Errorf("image %.80q: want a name such as registry/holdfast-edge@sha256:…", image)
	}
	return nil
}

// EdgeManifest is the default installation of the edge with an image and an enrolment file: YAML documents for kubectl apply -f, or for the folder of
// manifests of a device's image. It holds the file's secret.
func EdgeManifest(image string, enrolment []byte) ([]byte, error) {
	if err := CheckImage(image); err != nil {
		return nil, err
	}
	before, line, found := strings.Cut(edgeAgent, imageLine)
	_, after, ended := strings.Cut(line, "\n")
	if !found || !ended {
		panic("deploy/edge/agent.yaml has no line that begins with" + imageLine)
	}
	data, err := json.Marshal(string(enrolment)) // what JSON quotes YAML reads
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(edgeNamespaces)
	fmt.Fprintf(&b, "---\n# How the device becomes a site. It holds a secret for as long as the token is good.\napiVersion: v1\nkind: Secret\nmetadata:\n  namespace: holdfast-system\n  name: %s\ntype: Opaque\nstringData:\n  enrol.json: %s\n---\n", EnrolmentSecret, data)
	b.Write(EdgeRBAC)
	fmt.Fprintf(&b, "---\n%s          image: %q\n%s", before, image, after)
	return []byte(b.String()), nil
}

// EdgeValues are values for the chart of the edge (deploy/helm/holdfast-edge) with an image and an enrolment file.
func EdgeValues(image string, enrolment []byte) ([]byte, error) {
	if err := CheckImage(image); err != nil {
		return nil, err
	}
	data, err := json.Marshal(string(enrolment))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "image: %q\n# It holds a secret for as long as the token is good.\nenrolmentFile: %s\n", image, data), nil
}
