package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
)

// rest is the door over HTTP and JSON, at the paths of the contract.
type rest struct {
	base   string // http://HOST:PORT
	tokens map[string]string
}

func newREST(s *server) *rest { return &rest{base: "http://" + s.http, tokens: map[string]string{}} }

// route is where a call is found.
type route struct{ verb, path string }

// routes are the calls of the scenario. One page of a list names its items.
var routes = map[string]route{
	"token.create": {"POST", "/iam/v1/tokens"},
	"token.revoke": {"POST", "/iam/v1/tokens:revoke"},
	"role.get":     {"GET", "/iam/v1/roles/{roleId}"},
	"role.list":    {"GET", "/iam/v1/roles"},
	"user.get":     {"GET", "/iam/v1/userAccounts/{userAccountId}"},
	"user.byLogin": {"GET", "/iam/v1/yandexPassportUserAccounts:byLogin"},

	"organization.get":                  {"GET", "/organization-manager/v1/organizations/{organizationId}"},
	"organization.list":                 {"GET", "/organization-manager/v1/organizations"},
	"organization.update":               {"PATCH", "/organization-manager/v1/organizations/{organizationId}"},
	"organization.listOperations":       {"GET", "/organization-manager/v1/organizations/{organizationId}/operations"},
	"organization.listAccessBindings":   {"GET", "/organization-manager/v1/organizations/{resourceId}:listAccessBindings"},
	"organization.setAccessBindings":    {"POST", "/organization-manager/v1/organizations/{resourceId}:setAccessBindings"},
	"organization.updateAccessBindings": {"POST", "/organization-manager/v1/organizations/{resourceId}:updateAccessBindings"},

	"cloud.get":                  {"GET", "/resource-manager/v1/clouds/{cloudId}"},
	"cloud.list":                 {"GET", "/resource-manager/v1/clouds"},
	"cloud.create":               {"POST", "/resource-manager/v1/clouds"},
	"cloud.update":               {"PATCH", "/resource-manager/v1/clouds/{cloudId}"},
	"cloud.delete":               {"DELETE", "/resource-manager/v1/clouds/{cloudId}"},
	"cloud.listOperations":       {"GET", "/resource-manager/v1/clouds/{cloudId}/operations"},
	"cloud.listAccessBindings":   {"GET", "/resource-manager/v1/clouds/{resourceId}:listAccessBindings"},
	"cloud.setAccessBindings":    {"POST", "/resource-manager/v1/clouds/{resourceId}:setAccessBindings"},
	"cloud.updateAccessBindings": {"POST", "/resource-manager/v1/clouds/{resourceId}:updateAccessBindings"},

	"folder.get":                  {"GET", "/resource-manager/v1/folders/{folderId}"},
	"folder.list":                 {"GET", "/resource-manager/v1/folders"},
	"folder.create":               {"POST", "/resource-manager/v1/folders"},
	"folder.update":               {"PATCH", "/resource-manager/v1/folders/{folderId}"},
	"folder.delete":               {"DELETE", "/resource-manager/v1/folders/{folderId}"},
	"folder.listOperations":       {"GET", "/resource-manager/v1/folders/{folderId}/operations"},
	"folder.listAccessBindings":   {"GET", "/resource-manager/v1/folders/{resourceId}:listAccessBindings"},
	"folder.setAccessBindings":    {"POST", "/resource-manager/v1/folders/{resourceId}:setAccessBindings"},
	"folder.updateAccessBindings": {"POST", "/resource-manager/v1/folders/{resourceId}:updateAccessBindings"},

	"operation.get": {"GET", "/operations/{operationId}"},
}

// do implements door.
func (r *rest) do(what call) (result, error) {
	token, err := r.token(what.Session)
	if err != nil {
		return result{}, err
	}
	switch {
	case what.All:
		return r.everyPage(token, what)
	case what.Wait:
		return r.finished(token, what)
	default:
		return r.send(token, what.Name, what.Message)
	}
}

// token exchanges a session's OAuth token once.
func (r *rest) token(s session) (string, error) {
	if s.IAMToken != "" {
		return s.IAMToken, nil
	}
	if token, ok := r.tokens[s.OAuthToken]; ok {
		return token, nil
	}
	got, err := r.send("", "token.create", map[string]any{"yandexPassportOauthToken": s.OAuthToken})
	if err != nil {
		return "", err
	}
	token, ok := got.Message["iamToken"].(string)
	if !ok {
		return "", fmt.Errorf("no IAM token in %+v", got)
	}
	r.tokens[s.OAuthToken] = token
	return token, nil
}

