package sync

import (
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// TestEdgeTranscripts plays the scripts of testdata/edge, one life of a site each. Rewrite them with -rewrite after reading what changed.
func TestEdgeTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/edge", func(t *testing.T, path string) {
		s := newScript()
		datadriven.RunTest(t, path, s.run)
	})
}

// script drives an Edge as a shell would, with a map for a store.
type script struct {
	now   time.Time
	edge  *Edge
	boot  Boot
	first FirstApply
	wrong time.Duration // how far the site's wall clock is off
	nonce string        // the hub heard last
	store map[string][]byte
	hub   ed25519.PrivateKey
	limit int

	metered bool
	// notes says whether the site makes notes; cluster is what keeps them, kept the last that is to be put there, and images are disks and notes by name.
	notes   bool
	cluster []byte
	kept    *Keep
	disks   map[string]map[string][]byte
	images  map[string][]byte
}

func newScript() *script {
	return &script{
		now:   time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC),
		store: map[string][]byte{}, disks: map[string]map[string][]byte{}, images: map[string][]byte{},
		hub: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)),
	}
}

func digestOf(version string) bundle.Digest { return bundle.DigestOf([]byte(version)) }

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	arg := func(name string) string {
		for _, a := range d.CmdArgs {
			if a.Key == name && len(a.Vals) > 0 {
				return strings.Join(a.Vals, ",")
			}
		}
		return ""
	}
	has := func(name string) bool { return d.HasArg(name) }
	number := func(name string) int {
		n, _ := strconv.Atoi(arg(name))
		return n
	}
	ref := func() bundle.Ref {
		r, err := bundle.ParseRef(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return r
	}
	switch d.Cmd {
	case "start": // start | start pending=5 first=deny metered notes
		s.first, s.metered, s.notes = FirstApply(arg("first")), has("metered"), has("notes")
		s.limit = number("pending")
		return s.start(t)
	case "wait":
		pause, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		s.now, s.boot.Up = s.now.Add(pause), s.boot.Up+pause
		return s.step(t, Tick{})
	case "link":
		return s.step(t, LinkChanged{Up: has("up")})
	case "poke":
		return s.step(t, Poked{})
	case "fresh": // fresh assignment=2 [ack=3] [nonce=other|none] [at=2h]: the hub's statement; its clock is the script's, and at later
		return s.step(t, Poked{s.statement(t, d)})
	case "boot": // boot b2 [up=10s] [wall=-1000h]: the machine is started anew, and its clock may be wrong
		s.boot = Boot{ID: d.CmdArgs[0].Key}
		s.boot.Up, _ = time.ParseDuration(arg("up"))
		s.wrong, _ = time.ParseDuration(arg("wall"))
		return s.start(t)
	case "look": // look seq=1 bundles=(shop@1.0.0) rollout=r1/1 site=shop-1 ack=3 | look error=…
		if e := arg("error"); e != "" {
			return s.step(t, Looked{Err: e})
		}
		return s.step(t, s.looked(t, d))
	case "fetched": // fetched shop@1.0.0 counter=1 | refused=Reason [passing] | error=…
		r := ref()
		in := Fetched{Name: r.Name, Digest: digestOf(string(r.Version)), Counter: bundle.Counter(number("counter")), Objects: 3, Err: arg("error"), HealthTimeout: time.Minute}
		if reason := arg("refused"); reason != "" {
			in.Refusal, in.Passing = &Refusal{reason, "not believed"}, has("passing")
		}
		in.ConfirmWithin, _ = time.ParseDuration(arg("confirm"))
		if life, err := time.ParseDuration(arg("expires")); err == nil {
			in.Expires = s.now.Add(life)
		}
		if then := arg("prefetch"); then != "" {
			in.Prefetch = &bundle.Prefetch{Images: true, OnFailure: bundle.PrefetchFailure(then)}
		}
		if need := arg("requires"); need != "" {
			in.Requires = []bundle.Requirement{{Name: bundle.Name(need)}}
		}
		return s.step(t, in)
	case "prefetched": // prefetched shop@1.0.0 [error=…] [progress=…]
		r := ref()
		return s.step(t, Prefetched{Name: r.Name, Spec: s.spec(r), Err: arg("error"), Progress: arg("progress")})
	case "ran": // ran shop@1.0.0 [changed=3] [rejected|failed|halted] [remove]
		r := ref()
		in := Ran{Name: r.Name, Outcome: OutcomeApplied, Remove: has("remove"), Objects: 3, Changed: number("changed"), Pruned: number("pruned")}
		in.Spec = s.spec(r)
		if has("rejected") {
			in.Outcome, in.Reason, in.Object, in.Message = OutcomeRejected, "Rejected", "ConfigMap/shop/a", "data: invalid"
		}
		if has("halted") {
			in.Outcome, in.Reason, in.Message = OutcomeHalted, "Halted", "the bundle is empty and would delete everything it owned"
		}
		if has("failed") {
			in.Outcome, in.Reason, in.Message = OutcomeFailed, "ClusterUnreachable", "connection refused"
		}
		return s.step(t, in)
	case "health":
		r := ref()
		in := HealthSeen{Name: r.Name, Spec: s.spec(r)}
		if o := arg("unhealthy"); o != "" {
			in.Unhealthy = []ObjectStatus{{o, "InProgress", "0 of 2 ready"}}
		}
		return s.step(t, in)
	case "drift":
		r := ref()
		seen := s.drift(arg("object"), arg("path"))
		seen.Message = arg("left")
		return s.step(t, DriftSeen{Name: r.Name, Drift: seen, Left: arg("left") != "", Gone: has("gone")})
	case "corrected":
		r := ref()
		return s.step(t, Corrected{Name: r.Name, Drift: s.drift(arg("object"), arg("path")), Err: arg("error")})
	case "sent":
		return s.step(t, Sent{Type: arg("type"), Upto: uint64(number("upto")), Err: arg("error")})
	case "cluster":
		return s.step(t, ClusterSeen{Reachable: has("up"), Version: "1.37.1", Message: arg("message")})
	case "store": // store refuses=disk-full | store writes
		return s.step(t, StoreSeen{Message: arg("refuses")})
	case "state":
		return s.picture()
	case "busy": // busy who=till for=2h | busy who=till
		length, _ := time.ParseDuration(arg("for"))
		return s.step(t, Busy{Who: arg("who"), For: length, Reason: arg("reason")})
	case "files": // files | files till=closing
		in := BusySeen{Files: map[string]string{}}
		for _, a := range d.CmdArgs {
			in.Files[a.Key] = strings.Join(a.Vals, ",")
		}
		return s.step(t, in)
	case "override": // override object=… for=2h [path=/data/a] | override object=… clear
		if has("clear") {
			return s.step(t, OverrideClear{Object: arg("object"), Who: "ann"})
		}
		length, _ := time.ParseDuration(arg("for"))
		in := OverrideSet{Object: arg("object"), For: length, Reason: "spare", Who: "ann"}
		if p := arg("path"); p != "" {
			in.Paths = []string{p}
		}
		return s.step(t, in)
	case "clock":
		return s.times()
	case "disk": // disk save=a | disk back=a: the disk as it was
		if name := arg("save"); name != "" {
			s.disks[name] = maps.Clone(s.store)
		} else {
			s.store = maps.Clone(s.disks[arg("back")])
		}
		return "ok"
	case "note": // note kept [error=…] | note read [wiped|forged|foreign|large|error=…|waits=…] | note save=a | note back=a | note show
		return s.note(t, d, arg, has)
	case "trusted": // trusted root=3 targets=5
		return s.step(t, Trusted{HubKeys: s.edge.HubKeys(), Trust: TrustStatus{Root: uint64(number("root")), Targets: uint64(number("targets"))}})
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

func (s *script) spec(r bundle.Ref) string {
	return specOf(AssignedBundle{Name: r.Name, Version: r.Version, Digest: digestOf(string(r.Version))}, nil)
}

func (s *script) looked(t *testing.T, d *datadriven.TestData) Looked {
	var in Looked
	a := Assignment{Site: "shop-1", Issued: s.now}
	ack := Ack{Site: "shop-1", Epoch: s.edge.Epoch()}
	forged := false
	var rollout *RolloutRef
	attempt := 0
	var lease time.Time
	var schedule *Schedule
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "seq":
			a.Sequence, _ = strconv.ParseUint(arg.Vals[0], 10, 64)
		case "site":
			a.Site = bundle.SiteID(arg.Vals[0])
		case "forged":
			forged = true
		case "bundles":
			for _, v := range arg.Vals {
				r, err := bundle.ParseRef(v)
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				a.Bundles = append(a.Bundles, AssignedBundle{Name: r.Name, Version: r.Version, Digest: digestOf(string(r.Version))})
			}
		case "lease": // lease=1h
			life, err := time.ParseDuration(arg.Vals[0])
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			lease = s.now.Add(life)
		case "window": // window=(02:00,04:00)
			var w Window
			if err := errors.Join(w.From.UnmarshalText([]byte(arg.Vals[0])), w.To.UnmarshalText([]byte(arg.Vals[1]))); err != nil {
				d.Fatalf(t, "%v", err)
			}
			schedule = &Schedule{Windows: []Window{w}}
		case "blackout": // blackout=(2026-11-21,2026-11-22)
			var b Blackout
			if err := errors.Join(b.From.UnmarshalText([]byte(arg.Vals[0])), b.To.UnmarshalText([]byte(arg.Vals[1]))); err != nil {
				d.Fatalf(t, "%v", err)
			}
			b.Why = "the week of the sales"
			schedule = &Schedule{Blackouts: []Blackout{b}}
		case "zone":
			a.Zone = arg.Vals[0]
		case "rollout": // rollout=r1/2
			id, attempt, _ := strings.Cut(arg.Vals[0], "/")
			rollout = &RolloutRef{ID: id}
			rollout.Attempt, _ = strconv.Atoi(attempt)
		case "attempt": // attempt=2: ordered once more by hand
			attempt, _ = strconv.Atoi(arg.Vals[0])
		case "ack":
			ack.Upto, _ = strconv.ParseUint(arg.Vals[0], 10, 64)
		case "missing": // missing=(3-7,9-9)
			for _, run := range arg.Vals {
				var r Range
				if _, err := fmt.Sscanf(run, "%d-%d", &r.From, &r.To); err != nil {
					d.Fatalf(t, "%v", err)
				}
				ack.Missing = append(ack.Missing, r)
			}
		case "pace":
			ack.Pace, _ = strconv.Atoi(arg.Vals[0])
		case "snapshot":
			ack.Snapshot, _ = strconv.ParseUint(arg.Vals[0], 10, 64)
		}
	}
	for i := range a.Bundles {
		a.Bundles[i].Rollout, a.Bundles[i].ApplyBy, a.Bundles[i].Schedule, a.Bundles[i].Attempt = rollout, lease, schedule, attempt
	}
	if !reflect.DeepEqual(ack, Ack{Site: "shop-1", Epoch: s.edge.Epoch()}) {
		in.Ack = s.seal(t, TypeAck, ack)
	}
	if a.Sequence > 0 {
		in.Assignment = s.seal(t, TypeAssignment, a)
	}
	if forged {
		in.Assignment[len(in.Assignment)-6] ^= 1
	}
	return in
}

