package kube

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// unreachable is the error of a request that got no answer.
func unreachable(err error) error {
	words := "cluster unreachable: " + plain(err)
	if errors.Is(err, context.DeadlineExceeded) {
		words = "cluster unreachable: no answer in time"
	}
	return &apply.ServerError{Class: apply.Passing, Words: words}
}

// plain takes the address of the request, which says nothing, off a connection's error.
func plain(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Error()
	}
	text := err.Error()
	if i := strings.LastIndex(text, `": `); i >= 0 {
		text = text[i+3:]
	}
	return text
}

// refused is the error of an answer that is no success.
func refused(resp *http.Response, body []byte) error {
	var status metav1.Status
	if json.Unmarshal(body, &status) != nil || status.Kind != "Status" {
		words := strings.TrimSpace(string(body))
		if len(words) > 300 {
			words = words[:300] + "…"
		}
		status = metav1.Status{Code: int32(resp.StatusCode), Message: words}
	}
	out := fromStatus(status, resp.StatusCode)
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		out.RetryAfter = time.Duration(s) * time.Second
	}
	return out
}

// fromClient is the error of a call through client-go or controller-runtime.
func fromClient(err error) error {
	if err == nil {
		return nil
	}
	var own *apply.ServerError
	if errors.As(err, &own) {
		return own
	}
	if meta.IsNoMatchError(err) {
		return &apply.ServerError{Class: apply.NoKind, Code: http.StatusNotFound, Words: err.Error()}
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		out := fromStatus(status.Status(), int(status.Status().Code))
		if s, ok := apierrors.SuggestsClientDelay(err); ok {
			out.RetryAfter = time.Duration(s) * time.Second
		}
		return out
	}
	return unreachable(err)
}

func fromStatus(status metav1.Status, code int) *apply.ServerError {
	out := &apply.ServerError{Code: code, Words: status.Message}
	if out.Words == "" {
		out.Words = strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
	}
	if status.Details != nil {
		seen := map[string]bool{}
		for _, cause := range status.Details.Causes {
			out.Words = strings.Replace(out.Words, cause.Message, withoutValue(cause.Message), 1)
			if cause.Field != "" {
				out.Fields = append(out.Fields, cause.Field)
			}
			if cause.Type == metav1.CauseTypeFieldManagerConflict {
				if m := managerIn(cause.Message); m != "" && !seen[m] {
					seen[m] = true
					out.Managers = append(out.Managers, m)
				}
			}
		}
	}
	out.Words = typedValue.ReplaceAllString(out.Words, "${1}…}")
	out.Class = classify(status, code, out)
	return out
}

// typedValue is how the server prints a value that does not fit its schema.
var typedValue = regexp.MustCompile(`(&value\.valueUnstructured\{Value:)[^}]*\}`)

// withoutValue leaves a large value out of a complaint about it: a whole pod template hides the complaint, and may hold secrets (T16).
func withoutValue(complaint string) string {
	const mark, most = "Invalid value: ", 80
	before, rest, ok := strings.Cut(complaint, mark)
	if !ok {
		return complaint
	}
	var value json.RawMessage
	decoder := json.NewDecoder(strings.NewReader(rest))
	if decoder.Decode(&value) != nil || len(value) <= most {
		return complaint
	}
	return before + mark + "…" + rest[decoder.InputOffset():]
}

// discreet takes what a Secret or ConfigMap holds out of a complaint about it: values stay at the site (T16).
func discreet(err error, patch apply.Patch) error {
	var s *apply.ServerError
	if patch.Group != "" || patch.Kind != "Secret" && patch.Kind != "ConfigMap" || !errors.As(err, &s) {
		return err
	}
	var holds struct {
		Data       map[string]any `json:"data"`
		StringData map[string]any `json:"stringData"`
		BinaryData map[string]any `json:"binaryData"`
	}
	decoder := json.NewDecoder(bytes.NewReader(patch.Body))
	decoder.UseNumber()
	if decoder.Decode(&holds) != nil {
		return err
	}
	const shortest = 3 // what is shorter is in every sentence
	for _, values := range []map[string]any{holds.Data, holds.StringData, holds.BinaryData} {
		for _, v := range values {
			text := fmt.Sprint(v)
			raw, _ := base64.StdEncoding.DecodeString(text)
			for _, secret := range []string{text, strings.Trim(strconv.Quote(text), `"`), string(raw)} {
				if len(secret) >= shortest {
					s.Words = strings.ReplaceAll(s.Words, secret, "…")
				}
			}
		}
	}
	return err
}

var (
	immutableWords = regexp.MustCompile(`(?i)immutable|may not (be )?change|cannot (be )?change|updates to \S+ spec for fields other than|can not be (changed|updated)`)
	conflictWords  = regexp.MustCompile(`conflict with "((?:[^"\\]|\\.)*)"`)
	// serviceAccountWords: the controller makes a new namespace's default service account a moment later.
	serviceAccountWords = regexp.MustCompile(`error looking up service account|serviceaccount "default" not found|unable to create new content in namespace .* because it is being terminated`)
)

func managerIn(message string) string {
	m := conflictWords.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	return m[1]
}

func classify(status metav1.Status, code int, e *apply.ServerError) apply.Class {
	switch {
	case code == http.StatusTooManyRequests, code >= 500, code == http.StatusRequestTimeout:
		// The server calls a value that does not fit the schema an internal error when it cannot convert it for the apply.
		if code == http.StatusInternalServerError && schemaWords.MatchString(e.Words) {
			return apply.Permanent
		}
		return apply.Passing
	case code == http.StatusConflict:
		if len(e.Managers) > 0 {
			return apply.Conflict
		}
		return apply.Stale
	case code == http.StatusNotFound:
		return classifyNotFound(status)
	case code == http.StatusUnprocessableEntity:
		if immutableWords.MatchString(e.Words) {
			return apply.Immutable
		}
	case code == http.StatusForbidden:
		if serviceAccountWords.MatchString(e.Words) {
			return apply.Passing
		}
	}
	return apply.Permanent
}

var schemaWords = regexp.MustCompile(`field not declared in schema|failed to create typed patch object|failed to convert|unable to convert|cannot unmarshal`)

func classifyNotFound(status metav1.Status) apply.Class {
	switch {
	case status.Details == nil || status.Details.Kind == "" || status.Details.Name == "":
		return apply.NoKind // "the server could not find the requested resource", "404 page not found"
	case status.Details.Kind == "namespaces" && status.Details.Group == "":
		return apply.NoNamespace
	}
	return apply.Missing
}
