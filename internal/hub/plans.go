package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// maxPlans is the most plans that the hub keeps: every hub has all of them in memory.
const maxPlans = 1000

// planRecord is what PlanSubject holds. A plan that was deleted stays as its name, so that every hub hears of it.
type planRecord struct {
	Name     bundle.Name     `json:"name"`
	Plan     json.RawMessage `json:"plan,omitempty"` // as rollout.Plan writes it; none: deleted
	By       string          `json:"by"`
	Changed  time.Time       `json:"changed"`
	Revision uint64          `json:"revision"` // grows with each change
}

func (v *View) foldPlan(m stream.Message) error {
	var record planRecord
	if err := decodeRecord(m.Data, &record); err != nil {
		return fmt.Errorf("%s: %w", m.Subject, err)
	}
	if PlanSubject(record.Name) != m.Subject {
		return fmt.Errorf("%s: the record is of plan %.80q", m.Subject, record.Name)
	}
	if record.Revision >= v.plans[record.Name].Revision {
		v.plans[record.Name] = record
	}
	return nil
}

// Plans lists the plans by name.
func (v *View) Plans() []api.Plan {
	plans := []api.Plan{}
	for _, name := range slices.Sorted(maps.Keys(v.plans)) {
		if plan, known := v.Plan(name); known {
			plans = append(plans, plan)
		}
	}
	return plans
}

// Plan is one plan.
func (v *View) Plan(name bundle.Name) (api.Plan, bool) {
	record, known := v.plans[name]
	return api.Plan{Name: name, By: record.By, Changed: record.Changed, Plan: record.Plan}, known && record.Plan != nil
}

func unknownPlan(name bundle.Name) *api.Error {
	return refuse(http.StatusNotFound, "UnknownPlan", fmt.Sprintf("plan %s is not known", name), "", "holdfast plan list shows the plans, holdfast apply -f stores one")
}

// SetPlan stores a plan under its name, in the place of one that is there. What it is held against, groups and sites, is looked at when a rollout
// starts by it; one that has begun keeps the plan it was started with.
func (h *Hub) SetPlan(ctx context.Context, name bundle.Name, raw json.RawMessage, by string) (api.Plan, error) {
	plan, err := rollout.DecodePlan(raw)
	if err != nil {
		return api.Plan{}, badPlan(err)
	}
	if plan.Metadata.Name != string(name) {
		return api.Plan{}, badPlan(fmt.Errorf("it is plan %s, not %s", plan.Metadata.Name, name))
	}
	if raw, err = json.Marshal(plan); err != nil {
		return api.Plan{}, fmt.Errorf("plan %s: encode: %w", name, err)
	}
	h.mu.Lock()
	_, known := h.view.Plan(name)
	full := len(h.view.Plans()) >= maxPlans
	h.mu.Unlock()
	if full && !known {
		return api.Plan{}, refuse(http.StatusConflict, "TooMany", fmt.Sprintf("the hub keeps %d plans and no more", maxPlans), "", "holdfast plan delete makes room")
	}
	return h.changePlan(ctx, name, by, func(record *planRecord) error {
		record.Plan = raw
		return nil
	})
}

// DeletePlan forgets a plan.
func (h *Hub) DeletePlan(ctx context.Context, name bundle.Name, by string) (api.Plan, error) {
	return h.changePlan(ctx, name, by, func(record *planRecord) error {
		if record.Plan == nil {
			return unknownPlan(name)
		}
		record.Plan = nil
		return nil
	})
}

func (h *Hub) changePlan(ctx context.Context, name bundle.Name, by string, edit func(*planRecord) error) (plan api.Plan, err error) {
	err = changeRecord(ctx, h, PlanSubject(name), fmt.Sprintf("plan %s", name), planRecord{Name: name}, func(record *planRecord) error {
		record.Revision++
		record.By, record.Changed = by, h.cfg.Now().UTC().Truncate(time.Second)
		return edit(record)
	})
	if err != nil {
		return plan, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	plan, _ = h.view.Plan(name)
	return plan, nil
}

// planAsked is the plan of a request: the one in it, or the stored one that it names.
func (h *Hub) planAsked(request api.RolloutRequest) (json.RawMessage, error) {
	if request.PlanName == "" {
		return request.Plan, nil
	}
	if len(request.Plan) > 0 {
		return nil, refuse(http.StatusBadRequest, "Malformed", "the request has a plan and the name of another one", "", "give either")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	plan, known := h.view.Plan(request.PlanName)
	if !known {
		return nil, unknownPlan(request.PlanName)
	}
	return plan.Plan, nil
}

func (h *Hub) getPlans(w http.ResponseWriter, r *http.Request) ([]api.Plan, error) {
	h.mu.Lock()
	plans := h.view.Plans()
	h.mu.Unlock()
	return pageOf(w, r, plans, func(p api.Plan) string { return string(p.Name) })
}

func (h *Hub) getPlan(_ http.ResponseWriter, r *http.Request) (api.Plan, error) {
	name, err := planNamed(r)
	if err != nil {
		return api.Plan{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	plan, known := h.view.Plan(name)
	if !known {
		return plan, unknownPlan(name)
	}
	return plan, nil
}

func (h *Hub) putPlan(w http.ResponseWriter, r *http.Request) (api.Plan, error) {
	name, err := planNamed(r)
	if err != nil {
		return api.Plan{}, err
	}
	request, err := decodeRequest[api.PlanRequest](w, r)
	if err != nil {
		return api.Plan{}, err
	}
	return h.SetPlan(context.WithoutCancel(r.Context()), name, request.Plan, who(r))
}

func (h *Hub) deletePlan(_ http.ResponseWriter, r *http.Request) (api.Plan, error) {
	name, err := planNamed(r)
	if err != nil {
		return api.Plan{}, err
	}
	return h.DeletePlan(context.WithoutCancel(r.Context()), name, who(r))
}

func planNamed(r *http.Request) (bundle.Name, error) {
	name, err := bundle.ParseName(r.PathValue("plan"))
	if err != nil {
		return "", malformed("not a plan's name", err)
	}
	return name, nil
}
