package rollout

// Observe takes in what the hub knows of a site now. A site that is not in the rollout counts as control (R3). A silent member that speaks is
// where it was before; one that was skipped and returns joins the last wave (R9).
func (r *Rollout) Observe(f Facts) {
	x := r.indexed()
	i, member := r.find(f.Site)
	if !member {
		x.facts.outside[f.Site] = f
		return
	}
	x.add(r, i, -1)
	x.facts.members[i] = f
	x.add(r, i, 1)
	x.settle(r, i)
	s := &r.Sites[i]
	switch {
	case r.Phase == Aborted:
	case s.Outcome == Unknown && f.LastSeen.After(s.Dark):
		r.change(i, func(s *SiteRecord) { s.Outcome, s.Was = s.Was, NotOffered })
	case s.Outcome == Skipped && f.Connected:
		r.change(i, func(s *SiteRecord) { s.Outcome, s.Wave = NotOffered, len(r.Waves)-1 })
	}
}