// everyPage follows nextPageToken to the end, and shows all items as one page.
func (r *rest) everyPage(token string, what call) (result, error) {
	var all result
	message := maps.Clone(what.Message)
	for {
		page, err := r.send(token, what.Name, message)
		if err != nil || page.Code != "OK" {
			return page, err
		}
		next, _ := page.Message["nextPageToken"].(string)
		delete(page.Message, "nextPageToken")
		if all.Message == nil {
			all = page
		} else {
			for field, items := range page.Message {
				before, _ := all.Message[field].([]any)
				more, _ := items.([]any)
				all.Message[field] = append(before, more...)
			}
		}
		if next == "" {
			return all, nil
		}
		message["pageToken"] = next
	}
}

// finished waits until the operation that a call returned is done.
func (r *rest) finished(token string, what call) (result, error) {
	got, err := r.send(token, what.Name, what.Message)
	for deadline := time.Now().Add(time.Minute); err == nil && got.Code == "OK"; {
		if got.Message["done"] == true {
			return got, nil
		}
		if time.Now().After(deadline) {
			return got, errors.New("the operation is not done after a minute")
		}
		time.Sleep(100 * time.Millisecond)
		got, err = r.send(token, "operation.get", map[string]any{"operationId": got.Message["id"]})
	}
	return got, err
}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// send makes one HTTP request. What the path does not hold goes into the body, or
// into the query where there is none.
func (r *rest) send(token, name string, message map[string]any) (result, error) {
	at, ok := routes[name]
	if !ok {
		return result{}, fmt.Errorf("no route for %s", name)
	}
	rest := maps.Clone(message)
	target := r.base + placeholder.ReplaceAllStringFunc(at.path, func(part string) string {
		field := strings.Trim(part, "{}")
		delete(rest, field)
		return url.PathEscape(fmt.Sprint(message[field]))
	})
	var body io.Reader
	if at.verb == "POST" || at.verb == "PATCH" {
		text, err := json.Marshal(rest)
		if err != nil {
			return result{}, err
		}
		body = bytes.NewReader(text)
	} else if len(rest) > 0 {
		query := url.Values{}
		for field, value := range rest {
			query.Set(field, fmt.Sprint(value))
		}
		target += "?" + query.Encode()
	}
	req, err := http.NewRequest(at.verb, target, body)
	if err != nil {
		return result{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return result{}, err
	}
	defer resp.Body.Close()
	return readResult(resp)
}

// httpStatus is the status that goes with a gRPC code, by the comments of
// google/rpc/code.proto.
var httpStatus = map[code.Code]int{
	code.Code_OK: 200, code.Code_INVALID_ARGUMENT: 400, code.Code_FAILED_PRECONDITION: 400, code.Code_OUT_OF_RANGE: 400,
	code.Code_UNAUTHENTICATED: 401, code.Code_PERMISSION_DENIED: 403, code.Code_NOT_FOUND: 404,
	code.Code_ALREADY_EXISTS: 409, code.Code_ABORTED: 409, code.Code_RESOURCE_EXHAUSTED: 429,
	code.Code_UNIMPLEMENTED: 501, code.Code_UNAVAILABLE: 503, code.Code_DEADLINE_EXCEEDED: 504,
}

// readResult reads an answer, or a google.rpc.Status and what goes with it.
func readResult(resp *http.Response) (result, error) {
	var message map[string]any
	decoder := json.NewDecoder(resp.Body)
	decoder.UseNumber()
	if err := decoder.Decode(&message); err != nil {
		return result{}, fmt.Errorf("%s: answer is not JSON: %w", resp.Status, err)
	}
	if resp.StatusCode == http.StatusOK {
		return result{Code: "OK", Message: message}, nil
	}
	number, _ := message["code"].(json.Number)
	n, err := number.Int64()
	if err != nil {
		return result{}, fmt.Errorf("%s: no code in %v", resp.Status, message)
	}
	got := code.Code(n)
	if httpStatus[got] != resp.StatusCode {
		return result{}, fmt.Errorf("code %s came with HTTP status %d", got, resp.StatusCode)
	}
	r := result{Code: got.String(), Error: fmt.Sprint(message["message"])}
	details, _ := message["details"].([]any)
	for _, detail := range details {
		d, _ := detail.(map[string]any)
		switch d["@type"] {
		case "type.googleapis.com/google.rpc.ErrorInfo":
			r.Reason, _ = d["reason"].(string)
		case "type.googleapis.com/google.rpc.BadRequest":
			violations, _ := d["fieldViolations"].([]any)
			for _, v := range violations {
				if v, ok := v.(map[string]any); ok {
					r.Fields = append(r.Fields, fmt.Sprint(v["field"]))
				}
			}
		}
	}
	return r, nil
}
