package apply

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The bounds of correcting one object again and again.
const (
	fightWindow  = time.Minute
	fightFree    = 10 // corrections in a window that are nobody's fight
	fightFirst   = 2 * time.Second
	fightLongest = 5 * time.Minute
	// fightPeace without a correction ends a fight.
	fightPeace = 10 * time.Minute
)

// Fight notices that somebody undoes our corrections as soon as they are made – another controller, not a person – and stretches the pauses
// between them. It is pure; the zero value is peace. Time comes from outside.
type Fight struct {
	recent   []time.Time // corrections in the window, oldest first
	rounds   int         // corrections over the free ones
	managers []string
}

// Corrected notes a correction and whom it was made against.
func (f *Fight) Corrected(now time.Time, managers []string) {
	f.forget(now)
	f.recent = append(f.recent, now)
	f.managers = managers
	if len(f.recent) > fightFree || f.rounds > 0 {
		f.rounds++
	}
	if len(f.recent) > fightFree {
		f.recent = slices.Delete(f.recent, 0, len(f.recent)-fightFree)
	}
}

// Pause is how long the next correction has to wait; 0 in peace.
func (f *Fight) Pause(now time.Time) time.Duration {
	f.forget(now)
	if f.rounds == 0 {
		return 0
	}
	pause := fightLongest
	if f.rounds < 10 {
		pause = min(fightFirst<<(f.rounds-1), fightLongest)
	}
	return max(0, f.recent[len(f.recent)-1].Add(pause).Sub(now))
}

// Words say who fights, for people.
func (f *Fight) Words(pause time.Duration) string {
	who := "somebody"
	if len(f.managers) > 0 {
		who = strings.Join(f.managers, ", ")
	}
	return fmt.Sprintf("%s undoes every correction; the next is tried in %s", who, pause.Round(time.Second))
}

func (f *Fight) forget(now time.Time) {
	if n := len(f.recent); f.rounds > 0 && n > 0 && now.Sub(f.recent[n-1]) > fightPeace {
		*f = Fight{}
	}
	if f.rounds > 0 {
		return
	}
	f.recent = slices.DeleteFunc(f.recent, func(t time.Time) bool { return now.Sub(t) > fightWindow })
}
