package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// done is the outcome of what was not refused.
const done = "done"

// Limits of the audit log.
const (
	maxAuditDetail  = 1000 // bytes of each text
	auditTries      = 32
	defaultAudit    = 100
	maxAudit        = 5000
	refusalsAtOnce  = 100 // refusals at the open doors that are written down at once, and how many more
	refusalsASecond = 1.0 // each second; the others are counted in the next that is written
)

// audit appends a record: number, time and hash are filled in here. The record is on the disk when it returns.
func (h *Hub) audit(ctx context.Context, record api.AuditRecord) error {
	for _, words := range []*string{&record.Detail, &record.Target, &record.Who} {
		*words = strings.ToValidUTF8((*words)[:min(len(*words), maxAuditDetail)], "?")
	}
	// One after another: requests of this hub need not beat each other to the end of the log, only those of other hubs.
	if err := h.auditing.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	defer h.auditing.Release(1)
	for range auditTries {
		last, err := h.store.Get(ctx, auditSubject)
		switch {
		case errors.Is(err, fleetsync.ErrNotFound):
			record.Number, record.Prev = 1, ""
		case err != nil:
			return fmt.Errorf("audit log: %w", err)
		default:
			var before api.AuditRecord
			if err := decodeRecord(last.Data, &before); err != nil {
				return fmt.Errorf("audit log: its last record cannot be read: %w", err)
			}
			record.Number, record.Prev = before.Number+1, hashOf(last.Data)
		}
		record.Time = h.cfg.Now().UTC()
		raw, err := json.Marshal(record)
		if err != nil {
			return fmt.Errorf("audit log: encode: %w", err)
		}
		switch err := h.putIf(ctx, auditSubject, raw, last.Sequence); {
		case errors.Is(err, stream.ErrConflict):
			continue
		case err != nil:
			return fmt.Errorf("audit log: %w", err)
		}
		return nil
	}
	return fmt.Errorf("audit log: %w %d times", stream.ErrConflict, auditTries)
}

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Audit gives the newest records, oldest first.
func (h *Hub) Audit(ctx context.Context, limit int) ([]api.AuditRecord, error) {
	records, _, err := h.auditPage(ctx, limit, 0)
	return records, err
}

// errEnough ends a walk through a stream early.
var errEnough = errors.New("enough")

// auditPage gives the newest records below a sequence of the stream, 0 for the newest of all, oldest first. older, where not 0, is the sequence for
// those before them.
func (h *Hub) auditPage(ctx context.Context, limit int, before uint64) (records []api.AuditRecord, older uint64, err error) {
	records = []api.AuditRecord{}
	if before == 0 {
		last, err := h.store.Get(ctx, auditSubject)
		if errors.Is(err, fleetsync.ErrNotFound) {
			return records, 0, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("audit log: %w", err)
		}
		before = last.Sequence + 1
	}
	from := uint64(1)
	if n := uint64(limit); before > n {
		from = before - n
	}
	err = h.store.Each(ctx, stream.Audit, "", from, func(m stream.Message) error {
		if m.Sequence >= before {
			return errEnough
		}
		var record api.AuditRecord
		if err := decodeRecord(m.Data, &record); err != nil {
			return fmt.Errorf("record at %d: %w", m.Sequence, err)
		}
		records = append(records, record)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, 0, fmt.Errorf("audit log: %w", err)
	}
	if len(records) > 0 && records[0].Number > 1 && from > 1 {
		older = from
	}
	return records, older, nil
}

// VerifyAudit walks the log from its first record, or from the first that a purge left, and checks numbers and hashes. What a purge removed is vouched for
// by the mark it left.
func (h *Hub) VerifyAudit(ctx context.Context) (api.AuditVerdict, error) {
	var verdict api.AuditVerdict
	mark, err := h.auditMark(ctx)
	if err != nil {
		return verdict, err
	}
	err = h.store.Each(ctx, stream.Audit, "", 1, func(m stream.Message) error {
		if verdict.Broken != "" {
			return nil
		}
		var record api.AuditRecord
		err := decodeRecord(m.Data, &record)
		if begun := verdict.Records > 0; err == nil && !begun && record.Number > 1 && record.Number <= mark.Number+1 {
			verdict.Records, verdict.Head, verdict.Purged = record.Number-1, record.Prev, record.Number-1
			if record.Number == mark.Number+1 {
				verdict.Head = mark.Head
			}
		}
		switch {
		case err != nil:
			verdict.Broken = fmt.Sprintf("the record after number %d cannot be read: %v", verdict.Records, err)
		case record.Number != verdict.Records+1:
			verdict.Broken = fmt.Sprintf("after number %d comes number %d", verdict.Records, record.Number)
		case record.Prev != verdict.Head:
			verdict.Broken = fmt.Sprintf("record %d does not follow from the one before it", record.Number)
		default:
			verdict.Records, verdict.Head = record.Number, hashOf(m.Data)
			if record.Number == mark.Number && verdict.Head != mark.Head {
				verdict.Broken = fmt.Sprintf("record %d is not the one that a purge left its mark of", record.Number)
			}
		}
		return nil
	})
	if err != nil {
		return verdict, fmt.Errorf("audit log: %w", err)
	}
	return verdict, nil
}

// write makes a handler of a function that changes something: whatever becomes of it is in the audit log before it is answered.
// A request that was carried out but not written down is answered with an error, and repeating it writes it down.
func write[T any](h *Hub, what string, endpoint func(w http.ResponseWriter, r *http.Request) (T, error)) http.HandlerFunc {
	return answer(func(w http.ResponseWriter, r *http.Request) (T, error) {
		r, why := remarked(r)
		value, err := endpoint(w, r)
		record := api.AuditRecord{Who: who(r), What: what, Target: targetOf(r, value), Outcome: done}
		record.Detail = *why
		if decided, ok := any(value).(enrol.Enrolment); ok && err == nil {
			record.Target, record.Outcome, record.Detail = string(decided.Site), string(decided.Status), strings.TrimSuffix("key "+decided.Fingerprint+": "+*why, ": ")
		}
		if impact, ok := any(value).(api.Impact); ok && !impact.DryRun {
			record.Detail = purgeDetail(impact)
		}
		if err != nil {
			problem := problemOf(err)
			record.Outcome, record.Detail = problem.Reason, problem.Title
		}
		auditing, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), auditTime)
		defer cancel()
		if err != nil {
			h.auditRefusal(auditing, record)
			return value, err
		}
		return value, h.audit(auditing, record)
	})
}

