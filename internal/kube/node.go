package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// NodeLabel is the value of a label of a node, empty where the node has none. An empty node is the only one of the cluster.
func (c *Conn) NodeLabel(ctx context.Context, node, key string) (string, error) {
	type metadata struct {
		Metadata struct {
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	if node != "" {
		body, err := c.do(ctx, request{method: http.MethodGet, path: "/api/v1/nodes/" + url.PathEscape(node), accept: acceptMetadata})
		if err != nil {
			return "", fmt.Errorf("node %s: %w", node, err)
		}
		var found metadata
		if err := json.Unmarshal(body, &found); err != nil {
			return "", fmt.Errorf("node %s: %w", node, err)
		}
		return found.Metadata.Labels[key], nil
	}
	body, err := c.do(ctx, request{method: http.MethodGet, path: "/api/v1/nodes", query: url.Values{"limit": {"2"}}, accept: "application/json"})
	if err != nil {
		return "", fmt.Errorf("nodes: %w", err)
	}
	var list struct {
		Items []metadata `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", fmt.Errorf("nodes: %w", err)
	}
	if len(list.Items) != 1 {
		return "", errors.New("nodes: the cluster has none or several: name this agent's in NODE_NAME")
	}
	return list.Items[0].Metadata.Labels[key], nil
}
