package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

func options(dir string) Options {
	return Options{Dir: dir, Name: "shop", Version: "1.0.0", Created: time.Unix(1767225600, 5)}
}

// write makes a directory of files.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSameInputGivesTheSameBytesOnEveryMachine(t *testing.T) {
	r, err := Build(context.Background(), options("testdata/shop"))
	if err != nil {
		t.Fatal(err)
	}
	got := append(append(append([]byte{}, r.ManifestBytes...), '\n'), r.Content...)
	golden := filepath.Join("testdata", "shop.golden")
	if os.Getenv("REWRITE") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if r.Manifest.Counter != 1767225600 {
		t.Errorf("counter %d, want the seconds of creation", r.Manifest.Counter)
	}
	if len(r.Warnings) != 0 {
		t.Errorf("warnings: %v", r.Warnings)
	}
	if fmt.Sprint(r.Sources) != "[10-web.yaml crd/till.yaml more.json]" {
		t.Errorf("sources: %v", r.Sources)
	}
	// The same objects, otherwise divided into files.
	var all strings.Builder
	for _, name := range []string{"more.json", "crd/till.yaml", "10-web.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata/shop", name))
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString("---\n" + string(text) + "\n")
	}
	config, err := os.ReadFile("testdata/shop/holdfast.yaml")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Build(context.Background(), options(write(t, map[string]string{"z/all.yml": all.String(), ConfigFile: string(config)})))
	if err != nil {
		t.Fatal(err)
	}
	if string(again.Content) != string(r.Content) || string(again.ManifestBytes) != string(r.ManifestBytes) {
		t.Error("other files, other bytes")
	}
}

const (
	pod   = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: default}\n"
	crd   = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: tills.shop.example}\nspec: {group: shop.example, scope: SCOPE, names: {kind: Till}, versions: [{name: v1, served: true}]}\n---\n"
	ours  = "apiVersion: holdfast.dev/v1\nkind: BundleConfig\n"
	image = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: default}\nspec:\n  image: "
)

