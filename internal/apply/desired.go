package apply

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/gate"
)

// Object is one object as it is to be applied: rendered for the site and labelled as its bundle's.
type Object struct {
	Ref
	Stage int
	// Hash names the body and the ignored paths: equal hashes mean that there is nothing to apply.
	Hash string
	// Ignore are the JSON pointers that the policy leaves to others once the object exists.
	Ignore []string
	// Drift is what is done about differences.
	Drift bundle.DriftMode
	// Yield are the field managers whose fields stay theirs.
	Yield []string
	// Gate says how the object does, in place of Kubernetes' conventions; nil: they do.
	Gate *gate.Gate
	// Probes are requests to the object, a Service.
	Probes []bundle.Probe
	// Replace says that the policy wants the object deleted and made anew where a change is refused as immutable.
	Replace bool

	base   Base // of what is respected; empty in the other modes
	body   []byte
	packed int // length of the body before packing; 0: not packed
	sum    [sha256.Size]byte
	open   Opener // of a sealed secret, whose body is kept sealed; nil for all others
	// leaves says that Kubernetes deletes the object when its work is done: a Job with ttlSecondsAfterFinished. That it is not there is
	// then no drift, and it is not made again until it changes.
	leaves bool
	// idle workloads are wanted with no replicas.
	idle bool
	// defines is the group and kind that a CustomResourceDefinition defines.
	defines Kind
}

// Body is the JSON that is applied. A body that is no longer what was hashed is an error (P1).
func (o *Object) Body() ([]byte, error) {
	b := o.body
	if o.packed > 0 {
		b = make([]byte, o.packed)
		if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(o.body)), b); err != nil {
			return nil, fmt.Errorf("%s: unpack: %w", o.ObjectID, err)
		}
	}
	if sha256.Sum256(b) != o.sum {
		return nil, fmt.Errorf("%s: the bytes in memory are not those that were verified", o.ObjectID)
	}
	if o.open != nil {
		return o.open(b)
	}
	return b, nil
}

// Desired is everything a bundle wants at this site, in apply order. Only Prepare makes one; the zero value wants nothing and is refused.
type Desired struct {
	Ref      bundle.Ref
	Digest   bundle.Digest // of the manifest
	Rendered bundle.Digest // of the rendered objects
	Policy   bundle.Policy
	Scope    Scope // which all objects are inside
	Objects  []Object

	made bool
}

var errNothingDesired = errors.New("apply: the zero Desired is refused: only verified content is applied")

// packFrom is the smallest body that Pack compresses, in bytes.
const packFrom = 2 << 10

// Pack gives the same Desired with its larger bodies compressed in memory, for keeping: a monitoring stack of 5 MB stays in
// half a megabyte.
func (d Desired) Pack() Desired {
	d.Objects = slices.Clone(d.Objects)
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, flate.BestSpeed)
	if err != nil {
		return d
	}
	for i := range d.Objects {
		o := &d.Objects[i]
		if o.packed > 0 || len(o.body) < packFrom {
			continue
		}
		buf.Reset()
		w.Reset(&buf)
		// Writing to a bytes.Buffer does not fail.
		_, _ = w.Write(o.body)
		_ = w.Close()
		if buf.Len() < len(o.body) {
			o.packed, o.body = len(o.body), bytes.Clone(buf.Bytes())
		}
	}
	return d
}