// auditRefusal writes down what a user was refused. Of one who is refused again and again the number is written down, once a minute: nobody fills the log.
func (h *Hub) auditRefusal(ctx context.Context, record api.AuditRecord) {
	if h.asks.refused.take(h.cfg.Now(), record.Who) > 0 {
		h.noteHaste(ctx, record.Who, "", 1)
		return
	}
	if err := h.audit(ctx, record); err != nil {
		h.log.Warn("a refusal is not in the audit log", zap.Error(err))
	}
}

type remarkKey struct{}

// remarked is a request whose reason, once it is read, is in why.
func remarked(r *http.Request) (with *http.Request, why *string) {
	why = new(string)
	return r.WithContext(context.WithValue(r.Context(), remarkKey{}, why)), why
}

// remark hands a request's reason to the audit log.
func remark(ctx context.Context, why string) {
	if kept, ok := ctx.Value(remarkKey{}).(*string); ok {
		*kept = why
	}
}

// who is the name of the user behind a request.
func who(r *http.Request) string { return actorOf(r.Context()).name }

// targetOf is what a request was about.
func targetOf(r *http.Request, value any) string {
	if impact, ok := value.(api.Impact); ok && impact.DryRun {
		return fmt.Sprintf("dry run of %.100s", impact.Target)
	} else if ok {
		return impact.Target
	}
	for _, name := range []string{"site", "id", "key", "group", "plan", "user", "notification"} {
		if target := r.PathValue(name); target != "" {
			return fmt.Sprintf("%.100s", target)
		}
	}
	switch value := value.(type) {
	case api.Bundle:
		if value.Name != "" {
			return string(value.Name) + "@" + string(value.Version)
		}
	case api.SiteGrant:
		return string(value.Site)
	case api.UserGrant:
		return value.User.Name
	case api.RolloutStart:
		switch about := value.Layout.Bundle.String(); {
		case value.DryRun:
			return "dry run of " + about
		case value.Rollout == nil:
			return about
		default:
			return value.Rollout.ID + " " + about
		}
	case api.TokenGrant:
		return value.Token.ID
	case []api.AssignResult:
		return assignTargets(value)
	}
	return ""
}

// assignTargets names the sites, each with its sequence or refusal, as far as a record has room.
func assignTargets(results []api.AssignResult) string {
	var names []string
	if len(results) > 0 && results[0].DryRun {
		names = append(names, "dry run:")
	}
	for i, result := range results {
		if i == 20 {
			names = append(names, fmt.Sprintf("and %d more", len(results)-i))
			break
		}
		outcome := fmt.Sprint(result.Sequence)
		if result.Error != nil {
			outcome = result.Error.Reason
		}
		names = append(names, fmt.Sprintf("%s:%s", result.Site, outcome))
	}
	return strings.Join(names, " ")
}
