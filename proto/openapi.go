// Package proto holds the API: the protocol buffers of the compatible contract
// and of bindery's own services, with the code and the description generated
// from them in gen.
package proto

import _ "embed" // for OpenAPI

// OpenAPI is the description of the REST API, as JSON (OpenAPI 2.0).
//
//go:embed gen/openapi/bindery.swagger.json
var OpenAPI []byte
