package api

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// pageSize is how many of a list one request asks for: with all that a site may say, some megabytes.
const pageSize = 500

// Pages is a list in the parts in which the hub gives it: one at least, which may be empty, and none after an error.
type Pages[T any] = iter.Seq2[[]T, error]

// pages asks for a list part by part, to its end or up to a limit; 0 is none.
func pages[T any](ctx context.Context, c *Client, query url.Values, limit int, path ...string) Pages[T] {
	return func(yield func([]T, error) bool) {
		for told := 0; ; {
			size := pageSize
			if limit > 0 {
				size = min(size, limit-told)
			}
			query.Set("limit", strconv.Itoa(size))
			raw, header, err := c.send(ctx, http.MethodGet, query, nil, maxResponse, append([]string(nil), path...)...)
			var page []T
			if err == nil {
				if err = json.Unmarshal(raw, &page); err != nil {
					err = fmt.Errorf("the hub's answer to GET %s: %w", strings.Join(path, "/"), err)
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			told += len(page)
			next := nextPage(header)
			if !yield(page, nil) || next == "" || limit > 0 && told >= limit {
				return
			}
			query.Set("continue", next)
		}
	}
}

// Whole is all that the pages have.
func Whole[T any](pages Pages[T]) (list []T, err error) {
	for page, err := range pages {
		if err != nil {
			return nil, err
		}
		list = append(list, page...)
	}
	return list, nil
}

// SitePages lists the sites whose labels match the selector; an empty one matches all.
func (c *Client) SitePages(ctx context.Context, selector string, limit int) Pages[Site] {
	query := url.Values{}
	if selector != "" {
		query.Set("labels", selector)
	}
	return pages[Site](ctx, c, query, limit, "sites")
}

// BundlePages lists the catalog.
func (c *Client) BundlePages(ctx context.Context, limit int) Pages[Bundle] {
	return pages[Bundle](ctx, c, url.Values{}, limit, "bundles")
}

// DriftPages lists uncorrected drift; an empty site means every site.
func (c *Client) DriftPages(ctx context.Context, site bundle.SiteID, limit int) Pages[SiteDrift] {
	query := url.Values{}
	if site != "" {
		query.Set("site", string(site))
	}
	return pages[SiteDrift](ctx, c, query, limit, "drift")
}

// PlanPages lists the plans by name.
func (c *Client) PlanPages(ctx context.Context, limit int) Pages[Plan] {
	return pages[Plan](ctx, c, url.Values{}, limit, "plans")
}

// RolloutPages lists the rollouts, the newest first.
func (c *Client) RolloutPages(ctx context.Context, limit int) Pages[Rollout] {
	return pages[Rollout](ctx, c, url.Values{}, limit, "rollouts")
}

// AuditPages lists the audit log, the newest page first and the oldest record of each first.
func (c *Client) AuditPages(ctx context.Context, limit int) Pages[AuditRecord] {
	return pages[AuditRecord](ctx, c, url.Values{}, limit, "audit")
}
