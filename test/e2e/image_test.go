package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/internal/api"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// noteNamespace is where an agent outside a pod has its note.
const noteNamespace = "kube-system"

// TestF08_OldDiskImageOfAnAgent puts the whole data folder of an agent back to an earlier time while the line to the hub is cut. The note in the cluster has it
// refused; where the note is lost too, the hub's echo tells once the line is back.
func TestF08_OldDiskImageOfAnAgent(t *testing.T) {
	c := sharedCluster(t)
	s := newStage(t)
	for _, lost := range []bool{false, true} {
		name := fmt.Sprintf("image-%v", lost)
		at := s.site(name, c)
		h := at.hands(name)
		s.release(shopFolder(t, name, "one"), name, "1.0.0")
		at.assign(name + "@1.0.0")
		at.runs(name, "1.0.0")
		at.StopEdge(true)
		data, image := filepath.Join(at.Dir, "data"), filepath.Join(at.Dir, "image")
		copyFolder(t, data, image)
		at.start()
		s.release(shopFolder(t, name, "two"), name, "1.1.0")
		at.assign(name + "@1.1.0")
		at.runs(name, "1.1.0")
		status, err := at.status(name)
		if err != nil {
			t.Fatal(err)
		}
		notes, note := h.CoreV1().ConfigMaps(noteNamespace), "holdfast-edge-note-"+name
		s.eventually("the newest counter in the note", func() error {
			kept, err := notes.Get(s.context(), note, metav1.GetOptions{})
			if err == nil && !strings.Contains(kept.Data["note.json"], string(status.Digest)) {
				err = fmt.Errorf("it is %v", kept.Data)
			}
			return err
		})
		at.StopEdge(true)

		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		copyFolder(t, image, data)
		if lost {
			if err := notes.Delete(s.context(), note, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		before := len(logOf(t, at))
		at.Link.Cut()
		at.start()
		if !lost {
			s.eventually("the image to be refused", func() error {
				if log := logOf(t, at)[before:]; !strings.Contains(log, `"StorePutBack"`) || !strings.Contains(log, "OlderCounter") {
					return fmt.Errorf("the agent has not said so")
				}
				return nil
			})
			if now, err := h.greeting(); err != nil || now != "two" {
				t.Errorf("the greeting is %q: %v", now, err)
			}
		}
		at.Link.Mend()
		at.runs(name, "1.1.0")
		teller := fleetsync.NoteInCluster
		if lost {
			teller = fleetsync.NoteAtHub
		}
		told := at.tells("the image", func(e api.SiteEvent) bool { return e.Kind == fleetsync.EventPutBack })
		if !strings.HasPrefix(told.Message, string(teller)+" knows more than the store") || !strings.Contains(told.Message, name+" counter") || told.Offline == lost {
			t.Errorf("told %+v", told)
		}
		if now, err := h.greeting(); err != nil || now != "two" {
			t.Errorf("the greeting is %q: %v", now, err)
		}
		at.StopEdge(true)
	}
}

// copyFolder copies a folder whose agent is stopped.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func logOf(t *testing.T, at *site) string {
	t.Helper()
	raw, err := os.ReadFile(at.EdgeLog())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
