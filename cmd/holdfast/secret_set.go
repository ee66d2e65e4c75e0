package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/secret"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/build"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// maxSecretCounter is the highest release counter that is believed of a catalog: a hub must not use up all that there are.
const maxSecretCounter = 1 << 40

type secretPlan struct {
	ref     secretRef
	files   []string
	kind    string
	keys    []string // release keys
	account string
	accept  acceptance
	missing bool
}

func newSecretSet(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set NAMESPACE/NAME --from-file KEY=FILE --key K",
		Short: "Give sites a secret, or another value of it",
		Long: `Seal a secret for each chosen site with that site's own key, sign it with a release key, and have the sites keep it as a Kubernetes Secret.
Neither the hub nor the bus can read it, and nobody without the release key can write it. Sites that are away get it when they come back.
To rotate it, set it again. A site that joins a group later has none: set it again with --missing, which leaves out the sites that have it.

A site's key is believed as its identity signed it. The words of that identity are compared with those noted in --known when the site was added or approved
from this desk. A site that is not noted, or has other words now (site replace), is refused until you have compared the words with the device's
log and say so: --accept SITE=WORDS. --accept-new notes all that are not known yet without comparing.

Values are read from files, so that they stand in no shell's history; - is stdin. The namespace must be there. The release key must be allowed to sign ` + secret.BundlePrefix + `*.`,
		Example: `  holdfast secret set shop/db --site shop-berlin --from-file password=- --key release.key
  holdfast secret set shop/tls --group canary --type kubernetes.io/tls --from-file tls.crt=shop.crt --from-file tls.key=shop.pem --key release.key`,
		Args: exactly("NAMESPACE/NAME"),
	}
	var p secretPlan
	chosen := siteChoice(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&p.files, "from-file", nil, "`key=file` of the secret's data; may be repeated")
	flags.StringVar(&p.kind, "type", "Opaque", "`type` of the Kubernetes Secret")
	flags.StringArrayVar(&p.keys, "key", nil, "private release key `file`; repeated where several have to sign")
	flags.StringVar(&p.account, "service-account", "", "`namespace/name` of the service account that writes the Secret at the site")
	flags.BoolVar(&p.missing, "missing", false, "leave out the sites that have the secret, or are on their way to it")
	p.accept.flags(cmd)
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if p.ref, err = parseSecretRef(args[0]); err != nil {
			return err
		}
		if len(p.keys) == 0 || len(p.files) == 0 {
			return usagef(cmd, "--key and --from-file are needed")
		}
		plain, err := p.read(cmd)
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		ids, err := chosen(cmd.Context(), hub)
		if err != nil {
			return err
		}
		results, err := d.setSecret(cmd.Context(), hub, p, plain, ids)
		if err != nil {
			return err
		}
		return d.showResults(*f, results)
	}
	return cmd
}

func (p secretPlan) read(cmd *cobra.Command) (secret.Plain, error) {
	plain := secret.Plain{Namespace: p.ref.namespace, Name: p.ref.name, Type: p.kind, Data: map[string][]byte{}}
	for _, given := range p.files {
		key, file, both := strings.Cut(given, "=")
		if _, twice := plain.Data[key]; !both || key == "" || file == "" || twice {
			// What was given instead may be a value.
			return plain, usagef(cmd, "--from-file: want KEY=FILE, each key once")
		}
		raw, err := readLimited(file, secret.MaxData)
		if err != nil {
			return plain, err
		}
		plain.Data[key] = raw
	}
	return plain, nil
}

// setSecret seals, signs, pushes and assigns, for as many sites at a time as one sealed secret may be for.
func (d *desk) setSecret(ctx context.Context, hub *api.Client, p secretPlan, plain secret.Plain, ids []bundle.SiteID) ([]api.AssignResult, error) {
	sites, err := chosenSites(ctx, hub, ids)
	if err != nil {
		return nil, err
	}
	if p.missing {
		sites = slices.DeleteFunc(sites, func(s api.Site) bool { return standingOf(s, p.ref.bundle()).State.there() })
	}
	version, err := hub.Version(ctx)
	if err != nil {
		return nil, err
	}
	recipients, err := p.accept.recipients(d, version.Fleet, sites)
	if err != nil {
		return nil, err
	}
	counter, err := nextCounter(ctx, hub, p.ref.bundle())
	if err != nil {
		return nil, err
	}
	results := []api.AssignResult{}
	for some := range slices.Chunk(recipients, secret.MaxRecipients) {
		ref := bundle.Ref{Name: p.ref.bundle(), Version: bundle.Version(fmt.Sprintf("%d.0.0", counter))}
		raw, err := d.sealedBundle(ctx, p, plain, some, ref, counter)
		if err != nil {
			return nil, err
		}
		if _, err := hub.Push(ctx, raw); err != nil {
			return nil, err
		}
		request := api.AssignRequest{Bundle: ref, Scope: &fleetsync.Scope{ServiceAccount: bundle.Account(p.account), Kinds: []bundle.KindPattern{"Secret"}, Namespaces: []string{p.ref.namespace}}}
		for _, r := range some {
			request.Sites = append(request.Sites, r.Site)
		}
		assigned, err := hub.Assign(ctx, request)
		if err != nil {
			return nil, err
		}
		results = append(results, assigned...)
		counter++
	}
	return results, nil
}