// TestP07_BadInputIsRefusedByName builds one bad file each and wants its place and its reason.
func TestP07_BadInputIsRefusedByName(t *testing.T) {
	for name, c := range map[string]struct{ yaml, config, want string }{
		"malformed YAML":            {yaml: "a:\n  b: c\n d: e\n", want: "f.yaml:3: malformed YAML"},
		"tab":                       {yaml: "a:\n\tb: c\n", want: "f.yaml:2: malformed YAML"},
		"malformed second document": {yaml: pod + "---\na: [\n", want: "(document 2): malformed YAML"},
		"duplicate key":             {yaml: pod + "kind: Pod\n", want: `f.yaml:4: duplicate key "kind", first on line 2`},
		"not an object":             {yaml: "- a\n", want: "f.yaml:1: not a Kubernetes object"},
		"a word":                    {yaml: "hello\n", want: "f.yaml:1: not a Kubernetes object"},
		"other YAML":                {yaml: "# a comment\nreplicas: 1\n", want: "f.yaml:2: not a Kubernetes object: without apiVersion and kind"},
		"no kind":                   {yaml: "apiVersion: v1\nmetadata: {name: a}\n", want: "f.yaml:1: without kind"},
		"no apiVersion":             {yaml: "kind: Pod\nmetadata: {name: a}\n", want: "f.yaml:1: Pod/a: without apiVersion"},
		"no name":                   {yaml: "apiVersion: v1\nkind: Pod\nmetadata: {}\n", want: "f.yaml:3: Pod without metadata.name"},
		"no metadata":               {yaml: "apiVersion: v1\nkind: Pod\n", want: "f.yaml:1: Pod without metadata.name"},
		"name is a number":          {yaml: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: 5\n", want: "f.yaml:4: metadata.name is not a string"},
		"generateName":              {yaml: "apiVersion: v1\nkind: Pod\nmetadata:\n  generateName: a\n", want: "f.yaml:4: metadata.generateName"},
		"twice":                     {yaml: pod + "---\n" + pod, want: "f.yaml:5 (document 2): Pod/default/a: stands in the bundle twice, first at f.yaml:1 (document 1)"},
		"no namespace":              {yaml: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n", want: "f.yaml:4: Pod/a: without metadata.namespace"},
		"needless namespace":        {yaml: "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  namespace: b\n", want: "f.yaml:5: Namespace/b/a: Namespace is cluster-scoped"},
		"nobody's kind":             {yaml: "apiVersion: x.example/v1\nkind: Thing\nmetadata: {name: a}\n", want: "f.yaml:2: Thing.x.example/a: nobody defines the kind Thing of x.example"},
		"kind that went":            {yaml: "apiVersion: policy/v1beta1\nkind: PodSecurityPolicy\nmetadata: {name: a}\n", want: "nobody defines"},
		"kind of no group":          {yaml: "apiVersion: v1\nkind: Deployment\nmetadata: {name: a}\n", want: "nobody defines the kind Deployment of the core group"},
		"custom without namespace":  {yaml: strings.Replace(crd, "SCOPE", "Namespaced", 1) + "apiVersion: shop.example/v1\nkind: Till\nmetadata: {name: a}\n", want: "f.yaml:8 (document 2): Till.shop.example/a: without metadata.namespace"},
		"custom with namespace":     {yaml: strings.Replace(crd, "SCOPE", "Cluster", 1) + "apiVersion: shop.example/v1\nkind: Till\nmetadata: {name: a, namespace: b}\n", want: "Till is cluster-scoped"},
		"custom version":            {yaml: strings.Replace(crd, "SCOPE", "Cluster", 1) + "apiVersion: shop.example/v2\nkind: Till\nmetadata: {name: a}\n", want: "does not serve version v2, only v1"},
		"definition without scope":  {yaml: strings.Replace(crd, "SCOPE", "Both", 1), want: "f.yaml:4 (document 1): CustomResourceDefinition.apiextensions.k8s.io/tills.shop.example: a definition needs"},
		"external with namespace":   {yaml: "apiVersion: x.example/v1\nkind: Thing\nmetadata: {name: a, namespace: b}\n", config: ours + "externalKinds: [{group: x.example, kind: Thing, namespaced: false}]\n", want: "cluster-scoped"},
		"bad name":                  {yaml: "apiVersion: v1\nkind: Pod\nmetadata: {name: a/b, namespace: default}\n", want: "metadata.name"},
		"list of words":             {yaml: "apiVersion: v1\nkind: List\nitems:\n- a\n", want: "f.yaml:4: a member of a List that is not an object"},
		"lists in lists":            {yaml: "kind: List\nitems: [" + strings.Repeat("{kind: List, items: [", 9) + strings.Repeat("]}", 9) + "]\n", want: "lists in lists"},
		"tag":                       {yaml: image + "!custom x\n", want: "f.yaml:5: tag !custom is not allowed"},
		"binary":                    {yaml: image + "!!binary aGk=\n", want: "f.yaml:5: tag !!binary is not allowed"},
		"infinite":                  {yaml: image + ".inf\n", want: "f.yaml:5: \".inf\" has no form in JSON"},
		"huge number":               {yaml: image + "18446744073709551615\n", want: "f.yaml:5: \"18446744073709551615\" is out of range"},
		"null key":                  {yaml: image + "{~: 1}\n", want: "f.yaml:5: the key \"~\" is not a string"},
		"key is a list":             {yaml: image + "{[a]: 1}\n", want: "f.yaml:5: a key that is not a string"},
		"key that is a boolean":     {yaml: image + "{on: 1}\n", want: "f.yaml:5: the key on would be read as true: put it in quotes"},
		"name that is a boolean":    {yaml: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: n\n", want: "f.yaml:4: metadata.name is not a string"},
		"unclosed list":             {yaml: pod + "spec:\n  a: [1,\n    2\n  b: 3\n", want: "f.yaml:5: malformed YAML"},
		"unclosed quote":            {yaml: pod + "spec:\n  a: \"x\n  b: 3\n", want: "malformed YAML"},
		"wrong indent far away":     {yaml: pod + "spec:\n  a: 1\n  b: 1\n  c:\n  - x: 1\n    y: 2\n   z: 3\n  d: 1\n", want: "f.yaml:10: malformed YAML"},
		"unknown alias":             {yaml: image + "*x\n", want: "unknown anchor"},
		"undeclared parameter":      {yaml: image + "${{ params.tag }}\n", want: "f.yaml:5: Pod/default/a: /spec/image: refers to the parameter tag, which holdfast.yaml does not declare"},
		"sloppy reference":          {yaml: image + "\"${{params.tag}}\"\n", config: ours + "parameters: [{name: tag, type: string, required: true}]\n", want: "f.yaml:5: Pod/default/a: /spec/image: parameter reference \"${{params.tag}}\": write it exactly"},
		"reference in a key":        {yaml: image + "{\"${{ params.tag }}\": 1}\n", want: "a key refers to a parameter"},
		"reference in kind":         {yaml: "apiVersion: v1\nkind: ${{ params.tag }}\nmetadata: {name: a}\n", want: "f.yaml:2: kind refers to a parameter"},
		"reference in name":         {yaml: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x-${{ params.tag }}\n", want: "f.yaml:4: metadata.name refers to a parameter"},
		"reference in namespace":    {yaml: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n  namespace: ${{ params.tag }}\n", want: "f.yaml:5: metadata.namespace refers to a parameter"},
		"config: unknown key":       {yaml: pod, config: ours + "target:\n  selectr: a=b\n", want: `holdfast.yaml:4: /target/selectr: unknown key "selectr"`},
		"config: other case":        {yaml: pod, config: ours + "Namespace: a\n", want: `holdfast.yaml:3: /Namespace: unknown key "Namespace": it is written "namespace"`},
		"config: wrong type":        {yaml: pod, config: ours + "namespace: 5\n", want: "holdfast.yaml:3: namespace: a number does not belong here"},
		"config: another kind":      {yaml: pod, config: "apiVersion: v1\nkind: ConfigMap\n", want: "holdfast.yaml:1: want apiVersion holdfast.dev/v1"},
		"config: two documents":     {yaml: pod, config: ours + "---\n" + ours, want: "holdfast.yaml: 2 documents"},
		"config: duplicate key":     {yaml: pod, config: ours + "kind: BundleConfig\n", want: "holdfast.yaml:3: duplicate key"},
		"config: parameter type":    {yaml: pod, config: ours + "parameters:\n- name: a\n  type: int\n", want: "holdfast.yaml:4: parameter a: type \"int\""},
		"config: default":           {yaml: pod, config: ours + "parameters:\n- {name: a, type: integer, default: 5}\n- {name: b, type: integer, default: x}\n", want: "holdfast.yaml:5: parameter b: want a value of type integer, not string (its default)"},
		"config: no default":        {yaml: pod, config: ours + "parameters:\n- {name: a, type: integer}\n", want: "holdfast.yaml:4: parameter a: want a default, or required"},
		"config: declared twice":    {yaml: image + "${{ params.a }}\n", config: ours + "parameters: [{name: a, type: string, default: x}, {name: a, type: string, default: x}]\n", want: "parameter a: declared twice"},
		"config: selector":          {yaml: pod, config: ours + "target:\n  selector: a b\n", want: "holdfast.yaml:4: target: selector"},
		"config: requires":          {yaml: pod, config: ours + "requires: [{name: Bad_Name}]\n", want: "holdfast.yaml:3: requires: bundle name"},
		"config: drift":             {yaml: pod, config: ours + "policy: {drift: never}\n", want: "holdfast.yaml:3: policy: drift"},
		"config: health":            {yaml: pod, config: ours + "policy:\n  health:\n    - {target: {kind: Pod}, ready: self.ok}\n", want: "holdfast.yaml:5: health: ready: ERROR"},
		"config: external kind":     {yaml: pod, config: ours + "externalKinds: [{group: a}]\n", want: "holdfast.yaml:3: an external kind without kind"},
		"variant matches nothing":   {yaml: pod, config: ours + "variants:\n- name: big\n  selector: a=b\n  patches: [{target: {kind: Deployment}, merge: {spec: {}}}]\n", want: "holdfast.yaml:4: variant big: patch 0: no object matches its target"},
		"variant does not apply":    {yaml: pod, config: ours + "variants:\n- name: big\n  selector: a=b\n  patches: [{target: {kind: Pod}, json: [{op: remove, path: /spec/x}]}]\n", want: "holdfast.yaml:4: variant big: patch 0: Pod/default/a: JSON patch"},
		"variant renames":           {yaml: pod, config: ours + "variants:\n- name: big\n  selector: a=b\n  patches: [{target: {kind: Pod}, merge: {metadata: {name: b}}}]\n", want: "changes its identity"},
		"variant's parameter":       {yaml: pod, config: ours + "variants:\n- name: big\n  selector: a=b\n  patches: [{target: {kind: Pod}, merge: {spec: {x: \"${{ params.y }}\"}}}]\n", want: "variant big: refers to the parameter y"},
		"URL in the configuration":  {yaml: pod, config: ours + "source: https://example.com\n", want: "unknown key"},
	} {
		files := map[string]string{"f.yaml": c.yaml}
		if c.config != "" {
			files[ConfigFile] = c.config
		}
		_, err := Build(context.Background(), options(write(t, files)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestT11_AliasBombs(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 12 {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	long := "a: &a \"" + strings.Repeat("x", 1<<20) + "\"\nb: [*a, *a, *a, *a, *a]\n"
	for name, c := range map[string]struct{ yaml, want string }{
		"laughs":    {bomb.String(), "aliases expand to more"},
		"long text": {long, "aliases expand to more"},
		"loop":      {"a: &a\n  b: *a\n", "f.yaml:2: alias *a stands inside of what it names"},
		"merge":     {"a: &a\n  <<: *a\n", "stands inside"},
		"depth":     {strings.Repeat("[", 200) + strings.Repeat("]", 200) + "\n", "nested deeper"},
		"large":     {"a: \"" + strings.Repeat("x", maxFile) + "\"\n", "more than the"},
	} {
		start := time.Now()
		_, err := Build(context.Background(), options(write(t, map[string]string{"f.yaml": c.yaml})))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %.200v, want %q", name, err, c.want)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
	// Aliases that people use are fine.
	r, err := Build(context.Background(), options(write(t, map[string]string{"f.yaml": pod + "spec:\n  a: &a {w: 1, x: 2}\n  b: *a\n  c: {<<: *a, x: 3}\n"})))
	if err != nil {
		t.Fatal(err)
	}
	if want := `"spec":{"a":{"w":1,"x":2},"b":{"w":1,"x":2},"c":{"w":1,"x":3}}`; !strings.Contains(string(r.Content), want) {
		t.Errorf("got %s, want %s", r.Content, want)
	}
}

func TestManyErrorsAreReportedTogether(t *testing.T) {
	dir := write(t, map[string]string{"b.yaml": strings.Repeat("apiVersion: v1\n---\n", 25), "a.yaml": "x: [\n", "c.yaml": pod})
	_, err := Build(context.Background(), options(dir))
	list := new(Errors)
	if !errors.As(err, &list) || len(list.List) != MaxErrors || list.More != 6 {
		t.Fatalf("got %v", err)
	}
	if first := new(Error); !errors.As(err, &first) || first.File != "a.yaml" || list.List[1].File != "b.yaml" || list.List[2].Line <= list.List[1].Line {
		t.Errorf("not in order: %v", err)
	}
	if !strings.HasSuffix(err.Error(), "and 6 more") {
		t.Errorf("got %v", err)
	}
}

func TestWhatBecomesOfObjects(t *testing.T) {
	dir := write(t, map[string]string{
		".hidden.yaml": "x: [", ".git/x.yaml": "x: [", "readme.md": "x: [", "empty.yaml": "# nothing\n---\n---\n",
		"list.yaml": "apiVersion: v1\nkind: ConfigMapList\nmetadata: {}\nitems:\n- metadata: {name: typed}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: whole}}\n",
		"roles.yaml": "apiVersion: v1\nkind: List\nitems:\n- apiVersion: rbac.authorization.k8s.io/v1\n  kind: RoleBinding\n  metadata: {name: r, creationTimestamp: null}\n" +
			"  subjects: [{kind: ServiceAccount, name: a}, {kind: ServiceAccount, name: b, namespace: other}, {kind: User, name: c}]\n  status: {x: 1}\n" +
			"- apiVersion: rbac.authorization.k8s.io/v1\n  kind: ClusterRole\n  metadata: {name: r, uid: abc}\n",
	})
	o := options(dir)
	o.Namespace, o.CreateNamespaces = "shop", true
	r, err := Build(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}
{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"typed","namespace":"shop"}}
{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"whole","namespace":"shop"}}
{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"r"}}
{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"r","namespace":"shop"},"subjects":[{"kind":"ServiceAccount","name":"a","namespace":"shop"},{"kind":"ServiceAccount","name":"b","namespace":"other"},{"kind":"User","name":"c"}]}
`
	if string(r.Content) != want {
		t.Errorf("got\n%s\nwant\n%s", r.Content, want)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0].Error(), "roles.yaml:11: ClusterRole.rbac.authorization.k8s.io/r: metadata.uid is left out") {
		t.Errorf("warnings: %v", r.Warnings)
	}
}

func TestWarningsAndStrict(t *testing.T) {
	for name, c := range map[string]struct{ yaml, config, want string }{
		"plain secret":      {yaml: "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\ndata: {a: aGk=}\n", want: "f.yaml:4: Secret/default/s: a Secret with values in plain text (a)"},
		"plain secret text": {yaml: "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {a: hi}\n", want: "plain text"},
		"empty secret":      {yaml: "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\ndata: {a: \"\"}\n"},
		"token secret":      {yaml: "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\ntype: kubernetes.io/service-account-token\n"},
		"secret parameter":  {yaml: "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {a: \"${{ params.p }}\"}\n", config: ours + "parameters: [{name: p, type: string, required: true}]\n"},
		"foreign namespace": {yaml: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: argocd\n", want: "f.yaml:5: Pod/argocd/a: namespace argocd is not in the bundle: it must exist at the site, or build with --create-namespace"},
		"own namespace":     {yaml: "apiVersion: v1\nkind: Namespace\nmetadata: {name: m}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: m}\n"},
		"created namespace": {yaml: "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: m}\n", config: ours + "createNamespaces: true\n"},
		"unused parameter":  {yaml: pod, config: ours + "parameters:\n- {name: p, type: string, required: true}\n", want: "holdfast.yaml:4: parameter p is never used"},
		"old version":       {yaml: "apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: a, namespace: default}\n", want: "f.yaml:1: CronJob.batch/default/a: Kubernetes 1.29 to 1.37 is not known to serve"},
	} {
		o := options(write(t, map[string]string{"f.yaml": c.yaml}))
		if c.config != "" {
			config, err := ParseConfig([]byte(c.config))
			if err != nil {
				t.Fatal(err)
			}
			o.Config = config
		}
		r, err := Build(context.Background(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := fmt.Sprint(r.Warnings)
		if (c.want == "") != (len(r.Warnings) == 0) || !strings.Contains(got, c.want) {
			t.Errorf("%s: warnings %v, want %q", name, got, c.want)
		}
		o.Strict = true
		if _, err := Build(context.Background(), o); (err != nil) != (c.want != "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, strict: %v", name, err)
		}
	}
}

func TestT14_SymbolicLinksAreNotFollowed(t *testing.T) {
	dir := write(t, map[string]string{"a.yaml": pod})
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(context.Background(), options(dir)); err == nil || !strings.Contains(err.Error(), "b.yaml: not a regular file") {
		t.Errorf("got %v", err)
	}
	dir = write(t, map[string]string{"a.yaml": pod})
	outside := write(t, map[string]string{"c.yaml": "x: ["})
	if err := os.Symlink(outside, filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	if r, err := Build(context.Background(), options(dir)); err != nil || len(r.Sources) != 1 {
		t.Errorf("a linked directory was entered: %v", err)
	}
}

func TestInputThatIsNoDirectory(t *testing.T) {
	dir := write(t, map[string]string{"a.yaml": pod, "chart/Chart.yaml": "name: x", "none/x.txt": ""})
	for path, want := range map[string]string{
		"missing": "no such file", "a.yaml": "is a file: want the directory", "chart": "is a Helm chart", "none": "no Kubernetes objects found",
	} {
		if _, err := Build(context.Background(), options(filepath.Join(dir, path))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	o := options(filepath.Join(dir))
	o.Name = "Bad Name"
	if _, err := BuildObjects(context.Background(), []Source{{"a", []byte(pod)}}, o); err == nil || !strings.Contains(err.Error(), "bundle name") {
		t.Errorf("bad name: %v", err)
	}
	o = options("")
	o.Created = time.Time{}
	if _, err := BuildObjects(context.Background(), []Source{{"a", []byte(pod)}}, o); err == nil || !strings.Contains(err.Error(), "time of creation") {
		t.Errorf("no time: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Build(ctx, options(dir)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestScalarsReadAsKubectlReadsThem pins the words on which YAML 1.1, YAML 1.2 and their readers differ.
func TestScalarsReadAsKubectlReadsThem(t *testing.T) {
	for _, s := range []string{"yes", "Yes", "YES", "yEs", "no", "on", "On", "off", "OFF", "y", "n", "Y", "N", "true", "True", "TRUE", "~", "null", "", "Null",
		"0644", "0o17", "0x1F", "0b11", "1_000", "-0", "+1", "1e3", "1.0", "-1.5e-3", ".5", "1.", "1:30", "2001-01-01", "2001-01-01T00:00:00Z", "=", "9223372036854775807",
		"'yes'", "\"0644\"", "!!str yes", "!!str 5", "!!int \"5\"", "!!float 5", "|\n  yes\n", ">\n  a\n  b\n", "0.1", "1e400", "12e03", "08", "09.5", "0.", "123456789012345678901234567890"} {
		text := "a: " + s + "\n"
		documents, err := parse(Source{Name: "f", YAML: []byte(text)})
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		v, err := value(documents[0].root)
		j, theirErr := yaml.YAMLToJSON([]byte(text))
		if err != nil || theirErr != nil {
			if (err == nil) != (theirErr == nil) {
				t.Errorf("%q: %v, kubectl's reader says %v, %s", s, err, theirErr, j)
			}
			continue
		}
		ours, err := bundle.Canonical(v)
		if theirs := decodeTheirs(t, []byte(text)); err != nil || string(ours) != theirs {
			t.Errorf("%q: %s, kubectl reads %s", s, ours, theirs)
		}
	}
}

// TestBuiltinKindsAreThoseOfClientGo finds kinds that a new Kubernetes brought.
func TestBuiltinKindsAreThoseOfClientGo(t *testing.T) {
	for gk, info := range builtin {
		if gk.group == "apiextensions.k8s.io" || gk.group == "apiregistration.k8s.io" || gk.group == bundle.SealedGroup {
			continue
		}
		known := false
		for _, version := range strings.Fields(info.versions) {
			known = known || scheme.Scheme.Recognizes(schema.GroupVersionKind{Group: gk.group, Version: version, Kind: gk.kind})
		}
		if !known {
			t.Errorf("client-go does not know %v", gk)
		}
	}
	passing := []string{"Options", "List", "Review", "Request", "Event", "Eviction", "Status", "Binding", "Scale", "Preconditions", "ComponentStatus", "StorageVersion", "RangeAllocation", "APIVersions", "APIGroup", "SerializedReference", "DeploymentRollback"}
	for gvk := range scheme.Scheme.AllKnownTypes() {
		if gvk.Group == "extensions" || gvk.Version == "__internal" {
			continue
		}
		skip := false
		for _, suffix := range passing {
			skip = skip || strings.HasSuffix(gvk.Kind, suffix)
		}
		if _, known := builtin[groupKind{gvk.Group, gvk.Kind}]; !known && !skip {
			t.Errorf("%v is not among the built-in kinds", gvk)
		}
	}
}

func FuzzBuildInput(f *testing.F) {
	f.Add([]byte(pod+"---\n"+strings.Replace(crd, "SCOPE", "Cluster", 1)), []byte(ours))
	f.Add([]byte("a: &a [*b]\nb: {<<: *a}\n"), []byte(ours+"parameters: [{name: a, type: string, default: x}]\n"))
	f.Add([]byte(image+"${{ params.tag }}\n"), []byte(ours+"variants:\n- name: big\n  selector: a=b\n  patches: [{target: {kind: Pod}, merge: {spec: {containers: [{name: a}]}}}]\n"))
	f.Fuzz(func(t *testing.T, text, config []byte) {
		o := options("")
		var err error
		if o.Config, err = ParseConfig(config); err != nil {
			o.Config = &Config{}
		}
		r, err := BuildObjects(context.Background(), []Source{{"f.yaml", text}}, o)
		if err != nil {
			return
		}
		if _, err := bundle.DecodeContent(r.Content, r.Manifest.Content); err != nil {
			t.Fatal(err)
		}
	})
}
