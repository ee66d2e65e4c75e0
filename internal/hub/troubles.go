package hub

import "net/http"

// getTroubles says what is not well at the hub itself: damage of its store that it noticed (F28), a store that takes no writes, a mirror that lags.
func (h *Hub) getTroubles(_ http.ResponseWriter, r *http.Request) ([]string, error) {
	return append([]string{}, h.troubles(r.Context())...), nil
}