// nextCounter is above all that the catalog has of a name.
func nextCounter(ctx context.Context, hub *api.Client, name bundle.Name) (bundle.Counter, error) {
	known, err := hub.Bundles(ctx)
	if err != nil {
		return 0, err
	}
	highest := bundle.Counter(0)
	for _, b := range known {
		if b.Name == name {
			highest = max(highest, b.Counter)
		}
	}
	if highest > maxSecretCounter {
		return 0, fmt.Errorf("bundle %s: the hub's catalog says counter %d, which is not believed", name, highest)
	}
	return highest + 1, nil
}

// sealedBundle is the signed bundle file of a secret for its recipients.
func (d *desk) sealedBundle(ctx context.Context, p secretPlan, plain secret.Plain, to []secret.Recipient, ref bundle.Ref, counter bundle.Counter) ([]byte, error) {
	sealed, err := secret.Seal(plain, to)
	if err != nil {
		return nil, err
	}
	built, err := build.BuildObjects(ctx, []build.Source{{Name: "sealed", YAML: sealed}}, build.Options{Name: ref.Name, Version: ref.Version, Counter: counter, Created: d.now()})
	if err != nil {
		return nil, err
	}
	packed, err := wire.Compress(built.Content)
	if err != nil {
		return nil, err
	}
	o := &opened{path: ref.String(), file: &bundle.File{Manifest: built.ManifestBytes, Content: packed}, manifest: built.Manifest}
	folder, err := os.MkdirTemp("", "holdfast-secret-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	out := filepath.Join(folder, "sealed.hfb") // it holds nothing that is not sealed
	for _, key := range p.keys {
		if err := d.sign(o, key, out); err != nil {
			return nil, err
		}
	}
	return readLimited(out, api.MaxFile)
}

// acceptance is which identities of sites are believed.
type acceptance struct {
	known string
	all   bool
	words []string
}

func (a *acceptance) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.known, "known", "", "`file` with the words of known sites (default beside the contexts)")
	cmd.Flags().StringArrayVar(&a.words, "accept", nil, "`site=words` that you have compared; may be repeated")
	cmd.Flags().BoolVar(&a.all, "accept-new", false, "believe the hub about sites that are not known yet, and note them")
}

// recipients are the sites' sealing keys, each signed by an identity that is known or accepted. One that is not, and nothing is sealed.
func (a *acceptance) recipients(d *desk, fleet string, sites []api.Site) ([]secret.Recipient, error) {
	known, err := openKnown(a.known)
	if err != nil {
		return nil, err
	}
	accepted := map[string]string{}
	for _, given := range a.words {
		site, words, both := strings.Cut(given, "=")
		if !both {
			return nil, &failure{code: exitUsage, message: fmt.Sprintf("--accept %.120q: want SITE=WORDS", given), hint: "holdfast secret set --help"}
		}
		accepted[site] = words
	}
	var to []secret.Recipient
	var refusals []string
	for _, s := range sites {
		r, words, err := recipientOf(s)
		was, before := known.words(fleet, s.ID)
		switch {
		case err != nil:
			refusals = append(refusals, fmt.Sprintf("site %s: %v", s.ID, err))
		case was == words:
		case accepted[string(s.ID)] == words, was == "" && before == "" && a.all:
			known.note(fleet, s.ID, words)
			d.sayf("site %s: noted as %s", s.ID, words)
		case before == words:
			refusals = append(refusals, fmt.Sprintf("site %s: it is being replaced, and has not spoken with a new key yet: %s are the old hardware's words", s.ID, words))
		case before != "":
			refusals = append(refusals, fmt.Sprintf("site %s: it was replaced: its words were %s and are %s now", s.ID, before, words))
		case was == "":
			refusals = append(refusals, fmt.Sprintf("site %s: not known here; the hub says its words are %s", s.ID, words))
		default:
			refusals = append(refusals, fmt.Sprintf("site %s: its words were %s and are %s now", s.ID, was, words))
		}
		to = append(to, r)
	}
	if len(refusals) > 0 {
		return nil, &failure{code: exitRefused, message: "nothing was sealed\n" + strings.Join(refusals, "\n"),
			hint: "compare the words with the device's log, then --accept SITE=WORDS; --accept-new notes those not known without comparing"}
	}
	return to, known.save(d)
}

func recipientOf(s api.Site) (secret.Recipient, string, error) {
	if s.State == nil || len(s.State.Sealing) == 0 {
		return secret.Recipient{}, "", errors.New("it has not said its sealing key yet")
	}
	r, err := secret.OpenStatement(s.State.Sealing)
	if err != nil {
		return r, "", err
	}
	if r.Site != s.ID {
		return r, "", fmt.Errorf("the sealing key is said by site %s", r.Site)
	}
	return r, wordsOf(r.Identity), nil
}
