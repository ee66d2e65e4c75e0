package sim

import (
	"time"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// noteKey is every site's; nil: no notes are made.
func (w *World) noteKey() []byte {
	if !w.cfg.Notes {
		return nil
	}
	return []byte("sim")
}

// readNote tells the agent what the cluster holds: at once, or once the cluster answers.
func (s *site) readNote() {
	s.after(5*time.Second, func() {
		if !s.w.chance(s.w.cfg.Loss) {
			s.step(fleetsync.Noted{Note: s.note})
			return
		}
		s.readNote()
		s.step(fleetsync.Noted{Err: "no answer", Waits: true})
	})
}

// keepNote puts a note into the cluster: it may not arrive, or only the answer is lost.
func (s *site) keepNote(k fleetsync.Keep) {
	s.after(5*time.Second, func() {
		kept := fleetsync.NoteKept{Number: k.Number}
		switch {
		case s.w.chance(s.w.cfg.Loss):
			kept.Err = "not written"
		case s.w.chance(s.w.cfg.Loss):
			s.note, kept.Err = k.Note, "written, and reported as failed"
		default:
			s.note = k.Note
		}
		s.step(kept)
	})
}

// noFalseAlarm wants no disk and no note to be taken for one that was put back: none is here, but a store that is set aside.
func (s *site) noFalseAlarm(ev fleetsync.Event) {
	switch ev.Kind {
	case fleetsync.EventPutBack:
		if ev.Reason == fleetsync.ReasonNewStore && s.disk.stores > 0 {
			return
		}
	case fleetsync.EventNoteBehind, fleetsync.EventNoteRefused:
	default:
		return
	}
	s.w.broken("T03: %s says %s %s: %s", s.id, ev.Kind, ev.Reason, ev.Message)
}

// noted checks that after the fair part the cluster's note knows every counter that was ever durable.
func (s *site) noted() string {
	n, err := fleetsync.OpenNote(s.w.noteKey(), s.id, s.note)
	if err != nil {
		return err.Error()
	}
	for name, mark := range s.truth.marks {
		if n.Marks[name].Older(mark) {
			return "the note has " + string(name) + " below what was accepted"
		}
	}
	return ""
}
