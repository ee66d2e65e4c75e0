package main

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// inspection is what a bundle file holds. Nothing of it is verified.
type inspection struct {
	Manifest   *bundle.Manifest  `json:"manifest"`
	Digest     bundle.Digest     `json:"digest"`
	Packed     int               `json:"packed"`     // bytes of the content in the file
	Signatures []string          `json:"signatures"` // the key or identity each says it is by
	Objects    []bundle.ObjectID `json:"objects"`
}

func newBundleInspect(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Show what a bundle file holds; nothing is verified",
		Example: "  holdfast bundle inspect shop-1.0.0.hfb",
		Args:    exactly("FILE"),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		b, err := openBundle(args[0])
		if err != nil {
			return err
		}
		_, objects, err := b.content()
		if err != nil {
			return err
		}
		i := inspection{Manifest: b.manifest, Digest: bundle.DigestOf(b.file.Manifest), Packed: len(b.file.Content), Signatures: []string{}, Objects: []bundle.ObjectID{}}
		for _, s := range b.file.Signatures {
			i.Signatures = append(i.Signatures, hintOf(s))
		}
		for _, o := range objects {
			i.Objects = append(i.Objects, o.ID)
		}
		return d.show(*f, i, func() page { return inspectPage(i) })
	}
	return cmd
}

// hintOf is the key or identity a signature claims; it proves nothing.
func hintOf(signature []byte) string {
	var s struct {
		VerificationMaterial struct {
			PublicKey struct {
				Hint string `json:"hint"`
			} `json:"publicKey"`
			Certificate struct {
				RawBytes []byte `json:"rawBytes"`
			} `json:"certificate"`
		} `json:"verificationMaterial"`
	}
	if json.Unmarshal(signature, &s) != nil {
		return "unknown"
	}
	if leaf, err := x509.ParseCertificate(s.VerificationMaterial.Certificate.RawBytes); err == nil {
		if summary, err := certificate.SummarizeCertificate(leaf); err == nil {
			return string(verify.Certified{Issuer: summary.Issuer, Subject: summary.SubjectAlternativeName}.ID())
		}
	}
	return cmp.Or(s.VerificationMaterial.PublicKey.Hint, "unknown")
}

func inspectPage(i inspection) page {
	m := i.Manifest
	p := page{facts: []fact{
		{"Bundle", cell{m.Ref().String(), strong}},
		{"Digest", text(string(i.Digest))},
		{"Counter", textf("%d", m.Counter)},
		{"Created", text(createdText(m.Created))},
	}}
	add := func(name, value string) {
		if value != "" {
			p.facts = append(p.facts, fact{name, text(value)})
		}
	}
	if m.Expires != nil {
		add("Expires", m.Expires.UTC().Format(time.RFC3339))
	}
	add("For sites", m.Target.Selector)
	add("Kubernetes", m.Target.Kubernetes)
	for _, r := range m.Requires {
		add("Requires", strings.TrimSpace(fmt.Sprintf("%s %s", r.Name, r.MinVersion)))
	}
	add("Policy", policyText(m.Policy))
	add("Content", fmt.Sprintf("%d objects, %s, %s compressed, %s", m.Content.Objects, api.Bytes(m.Content.Size), api.Bytes(i.Packed), m.Content.Digest))
	if len(i.Signatures) == 0 {
		p.facts = append(p.facts, fact{"Signatures", cell{"none", warn}})
	}
	for _, s := range i.Signatures {
		if !strings.HasPrefix(s, "identity:") {
			s = "key " + s
		}
		add("Signature", "says it is by "+s+" (not checked; see bundle verify)")
	}
	p.tables = append(p.tables, parametersTable(m), variantsTable(m), objectsTable(i.Objects))
	return p
}

func policyText(p bundle.Policy) string {
	words := []string{"drift " + string(p.Drift)}
	if p.Prune {
		words = append(words, "prune")
	}
	if p.HealthTimeoutSeconds > 0 {
		words = append(words, fmt.Sprintf("health within %ds", p.HealthTimeoutSeconds))
	}
	if p.AffectsConnectivity {
		words = append(words, fmt.Sprintf("hub reached again within %ds", cmp.Or(p.ConfirmWithinSeconds, bundle.DefaultConfirmWithin)))
	}
	if p.Supersedes {
		words = append(words, "supersedes")
	}
	if len(p.Replace) > 0 {
		words = append(words, "replace "+strings.Join(p.Replace, " "))
	}
	if p.Prefetch != nil {
		words = append(words, "prefetch images, or "+string(cmp.Or(p.Prefetch.OnFailure, bundle.PrefetchHold)))
	}
	if len(p.Health) > 0 {
		words = append(words, fmt.Sprintf("%d health %s", len(p.Health), plural(len(p.Health), "rule")))
	}
	if len(p.Probes) > 0 {
		words = append(words, fmt.Sprintf("%d %s", len(p.Probes), plural(len(p.Probes), "probe")))
	}
	if len(p.DriftRules) > 0 {
		words = append(words, fmt.Sprintf("%d drift %s", len(p.DriftRules), plural(len(p.DriftRules), "rule")))
	}
	if len(p.IgnoreManagers) > 0 {
		words = append(words, "ignore what "+strings.Join(p.IgnoreManagers, ", ")+" hold")
	}
	if len(p.Ignore) > 0 {
		words = append(words, fmt.Sprintf("%d ignore %s", len(p.Ignore), plural(len(p.Ignore), "rule")))
	}
	return strings.Join(words, ", ")
}

func parametersTable(m *bundle.Manifest) table {
	t := table{head: []string{"PARAMETER", "TYPE", "DEFAULT", "DESCRIPTION"}}
	for _, p := range m.Parameters {
		value := "-"
		switch {
		case p.Required:
			value = "(required)"
		case p.Default != nil:
			value = fmt.Sprint(p.Default)
		}
		t.add(text(p.Name), text(string(p.Type)), text(value), text(p.Description))
	}
	return t
}

func variantsTable(m *bundle.Manifest) table {
	t := table{head: []string{"VARIANT", "FOR SITES", "PATCHES"}}
	for _, v := range m.Variants {
		t.add(text(v.Name), text(v.Selector), textf("%d", len(v.Patches)))
	}
	return t
}

func objectsTable(objects []bundle.ObjectID) table {
	t := table{head: []string{"KIND", "NAMESPACE", "NAME"}}
	for _, o := range objects {
		kind := o.Kind
		if o.Group != "" {
			kind += "." + o.Group
		}
		t.add(text(kind), text(orDash(o.Namespace)), text(o.Name))
	}
	return t
}

func createdText(at time.Time) string {
	if at.Equal(notRecorded) {
		return "not recorded"
	}
	return at.UTC().Format(time.RFC3339)
}
