package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// Two devices of one image become the two sites their serial numbers say, one of them is stolen.
func TestT23_DevicesOfOneImageBecomeSitesAndAStolenOneIsCutOff(t *testing.T) {
	c := sharedCluster(t)
	s := newStage(t)
	file, err := s.Token("image", "--group", "canary", "--uses", "2", "--site-name", "serial")
	if err != nil {
		t.Fatal(err)
	}
	secret := secretOf(t, file)
	var sites []*fleet.Site
	for _, serial := range []string{"enrol-1", "enrol-2"} {
		site, err := s.Enrol(t.Context(), serial, c, file)
		if err != nil {
			t.Fatal(err)
		}
		// The file is of no use any more, and not needed either.
		if err := os.WriteFile(filepath.Join(site.Dir, "enrol.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := site.StartEnrolled(); err != nil {
			t.Fatal(err)
		}
		sites = append(sites, site)
	}
	for _, site := range sites {
		err := fleet.Until(t.Context(), patience, site.Name+" to report", func() error {
			shown, err := s.Site(site.Name)
			if err == nil && (shown.Freshness != api.Fresh || shown.State == nil || shown.Labels["group"] != "canary") {
				err = fmt.Errorf("it is shown as %+v", shown)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if _, err := s.CLI("site", "revoke", "enrol-1", "--yes", "--why", "stolen"); err != nil {
		t.Fatal(err)
	}
	if err := sites[0].AwaitGone(t.Context(), 5*time.Second-time.Since(begun)); err != nil {
		t.Error(err)
	}
	if shown, err := s.Site("enrol-1"); err != nil || shown.Status != "revoked" {
		t.Errorf("%+v, %v", shown, err)
	}
	err = fleet.Until(t.Context(), patience, "the stolen agent to say what the hub says", func() error {
		log, err := os.ReadFile(sites[0].EdgeLog())
		if err == nil && !strings.Contains(string(log), "SiteRevoked") {
			err = fleet.ErrNotYet
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if shown, err := s.Site("enrol-2"); err != nil || !shown.Connected {
		t.Errorf("the other site: %+v, %v", shown, err)
	}
	var records []api.AuditRecord
	if err := s.JSON(&records, "audit", "list"); err != nil {
		t.Fatal(err)
	}
	done := map[string]int{}
	for _, r := range records {
		if !strings.HasPrefix(r.Target, "dry run") {
			done[r.What+" "+r.Outcome]++
		}
	}
	if done["token create done"] != 1 || done["enrol pending"] != 2 || done["site revoke done"] != 1 {
		t.Errorf("audit log: %v", done)
	}
	if _, err := s.CLI("audit", "verify"); err != nil {
		t.Error(err)
	}
	// T16: the token's secret is in no log.
	for _, name := range []string{filepath.Join(s.Dir, "hub.log"), sites[0].EdgeLog(), sites[1].EdgeLog()} {
		if raw, err := os.ReadFile(name); err != nil || strings.Contains(string(raw), secret) {
			t.Errorf("%s has the token's secret, %v", name, err)
		}
	}
}

// secretOf reads the token out of an enrolment file.
func secretOf(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(raw), `"token": "`)
	secret, _, ends := strings.Cut(rest, `"`)
	if !found || !ends || !strings.HasPrefix(secret, "hft_") {
		t.Fatalf("no token in %s", file)
	}
	return secret
}
