package tuf

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// FleetFile is the only target: the verify.Trust document.
const FleetFile = "fleet.json"

// prefix of all names.
const prefix = "hf.trust."

// TimestampName is the name of the newest timestamp: nobody knows its version before.
const TimestampName = prefix + "timestamp.latest"

// Name is the name of a version of root, targets or snapshot.
func Name(role string, version int64) string {
	return prefix + role + "." + strconv.FormatInt(version, 10)
}

// FleetName is the name of a trust document's bytes.
func FleetName(fleet []byte) string { return prefix + "fleet." + bundle.DigestOf(fleet).Hex() }

var namePattern = regexp.MustCompile(`^hf\.trust\.(?:(root|targets|snapshot)\.([1-9][0-9]{0,17})|(timestamp)\.latest|fleet\.([0-9a-f]{64}))$`)

// Path is where a TUF repository on disk keeps the file of a name.
func Path(name string) (string, error) {
	m := namePattern.FindStringSubmatch(name)
	switch {
	case m == nil:
		return "", fmt.Errorf("trust metadata: %.100q is not a name", name)
	case m[3] != "":
		return "metadata/timestamp.json", nil
	case m[4] != "":
		return "targets/" + m[4] + "." + FleetFile, nil
	}
	return "metadata/" + m[2] + "." + m[1] + ".json", nil
}

// baseURL is what the updater puts before the paths of the files. Nothing is ever fetched by URL.
const baseURL = "hf://trust/"

var (
	versionedURL = regexp.MustCompile(`^hf://trust/metadata/([1-9][0-9]*)\.(root|targets|snapshot)\.json$`)
	fleetURL     = regexp.MustCompile(`^hf://trust/targets/([0-9a-f]{64})\.fleet\.json$`)
)

// nameOf makes the name of what the updater asks for.
func nameOf(url string) (string, error) {
	if m := versionedURL.FindStringSubmatch(url); m != nil {
		return prefix + m[2] + "." + m[1], nil
	}
	if m := fleetURL.FindStringSubmatch(url); m != nil {
		return prefix + "fleet." + m[1], nil
	}
	if url == baseURL+"metadata/"+metadata.TIMESTAMP+".json" {
		return TimestampName, nil
	}
	return "", fmt.Errorf("%w: the repository wants %.200q", ErrMalformed, url)
}
