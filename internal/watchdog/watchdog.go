// Package watchdog decides when a site's agent goes back to what it was before: it watches the agent's Deployment from outside, so that a new
// agent that cannot even start is no trip to the site (R21). It is pure; cmd/edge carries it out.
//
// # The model
//
// A pod template that is available for Steady is the good one. Another template is on trial from when it is first seen. It becomes the good one when it
// is available for Steady, and is taken back when that did not come to pass Within. Each way back is counted: the agent that it brings back reads the count,
// and does not begin again what it had begun before.
//
// # Guarantees
//
//	W1  There is always a way back: the good template is kept whole, and is replaced only by one that was available for Steady.
//	W2  What is decided is durable before it is done: a crash between both finds the trial's end again and does it again.
//	W3  The good template itself is never taken back, however it fails: there is nothing better to go to.
//	W4  Time is measured from this watchdog's own start or later, so that a night without power is no failed trial.
package watchdog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Template is an agent's pod template in JSON, as the API server gives it. Two are the same if their bytes are.
type Template []byte

// Hash identifies a template: 32 hex digits.
func (t Template) Hash() string {
	sum := sha256.Sum256(t)
	return hex.EncodeToString(sum[:16])
}

// Limits of what is remembered, so that it fits a ConfigMap.
const (
	MaxTemplate = 256 << 10 // bytes
	MaxMemory   = 600 << 10 // bytes, encoded
	maxRefused  = 20
)

// Memory is what a watchdog knows, the zero value nothing.
type Memory struct {
	// Good is the newest template that was available for Steady.
	Good json.RawMessage `json:"good,omitempty"`
	// Trial is the template that is on trial; nil: none.
	Trial *Trial `json:"trial,omitempty"`
	// Refused are the templates that were taken back, newest last; Backs counts how often that was.
	Refused []Refused `json:"refused,omitempty"`
	Backs   uint64    `json:"backs,omitempty"`
}

// Trial is the time that a new template has.
type Trial struct {
	Hash  string    `json:"hash"`
	Since time.Time `json:"since"`
	// Available is since when it has been available without a break; zero: it is not.
	Available time.Time `json:"available,omitzero"`
	// Ended: its time was up, and it is being taken back.
	Ended bool `json:"ended,omitempty"`
}

// Refused is a template that was taken back.
type Refused struct {
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
	Why  string    `json:"why"`
}

// Rules are how patient a watchdog is.
type Rules struct {
	Within time.Duration // a new template has to become available
	Steady time.Duration // without a break, until it counts
}

// Seen is the agent's Deployment at one look.
type Seen struct {
	Template Template
	// Available: the Deployment's controller has seen this template, and as many pods of it are available as are wanted.
	Available bool
}

// Step is what follows from a look: the memory to make durable where it changed, and then the template to put back, nil for none. started is when
// this watchdog began.
func Step(now, started time.Time, m Memory, seen Seen, rules Rules) (next Memory, back Template) {
	next = m
	hash := seen.Template.Hash()
	if m.Good != nil && bytes.Equal(m.Good, seen.Template) {
		next.Trial = nil
		return next, nil
	}
	trial := Trial{Hash: hash, Since: now}
	if m.Trial != nil && m.Trial.Hash == hash {
		trial = *m.Trial
	}
	if trial.Since.Before(started) && !trial.Ended {
		trial.Since = started
	}
	if trial.Available.Before(started) {
		trial.Available = time.Time{}
	}
	switch {
	case !seen.Available:
		trial.Available = time.Time{}
	case trial.Available.IsZero():
		trial.Available = now
	}
	next.Trial = &trial
	if seen.Available && !trial.Ended && now.Sub(trial.Available) >= rules.Steady {
		next.Good, next.Trial = json.RawMessage(seen.Template), nil
		return next, nil
	}
	if m.Good == nil || now.Sub(trial.Since) < rules.Within && !trial.Ended {
		return next, nil
	}
	if !trial.Ended { // only once, also where it is done again after a crash
		next.Backs++
		why := fmt.Sprintf("the new agent was not available for %s within %s", rules.Steady, rules.Within)
		next.Refused = append(append([]Refused{}, m.Refused...), Refused{Hash: hash, At: now, Why: why})
		next.Refused = next.Refused[max(0, len(next.Refused)-maxRefused):]
		trial.Ended = true
	}
	return next, Template(m.Good)
}

// Encode gives the memory as it is stored.
func Encode(m Memory) ([]byte, error) {
	raw, err := json.Marshal(m)
	if err == nil && len(raw) > MaxMemory {
		err = fmt.Errorf("watchdog: %d bytes to remember, at most %d", len(raw), MaxMemory)
	}
	return raw, err
}

// Decode reads a stored memory.
func Decode(raw []byte) (m Memory, err error) {
	if len(raw) > MaxMemory {
		return Memory{}, fmt.Errorf("watchdog: stored memory of %d bytes, at most %d", len(raw), MaxMemory)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return Memory{}, fmt.Errorf("watchdog: stored memory: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Memory{}, errors.New("watchdog: stored memory: bytes after it")
	}
	if len(m.Good) > MaxTemplate || len(m.Refused) > maxRefused {
		return Memory{}, errors.New("watchdog: stored memory: more than a watchdog remembers")
	}
	return m, nil
}