// desire labels and hashes rendered objects.
func desire(ref bundle.Ref, digest, rendered bundle.Digest, policy bundle.Policy, objects []bundle.Object, open Opener) (Desired, error) {
	d := Desired{Ref: ref, Digest: digest, Rendered: rendered, Policy: policy, made: true, Objects: make([]Object, 0, len(objects))}
	gates := make([]*gate.Gate, len(policy.Health))
	for i, rule := range policy.Health {
		var err error
		if gates[i], err = gate.Compile(rule); err != nil {
			return Desired{}, fmt.Errorf("%s: %w", ref, err)
		}
	}
	probed, seen := map[string]bool{}, make(map[bundle.ObjectID]bool, len(objects))
	for _, in := range objects {
		body, err := labelled(in.JSON, string(ref.Name))
		if err != nil {
			return Desired{}, fmt.Errorf("%s: %s: %w", ref, in.ID, err)
		}
		id, sealed := in.ID.Opened()
		if sealed {
			if open == nil {
				return Desired{}, &Unopened{fmt.Errorf("%s: %s: there is no key here that opens it", ref, in.ID)}
			}
			in.ID, in.Version = id, "v1"
		}
		if seen[id] {
			return Desired{}, fmt.Errorf("%s: %s stands in it twice, once sealed", ref, id)
		}
		seen[id] = true
		o := Object{Ref: Ref{in.ID, in.Version}, Stage: bundle.Stage(in), body: body, sum: sha256.Sum256(body)}
		if sealed {
			o.open = open
		}
		for _, rule := range policy.Ignore {
			if rule.Target.Matches(in.ID) {
				o.Ignore = append(o.Ignore, rule.Paths...)
			}
		}
		if i := slices.IndexFunc(policy.Health, func(r bundle.HealthRule) bool { return r.Target.Matches(in.ID) }); i >= 0 {
			o.Gate = gates[i]
		}
		for _, probe := range policy.Probes {
			if probed[probeKey(probe)] || !probe.About(in.ID, body) {
				continue
			}
			probed[probeKey(probe)] = true
			o.Probes = append(o.Probes, probe)
		}
		o.Yield = policy.IgnoreManagers
		o.keep(policy.DriftOf(in.ID))
		o.Replace = slices.Contains(policy.Replace, policyKind(in.ID))
		o.leaves = in.ID.Group == "batch" && in.ID.Kind == "Job" && has(body, "spec", "ttlSecondsAfterFinished")
		o.Hash = hashOf(o.sum, o.Version, o.Ignore)
		if at, ok := find(body, "spec", "replicas"); ok && isWorkload(in.ID) {
			o.idle = string(body[at.from:at.to]) == "0"
		}
		if isDefinition(o.ObjectID) {
			o.defines = Kind{Group: text(body, "spec", "group"), Kind: text(body, "spec", "names", "kind")}
		}
		d.Objects = append(d.Objects, o)
	}
	for _, probe := range policy.Probes {
		if !probed[probeKey(probe)] {
			return Desired{}, fmt.Errorf("%s: a probe of %s names a Service or pods that are not in the bundle", ref, probe.Target())
		}
	}
	return d, nil
}

func probeKey(p bundle.Probe) string { return fmt.Sprint(p) }

// keep decides what is done about drift of the object. Its body is not packed.
func (o *Object) keep(mode bundle.DriftMode) {
	if mode == bundle.DriftRespect && o.open != nil { // what of it is respected cannot be told from its sealed form
		mode = bundle.DriftEnforce
	}
	o.Drift, o.base = mode, ""
	if mode == bundle.DriftRespect {
		o.base = BaseOf(o.body)
	}
}

// WithDrift gives the same Desired with another drift mode for all its objects, as an assignment may order it. Nothing of it may be packed.
func (d Desired) WithDrift(mode bundle.DriftMode) Desired {
	d.Policy.Drift, d.Objects = mode, slices.Clone(d.Objects)
	for i := range d.Objects {
		d.Objects[i].keep(mode)
	}
	return d
}

// patch is the apply of the object on top of what base says was applied before.
func (o *Object) patch(owner bundle.Name, base Base) (Patch, error) {
	body, err := o.Body()
	if err != nil {
		return Patch{}, err
	}
	p := Patch{Ref: o.Ref, Body: body, Manager: Owner(owner), Force: true, Ignore: o.Ignore, Yield: o.Yield}
	if o.Drift == bundle.DriftRespect {
		p.Base = base
	}
	return p, nil
}

func hashOf(sum [sha256.Size]byte, version string, ignore []string) string {
	h := sha256.New()
	h.Write(sum[:])
	fmt.Fprintf(h, "%q", version)
	for _, p := range ignore {
		fmt.Fprintf(h, "%q", p)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// policyKind writes a kind as policies do: "batch/Job", "Service".
func policyKind(id bundle.ObjectID) string {
	if id.Group == "" {
		return id.Kind
	}
	return id.Group + "/" + id.Kind
}

func isNamespace(id bundle.ObjectID) bool { return id.Group == "" && id.Kind == "Namespace" }

func isDefinition(id bundle.ObjectID) bool {
	return id.Group == "apiextensions.k8s.io" && id.Kind == "CustomResourceDefinition"
}

// isContainer says that deleting the object deletes others with it.
func isContainer(id bundle.ObjectID) bool { return isNamespace(id) || isDefinition(id) }
