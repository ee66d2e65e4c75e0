package hub

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// groupRecord is what GroupSubject holds. A group that was deleted stays as its name, so that every hub hears of it.
type groupRecord struct {
	Name     bundle.Name `json:"name"`
	Selector string      `json:"selector,omitempty"`
	Deleted  bool        `json:"deleted,omitempty"`
	Revision uint64      `json:"revision"` // grows with each change
}

func (v *View) foldGroup(m stream.Message) error {
	var record groupRecord
	if err := decodeRecord(m.Data, &record); err != nil {
		return fmt.Errorf("%s: %w", m.Subject, err)
	}
	if GroupSubject(record.Name) != m.Subject {
		return fmt.Errorf("%s: the record is of group %.80q", m.Subject, record.Name)
	}
	if record.Revision >= v.groups[record.Name].Revision {
		v.groups[record.Name] = record
	}
	return nil
}

// Selectors are the groups, as plans refer to them.
func (v *View) Selectors() map[string]string {
	selectors := map[string]string{}
	for name, group := range v.groups {
		if !group.Deleted {
			selectors[string(name)] = group.Selector
		}
	}
	return selectors
}

// Groups lists the groups by name.
func (v *View) Groups() []api.Group {
	groups := []api.Group{}
	for _, name := range slices.Sorted(maps.Keys(v.groups)) {
		if group, known := v.Group(name); known {
			groups = append(groups, group)
		}
	}
	return groups
}

// Group is one group with the number of its sites.
func (v *View) Group(name bundle.Name) (api.Group, bool) {
	record, known := v.groups[name]
	if !known || record.Deleted {
		return api.Group{}, false
	}
	group := api.Group{Name: name, Selector: record.Selector}
	selector, err := bundle.ParseSelector(record.Selector)
	if err != nil {
		return group, true // it was checked when it was set: an older hub's rules were others
	}
	for _, site := range v.sites {
		if site.record.Gone == nil && selector.Matches(site.record.Labels) {
			group.Sites++
		}
	}
	return group, true
}

func unknownGroup(name bundle.Name) *api.Error {
	return refuse(http.StatusNotFound, "UnknownGroup", fmt.Sprintf("group %s is not known", name), "", "holdfast group list shows the groups, holdfast group set makes one")
}

// SetGroup makes a group or gives it another selector.
func (h *Hub) SetGroup(ctx context.Context, name bundle.Name, request api.GroupRequest) (api.Group, error) {
	selector, err := bundle.ParseSelector(request.Selector)
	if err != nil {
		return api.Group{}, malformed(fmt.Sprintf("group %s: not a label selector", name), err)
	}
	if selector.Empty() {
		return api.Group{}, refuse(http.StatusBadRequest, "EmptyGroup", fmt.Sprintf("group %s would be every site", name), "", "say labels, for example tier=canary")
	}
	err = h.changeGroup(ctx, name, func(record *groupRecord) error {
		record.Selector, record.Deleted = request.Selector, false
		return nil
	})
	if err != nil {
		return api.Group{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	group, _ := h.view.Group(name)
	return group, nil
}

// DeleteGroup forgets a group that nothing names. What begins to name it at the same moment finds it gone.
func (h *Hub) DeleteGroup(ctx context.Context, name bundle.Name) (api.Group, error) {
	impact, err := h.foreseeGroup(ctx, name)
	if err == nil && impact.Refused != nil {
		err = &api.Error{Problem: *impact.Refused}
	}
	if err != nil {
		return api.Group{Name: name}, err
	}
	err = h.changeGroup(ctx, name, func(record *groupRecord) error {
		if record.Selector == "" {
			return unknownGroup(name)
		}
		record.Selector, record.Deleted = "", true
		return nil
	})
	return api.Group{Name: name}, err
}

func (h *Hub) changeGroup(ctx context.Context, name bundle.Name, edit func(*groupRecord) error) error {
	return changeRecord(ctx, h, GroupSubject(name), fmt.Sprintf("group %s", name), groupRecord{Name: name}, func(record *groupRecord) error {
		record.Revision++
		return edit(record)
	})
}

func (h *Hub) getGroups(http.ResponseWriter, *http.Request) ([]api.Group, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.view.Groups(), nil
}

func (h *Hub) getGroup(_ http.ResponseWriter, r *http.Request) (api.Group, error) {
	name, err := groupOf(r)
	if err != nil {
		return api.Group{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	group, known := h.view.Group(name)
	if !known {
		return group, unknownGroup(name)
	}
	return group, nil
}

func (h *Hub) putGroup(w http.ResponseWriter, r *http.Request) (api.Group, error) {
	name, err := groupOf(r)
	if err != nil {
		return api.Group{}, err
	}
	request, err := decodeRequest[api.GroupRequest](w, r)
	if err != nil {
		return api.Group{}, err
	}
	return h.SetGroup(context.WithoutCancel(r.Context()), name, request)
}

func (h *Hub) deleteGroup(_ http.ResponseWriter, r *http.Request) (api.Group, error) {
	name, err := groupOf(r)
	if err != nil {
		return api.Group{}, err
	}
	return h.DeleteGroup(context.WithoutCancel(r.Context()), name)
}

func groupOf(r *http.Request) (bundle.Name, error) {
	name, err := bundle.ParseName(r.PathValue("group"))
	if err != nil {
		return "", malformed("not a group's name", err)
	}
	return name, nil
}
