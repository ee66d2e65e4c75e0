package hub

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// refuse makes the refusal of a request.
func refuse(status int, reason, title, detail, hint string) *api.Error {
	return &api.Error{Problem: api.Problem{Status: status, Reason: reason, Title: title, Detail: detail, Hint: hint}}
}

func malformed(title string, err error) *api.Error {
	return refuse(http.StatusBadRequest, "Malformed", title, err.Error(), "")
}

func unknownSite(id bundle.SiteID) *api.Error {
	return refuse(http.StatusNotFound, "UnknownSite", fmt.Sprintf("site %s is not known", id), "", "holdfast site list shows the sites, holdfast site add makes one")
}

func unknownBundle(ref bundle.Ref) *api.Error {
	return refuse(http.StatusNotFound, "UnknownBundle", fmt.Sprintf("bundle %s is not in the catalog", ref), "", "holdfast bundle list shows the catalog, holdfast bundle push adds to it")
}

// problemOf is what a client is told of an error: a refusal as it is, verification's reasons, and of anything else that it was not done.
func problemOf(err error) api.Problem {
	var refusal *api.Error
	var distrust *verify.Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal.Problem
	case errors.As(err, &distrust):
		return api.Problem{Status: statusOf(distrust.Reason), Title: "bundle refused", Detail: distrust.Error(), Hint: distrust.Hint(), Reason: string(distrust.Reason)}
	}
	var unwelcome *enrol.Refusal
	if errors.As(err, &unwelcome) {
		return api.Problem{Status: enrolStatus(unwelcome.Reason), Title: unwelcome.What, Hint: unwelcome.Advice, Reason: string(unwelcome.Reason)}
	}
	if errors.Is(err, stream.ErrTooLarge) {
		return api.Problem{Status: http.StatusRequestEntityTooLarge, Title: "too large for one message of the bus", Detail: err.Error(), Reason: "TooLarge"}
	}
	return api.Problem{
		Status: http.StatusServiceUnavailable, Title: "the hub could not do it", Detail: err.Error(), Reason: "Unavailable",
		Hint: "it may have been done in part: the same request again completes it",
	}
}

func statusOf(reason verify.Reason) int {
	switch reason {
	case verify.TooLarge:
		return http.StatusRequestEntityTooLarge
	case verify.OlderCounter, verify.CounterReused:
		return http.StatusConflict
	case verify.VerifierFailed:
		return http.StatusInternalServerError
	}
	return http.StatusUnprocessableEntity
}

func enrolStatus(reason enrol.Reason) int {
	switch reason {
	case enrol.Malformed:
		return http.StatusBadRequest
	case enrol.Forged, enrol.TokenUnknown, enrol.TokenExpired, enrol.TokenRevoked, enrol.SiteRevoked, enrol.WrongIdentity:
		return http.StatusForbidden
	case enrol.NotThere:
		return http.StatusNotFound
	case enrol.TokenSpent, enrol.NameTaken, enrol.KeyInUse, enrol.Decided, enrol.SiteHeld, enrol.NotReplaceable, enrol.ProofStale:
		return http.StatusConflict
	case enrol.TooMany:
		return http.StatusTooManyRequests
	}
	return http.StatusUnprocessableEntity
}
