package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Probe asks a Service or pods of the bundle. With a path it is an HTTP GET, sent through the API server, which has to answer with 200 to 399. Without one it is a
// TCP connection to each of the pods, which has to be taken. It names no address: Service and workload are objects of the bundle's own.
type Probe struct {
	Namespace string `json:"namespace"`
	// Service or Pods, not both.
	Service string `json:"service,omitempty"`
	// Pods are labels that the pods of one workload of the bundle have.
	Pods map[string]string `json:"pods,omitempty"`
	Port int               `json:"port"`
	Path string            `json:"path,omitempty"` // begins with a slash; no query. A Service needs one.
}

// Target says what is probed, for people.
func (p Probe) Target() string {
	if len(p.Pods) > 0 && p.Path == "" {
		return fmt.Sprintf("TCP port %d of the pods", p.Port)
	}
	if len(p.Pods) > 0 {
		return fmt.Sprintf("port %d%s of the pods", p.Port, p.Path)
	}
	return fmt.Sprintf("port %d%s", p.Port, p.Path)
}

// About says that a probe is about the object: it is the Service, or a workload whose pods have the labels.
func (p Probe) About(id ObjectID, object []byte) bool {
	if id.Namespace != p.Namespace {
		return false
	}
	if p.Service != "" {
		return id.Group == "" && id.Kind == "Service" && id.Name == p.Service
	}
	if id.Group != "" && id.Group != "apps" && id.Group != "batch" {
		return false
	}
	type meta struct{ Labels map[string]string }
	var o struct {
		Metadata meta
		Spec     struct{ Template struct{ Metadata meta } }
	}
	if json.Unmarshal(object, &o) != nil {
		return false
	}
	labels := o.Spec.Template.Metadata.Labels
	if id.Group == "" && id.Kind == "Pod" {
		labels = o.Metadata.Labels
	}
	for key, value := range p.Pods {
		if has, there := labels[key]; !there || has != value {
			return false
		}
	}
	return true
}

// maxProbeLabels bounds the labels of one probe.
const maxProbeLabels = 8

func (p Probe) check() error {
	if !labelPattern.MatchString(p.Namespace) || p.Port < 1 || p.Port > 65535 || (p.Service == "") == (len(p.Pods) == 0) {
		return errors.New("want a namespace, a port, and either the name of a Service or the labels of pods")
	}
	if p.Service != "" && !labelPattern.MatchString(p.Service) {
		return fmt.Errorf("service %.80q: want the name of a Service; a probe goes to no address", p.Service)
	}
	if p.Service != "" && p.Path == "" {
		return errors.New("want a path: a TCP connection is made to pods only, by their labels")
	}
	if len(p.Pods) > maxProbeLabels {
		return fmt.Errorf("%d labels of pods: at most %d", len(p.Pods), maxProbeLabels)
	}
	for key, value := range p.Pods {
		if err := CheckLabel(key, value); err != nil {
			return fmt.Errorf("pods: %w", err)
		}
	}
	if (p.Path != "" || p.Service != "") && (!probePath.MatchString(p.Path) || strings.Contains(p.Path, "..")) {
		return fmt.Errorf("path %.80q: want it to begin with '/' and to have letters, digits and -._~/ only, at most 253 bytes and no '..'", p.Path)
	}
	return nil
}

var probePath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]{0,252}$`)
