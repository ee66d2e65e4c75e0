package main

import (
	"errors"
	"net/http"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// hub finds the hub and prepares to speak to it.
func (d *desk) hub() (*api.Client, error) {
	c, err := d.readContext()
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(c)
	return client, withHint(err, contextHint)
}

// statusCodes are the exit codes of the hub's refusals.
var statusCodes = map[int]int{
	http.StatusNotFound:            exitNotFound,
	http.StatusConflict:            exitConflict,
	http.StatusUnauthorized:        exitDenied,
	http.StatusForbidden:           exitDenied,
	http.StatusUnprocessableEntity: exitRefused,
}

// explainHub sorts the hub's refusals, its silence, and the refusals of our own verification. It is nil for any other error.
func explainHub(err error) *failure {
	var refused *api.Error
	var untrusted *verify.Refusal
	switch {
	case errors.As(err, &refused):
		return explainProblem(refused)
	case errors.Is(err, api.ErrUnreachable):
		return &failure{code: exitUnreachable, message: err.Error(), hint: "is the hub running, and is this the right context?", cause: err}
	case errors.As(err, &untrusted):
		return &failure{code: exitRefused, message: err.Error(), hint: untrusted.Hint(), cause: err}
	}
	return nil
}

func explainProblem(refused *api.Error) *failure {
	f := &failure{code: exitFailed, message: refused.Error(), hint: refused.Hint(), cause: refused}
	if code, ok := statusCodes[refused.Status]; ok {
		f.code = code
	}
	for _, reason := range verify.Reasons {
		if string(reason) == refused.Reason {
			f.code = exitRefused
			if refused.Detail != "" {
				f.message = refused.Detail // verification says itself what was refused
			}
		}
	}
	if refused.Status == http.StatusUnauthorized && f.hint == "" {
		f.hint = "the token in the context file is not (or no longer) this hub's"
	}
	return f
}
