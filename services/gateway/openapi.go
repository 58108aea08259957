package gateway

import (
	"net/http"

	"github.com/swaggest/swgui/v5emb"
)

// openAPI serves the description of the REST API.
func openAPI(description []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(description) // the caller is gone, nobody to tell
	})
}

// docs serves a page to browse the description; its parts are in the binary.
func docs() http.Handler {
	return v5emb.New("bindery", "/openapi.json", "/docs/")
}