func (s *script) statement(t *testing.T, d *datadriven.TestData) []byte {
	f := Fresh{Site: "shop-1", Nonce: s.nonce, Time: s.now}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "assignment":
			f.Assignment, _ = strconv.ParseUint(arg.Vals[0], 10, 64)
		case "ack":
			f.Ack = &Ack{Site: "shop-1", Epoch: s.edge.Epoch()}
			f.Ack.Upto, _ = strconv.ParseUint(arg.Vals[0], 10, 64)
		case "note":
			f.Note = s.images[arg.Vals[0]]
		case "nonce":
			f.Nonce = map[string]string{"other": "0123456789abcdef0123456789abcdef", "none": ""}[arg.Vals[0]]
		case "reads":
			f.Reads = arg.Vals
		case "site":
			f.Site = bundle.SiteID(arg.Vals[0])
		case "at":
			later, err := time.ParseDuration(arg.Vals[0])
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			f.Time = f.Time.Add(later)
		}
	}
	sealed := s.seal(t, TypeFresh, f)
	if d.HasArg("forged") {
		sealed[len(sealed)-6] ^= 1
	}
	return sealed
}

func (s *script) seal(t *testing.T, messageType string, payload any) []byte {
	sealed, err := Seal(messageType, payload, s.hub)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// beat is the hub's heartbeat on a metered line; others have the default.
func (s *script) beat() time.Duration {
	if s.metered {
		return 6 * time.Minute
	}
	return 0
}

func (s *script) start(t *testing.T) string {
	s.edge = NewEdge(EdgeConfig{Site: "shop-1", Agent: "test", HubKeys: []ed25519.PublicKey{s.hub.Public().(ed25519.PublicKey)}, NewEpoch: "e1", Seed: "seed", FirstApply: s.first, Zone: time.LoadLocation, MaxPending: s.limit, Metered: s.metered, HeartBeat: s.beat(),
		NoteKey: map[bool][]byte{true: noteKey}[s.notes], Notebook: s.notes})
	in := Restored{Boot: s.boot}
	for _, key := range slices.Sorted(maps.Keys(s.store)) {
		if strings.HasPrefix(key, RecordPrefix) {
			in.Records = append(in.Records, Record{key, s.store[key]})
		}
		if strings.HasPrefix(key, EventPrefix) {
			line, err := StoredOf(Record{key, s.store[key]})
			if err != nil {
				t.Fatal(err)
			}
			in.Outbox = append(in.Outbox, line)
		}
	}
	return s.step(t, in)
}

func (s *script) step(t *testing.T, in Input) string {
	out, err := s.edge.Step(s.now.Add(s.wrong), in)
	if err != nil {
		return "error: " + err.Error()
	}
	var b strings.Builder
	for _, r := range out.Persist {
		s.persist(&b, r)
	}
	if out.Look {
		fmt.Fprintln(&b, map[bool]string{false: "look", true: "look for the assignment"}[out.Brief])
	}
	for _, f := range out.Fetch {
		fmt.Fprintf(&b, "fetch %s@%s%s\n", f.Bundle.Name, f.Bundle.Version, map[bool]string{true: " again"}[f.Again])
	}
	for _, p := range out.Prefetch {
		fmt.Fprintf(&b, "prefetch %s@%s within %s\n", p.Run.Bundle.Name, p.Run.Bundle.Version, p.Timeout)
	}
	if r := out.Run; r != nil {
		fmt.Fprintf(&b, "run %s@%s remove=%v\n", r.Bundle.Name, r.Bundle.Version, r.Remove)
	}
	for _, c := range out.Correct {
		fmt.Fprintf(&b, "correct %s %s %s\n", c.Name, c.Drift.Kind, c.Drift.Object)
	}
	if k := out.Keep; k != nil {
		s.kept = k
		fmt.Fprintf(&b, "keep note %d\n", k.Number)
	}
	for _, m := range out.Send {
		switch m.Type {
		case TypeState:
			fmt.Fprintf(&b, "send state %d%s\n", m.State.Sequence, map[bool]string{true: " packed"}[m.Packed])
		case TypeEvents:
			fmt.Fprintf(&b, "send events %d-%d%s\n", m.From, m.To, map[bool]string{true: " packed"}[m.Packed])
		default:
			fmt.Fprintln(&b, "send hello"+map[bool]string{true: " and ask what is fresh"}[m.Hello.Nonce != ""])
			s.nonce = cmp.Or(m.Hello.Nonce, s.nonce)
		}
	}
	if out.Retain != nil {
		fmt.Fprintf(&b, "retain %d bundles\n", len(out.Retain))
	}
	if !out.Wake.IsZero() {
		fmt.Fprintf(&b, "wake in %s\n", out.Wake.Sub(s.now.Add(s.wrong)))
	}
	if b.Len() == 0 {
		return "ok"
	}
	return b.String()
}

// persist stores a record and shows it: events in words, everything else by its key.
func (s *script) persist(b *strings.Builder, r Record) {
	switch {
	case r.Value == nil:
		delete(s.store, r.Key)
		fmt.Fprintf(b, "delete %s\n", r.Key)
		return
	case strings.HasPrefix(r.Key, EventPrefix):
		var ev Event
		_ = json.Unmarshal(r.Value, &ev)
		fmt.Fprintf(b, "event %d %s", ev.Sequence, ev.Kind)
		for _, word := range []string{string(ev.Bundle), string(ev.Version), ev.Object, ev.Reason, ev.Message} {
			if word != "" {
				fmt.Fprintf(b, " · %s", word)
			}
		}
		for _, run := range ev.Gaps {
			fmt.Fprintf(b, " · %d-%d", run.From, run.To)
		}
		fmt.Fprintln(b)
	case r.Key != keyOutbox:
		fmt.Fprintf(b, "store %s\n", r.Key)
	}
	s.store[r.Key] = r.Value
}

var noteKey = []byte("the site's own")

// note is what happens to the note in the cluster.
func (s *script) note(t *testing.T, d *datadriven.TestData, arg func(string) string, has func(string) bool) string {
	switch in := (Noted{Note: s.cluster, Err: cmp.Or(arg("error"), arg("waits")), Waits: arg("waits") != ""}); {
	case has("kept"):
		if in.Err == "" {
			s.cluster = s.kept.Note
		}
		return s.step(t, NoteKept{Number: s.kept.Number, Err: in.Err})
	case has("save"):
		s.images[arg("save")] = s.cluster
	case has("back"):
		s.cluster = s.images[arg("back")]
	case has("show"):
		n, err := OpenNote(noteKey, "shop-1", s.cluster)
		if err != nil {
			return err.Error()
		}
		text := fmt.Sprintf("note %d: epoch %s, assignment %d, root %d.%d", n.Number, n.Epoch, n.Assignment, n.Root, n.Targets)
		for _, name := range slices.Sorted(maps.Keys(n.Marks)) {
			text += fmt.Sprintf(", %s %d", name, n.Marks[name].Counter)
		}
		return text
	case has("wiped"):
		s.cluster = nil
		return s.step(t, Noted{})
	case has("forged"):
		in.Note = []byte(strings.Replace(string(s.cluster), `"counter":2`, `"counter":1`, 1))
		return s.step(t, in)
	case has("foreign"):
		in.Note, _ = SealNote([]byte("another's"), Note{Site: "shop-2", Number: 9})
		return s.step(t, in)
	case has("large"):
		in.Note = make([]byte, MaxNote+1)
		return s.step(t, in)
	case has("read"):
		return s.step(t, in)
	default:
		d.Fatalf(t, "unknown")
	}
	return "ok"
}

func (s *script) drift(object, path string) Drift {
	if path == "" {
		return Drift{Object: object, Kind: DriftDeleted}
	}
	return Drift{Object: object, Kind: DriftChanged, Paths: []string{path}}
}

// times shows what the site takes the time to be, against what it is.
func (s *script) times() string {
	state := s.edge.state(s.now.Add(s.wrong))
	known := "nothing signed has told the time"
	if at := state.Clock.Time; !at.IsZero() {
		known = fmt.Sprintf("%s behind", s.now.Sub(at))
	}
	proof := "never proven"
	if at := state.Desired.AsOf; !at.IsZero() {
		proof = fmt.Sprintf("proven %s ago", s.now.Sub(at))
	}
	return fmt.Sprintf("time %s, %s; desired state %s %s\n", state.Clock.Quality, known, proof, state.Desired.Stale)
}

func (s *script) picture() string {
	var b strings.Builder
	state := s.edge.state(s.now.Add(s.wrong))
	fmt.Fprintf(&b, "assignment %d, events %d, acknowledged %d, dropped %d\n", state.Assignment, state.Outbox.Next-1, state.Outbox.Acked, state.Outbox.Dropped)
	for _, x := range state.Bundles {
		fmt.Fprintf(&b, "%s desired=%s current=%s %s drift=%d corrected=%d %s\n", x.Name, x.Desired, x.Current, x.Phase, x.DriftCount, x.Corrected, strings.TrimSpace(x.Message+untilText(x.Until)))
	}
	return b.String()
}
