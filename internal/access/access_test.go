package access

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestT27_RolesAreALadder(t *testing.T) {
	for i, role := range ladder {
		for j, least := range ladder {
			if got := role.Covers(least); got != (i >= j) {
				t.Errorf("%s covers %s: %t", role, least, got)
			}
		}
		if role.Covers("") || Role("").Covers(role) || Role("root").Covers(role) || role.Covers("root") {
			t.Errorf("%s and what is no role", role)
		}
	}
}

func TestT27_AScopeOnlyTakesAway(t *testing.T) {
	groups := map[string]string{"eu": "region in (eu)", "broken": "a b"}
	for name, c := range map[string]struct {
		scope  Scope
		labels map[string]string
		want   bool
	}{
		"no scope":           {Scope{}, nil, true},
		"group":              {Scope{Group: "eu"}, map[string]string{"region": "eu"}, true},
		"outside the group":  {Scope{Group: "eu"}, map[string]string{"region": "us"}, false},
		"no such group":      {Scope{Group: "gone"}, map[string]string{"region": "eu", "x": "y"}, false},
		"group with no rule": {Scope{Group: "broken"}, map[string]string{"a": "b"}, false},
		"labels":             {Scope{Labels: "tier!=gold"}, nil, true},
		"both":               {Scope{Group: "eu", Labels: "tier=gold"}, map[string]string{"region": "eu", "tier": "gold"}, true},
		"only one of both":   {Scope{Group: "eu", Labels: "tier=gold"}, map[string]string{"region": "eu"}, false},
	} {
		if got := c.scope.Sites(groups).Has(c.labels); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestT27_UsersThatCannotBe(t *testing.T) {
	good := User{Name: "olga", Role: Operator, Scope: Scope{Labels: "region=eu"}, Created: noon, Expires: noon.Add(time.Hour)}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*User){
		"want lower-case letters":          func(u *User) { u.Name = "olga.smith" },
		"the name is the hub's own":        func(u *User) { u.Name = "admin" },
		"role \"root\"":                    func(u *User) { u.Role = "root" },
		"role \"\"":                        func(u *User) { u.Role = "" },
		"an admin has no scope":            func(u *User) { u.Role = Admin },
		"scope: selector":                  func(u *User) { u.Scope.Labels = "a b" },
		"scope: the selector \" \" is":     func(u *User) { u.Scope.Labels = " " },
		"scope: group \"A\"":               func(u *User) { u.Scope.Group = "A" },
		"would live 0s":                    func(u *User) { u.Expires = noon },
		"would live 8785h0m0s: want up to": func(u *User) { u.Expires = noon.Add(MaxLife + time.Hour) },
	} {
		u := good
		edit(&u)
		if err := u.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestT27_ExpiredAndRevokedTokensOpenNothing(t *testing.T) {
	u := User{Name: "olga", Expires: noon}
	if u.Barred(noon.Add(-time.Second)) != "" || !strings.Contains(u.Barred(noon), "expired at 2026-11-21T12:00:00Z") {
		t.Errorf("%q %q", u.Barred(noon.Add(-time.Second)), u.Barred(noon))
	}
	u.Revoked = &noon
	if !strings.Contains(u.Barred(noon.Add(-time.Second)), "revoked") {
		t.Error("a revoked token opens")
	}
}
