package watchdog

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	noon  = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	rules = Rules{Within: 10 * time.Minute, Steady: time.Minute}
	older = Template(`{"spec":{"containers":[{"image":"edge:1"}]}}`)
	newer = Template(`{"spec":{"containers":[{"image":"edge:2"}]}}`)
)

// site is an agent's Deployment and its watchdog, which stores what it decides before it does it.
type site struct {
	now, started time.Time
	memory       Memory
	template     Template
	works        map[string]bool
	back         int
}

func newSite() *site {
	return &site{now: noon, started: noon, template: older, works: map[string]bool{older.Hash(): true}}
}

// look is one look, every ten seconds.
func (s *site) look() {
	s.now = s.now.Add(10 * time.Second)
	var back Template
	s.memory, back = Step(s.now, s.started, s.memory, Seen{s.template, s.works[s.template.Hash()]}, rules)
	if back != nil {
		s.template = back
		s.back++
	}
}

func (s *site) looks(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.look()
	}
}

func TestR21_AWatchdogRestoresTheAgentBefore(t *testing.T) {
	s := newSite()
	s.looks(2 * time.Minute)
	s.template = newer
	s.looks(9 * time.Minute)
	if !bytes.Equal(s.template, newer) {
		t.Fatal("taken back before its time was up")
	}
	s.looks(2 * time.Minute)
	if !bytes.Equal(s.template, older) || s.back != 1 {
		t.Fatalf("template %s after %d ways back, want the older one after one", s.template, s.back)
	}
	if r := s.memory.Refused; len(r) != 1 || r[0].Hash != newer.Hash() || r[0].Why == "" || s.memory.Backs != 1 {
		t.Errorf("refused %+v, %d ways back: want the newer one, once, with a reason", r, s.memory.Backs)
	}
	if s.looks(time.Hour); s.back != 1 || s.memory.Trial != nil {
		t.Errorf("%d ways back, trial %v: want rest", s.back, s.memory.Trial)
	}
}

func TestR21_AnAgentThatIsSteadyIsTheOneToGoBackTo(t *testing.T) {
	s := newSite()
	s.looks(2 * time.Minute)
	s.template = newer
	s.works[newer.Hash()] = true
	if s.looks(2 * time.Minute); !bytes.Equal(s.memory.Good, newer) || s.back != 0 {
		t.Fatalf("good is %s after %d ways back, want the newer one", s.memory.Good, s.back)
	}
	s.works[newer.Hash()] = false
	if s.looks(time.Hour); s.back != 0 {
		t.Error("the good agent was taken back although there is nothing better (W3)")
	}
}

func TestR21_AvailableNowAndThenIsNotSteady(t *testing.T) {
	s := newSite()
	s.looks(2 * time.Minute)
	s.template = newer
	for i := 0; s.back == 0 && i < 1000; i++ {
		s.works[newer.Hash()] = i%5 != 0 // down every fifty seconds
		s.look()
	}
	if !bytes.Equal(s.template, older) {
		t.Error("an agent that keeps crashing was kept")
	}
}

func TestR21_ANightWithoutPowerIsNoFailedTrial(t *testing.T) {
	s := newSite()
	s.looks(2 * time.Minute)
	s.template = newer
	s.looks(time.Minute)
	s.now = s.now.Add(8 * time.Hour)
	s.started = s.now
	s.works[newer.Hash()] = true
	if s.looks(2 * time.Minute); s.back != 0 || !bytes.Equal(s.memory.Good, newer) {
		t.Errorf("%d ways back: the time without power counted (W4)", s.back)
	}
}

// TestR21_AlwaysAWayBack lets agents of all kinds come and go, and crashes the watchdog between deciding and doing.
func TestR21_AlwaysAWayBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSite()
		s.looks(2 * time.Minute)
		for range rapid.IntRange(1, 12).Draw(t, "acts") {
			switch rapid.SampledFrom([]string{"upgrade", "look", "crash", "wait"}).Draw(t, "act") {
			case "upgrade":
				s.template = Template(rapid.SampledFrom([]string{`{"a":1}`, `{"a":2}`, `{"a":3}`}).Draw(t, "template"))
				s.works[s.template.Hash()] = rapid.Bool().Draw(t, "works")
			case "look":
				s.look()
			case "crash": // what was decided is stored, what was to be done is not done
				s.now = s.now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(t, "away"))
				s.memory, _ = Step(s.now, s.started, s.memory, Seen{s.template, s.works[s.template.Hash()]}, rules)
				s.started = s.now
			case "wait":
				s.looks(rapid.SampledFrom([]time.Duration{time.Minute, 15 * time.Minute}).Draw(t, "wait"))
			}
			if s.memory.Good == nil {
				t.Fatal("there is no way back (W1)")
			}
		}
		s.looks(15 * time.Minute)
		if !s.works[s.template.Hash()] && !bytes.Equal(s.template, s.memory.Good) {
			t.Fatalf("a template that does not work stays: %s", s.template)
		}
	})
}

func FuzzDecode(f *testing.F) {
	raw, _ := Encode(Memory{Good: []byte(older), Trial: &Trial{Hash: newer.Hash(), Since: noon}, Refused: []Refused{{newer.Hash(), noon, "x"}}})
	f.Add(raw)
	f.Add([]byte(`{"good":{}} {}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Decode(raw)
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			return // escaped, it is larger than it came
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
