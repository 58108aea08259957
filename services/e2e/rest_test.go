package e2e

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
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
	"policy.list":  {"GET", "/iam/v1/accessPolicyTemplates"},
	"user.get":     {"GET", "/iam/v1/userAccounts/{userAccountId}"},
	"user.byLogin": {"GET", "/iam/v1/yandexPassportUserAccounts:byLogin"},

	"organization.get":                                 {"GET", "/organization-manager/v1/organizations/{organizationId}"},
	"organization.list":                                {"GET", "/organization-manager/v1/organizations"},
	"organization.update":                              {"PATCH", "/organization-manager/v1/organizations/{organizationId}"},
	"organization.listOperations":                      {"GET", "/organization-manager/v1/organizations/{organizationId}/operations"},
	"organization.listAccessBindings":                  {"GET", "/organization-manager/v1/organizations/{resourceId}:listAccessBindings"},
	"organization.setAccessBindings":                   {"POST", "/organization-manager/v1/organizations/{resourceId}:setAccessBindings"},
	"organization.updateAccessBindings":                {"POST", "/organization-manager/v1/organizations/{resourceId}:updateAccessBindings"},
	"organization.listAccessPolicyBindings":            {"GET", "/organization-manager/v1/organizations/{resourceId}:listAccessPolicyBindings"},
	"organization.bindAccessPolicy":                    {"POST", "/organization-manager/v1/organizations/{resourceId}:bindAccessPolicy"},
	"organization.unbindAccessPolicy":                  {"POST", "/organization-manager/v1/organizations/{resourceId}:unbindAccessPolicy"},
	"organization.updateAccessPolicyBindingParameters": {"PATCH", "/organization-manager/v1/organizations/{resourceId}:updateAccessPolicyBindingParameters"},

	"cloud.get":                                 {"GET", "/resource-manager/v1/clouds/{cloudId}"},
	"cloud.list":                                {"GET", "/resource-manager/v1/clouds"},
	"cloud.create":                              {"POST", "/resource-manager/v1/clouds"},
	"cloud.update":                              {"PATCH", "/resource-manager/v1/clouds/{cloudId}"},
	"cloud.delete":                              {"DELETE", "/resource-manager/v1/clouds/{cloudId}"},
	"cloud.listOperations":                      {"GET", "/resource-manager/v1/clouds/{cloudId}/operations"},
	"cloud.listAccessBindings":                  {"GET", "/resource-manager/v1/clouds/{resourceId}:listAccessBindings"},
	"cloud.setAccessBindings":                   {"POST", "/resource-manager/v1/clouds/{resourceId}:setAccessBindings"},
	"cloud.updateAccessBindings":                {"POST", "/resource-manager/v1/clouds/{resourceId}:updateAccessBindings"},
	"cloud.listAccessPolicyBindings":            {"GET", "/resource-manager/v1/clouds/{resourceId}:listAccessPolicyBindings"},
	"cloud.bindAccessPolicy":                    {"POST", "/resource-manager/v1/clouds/{resourceId}:bindAccessPolicy"},
	"cloud.unbindAccessPolicy":                  {"POST", "/resource-manager/v1/clouds/{resourceId}:unbindAccessPolicy"},
	"cloud.updateAccessPolicyBindingParameters": {"PATCH", "/resource-manager/v1/clouds/{resourceId}:updateAccessPolicyBindingParameters"},

	"folder.get":                                 {"GET", "/resource-manager/v1/folders/{folderId}"},
	"folder.list":                                {"GET", "/resource-manager/v1/folders"},
	"folder.create":                              {"POST", "/resource-manager/v1/folders"},
	"folder.update":                              {"PATCH", "/resource-manager/v1/folders/{folderId}"},
	"folder.delete":                              {"DELETE", "/resource-manager/v1/folders/{folderId}"},
	"folder.listOperations":                      {"GET", "/resource-manager/v1/folders/{folderId}/operations"},
	"folder.listAccessBindings":                  {"GET", "/resource-manager/v1/folders/{resourceId}:listAccessBindings"},
	"folder.setAccessBindings":                   {"POST", "/resource-manager/v1/folders/{resourceId}:setAccessBindings"},
	"folder.updateAccessBindings":                {"POST", "/resource-manager/v1/folders/{resourceId}:updateAccessBindings"},
	"folder.listAccessPolicyBindings":            {"GET", "/resource-manager/v1/folders/{resourceId}:listAccessPolicyBindings"},
	"folder.bindAccessPolicy":                    {"POST", "/resource-manager/v1/folders/{resourceId}:bindAccessPolicy"},
	"folder.unbindAccessPolicy":                  {"POST", "/resource-manager/v1/folders/{resourceId}:unbindAccessPolicy"},
	"folder.updateAccessPolicyBindingParameters": {"PATCH", "/resource-manager/v1/folders/{resourceId}:updateAccessPolicyBindingParameters"},

	"token.createForServiceAccount": {"POST", "/iam/v1/tokens:createForServiceAccount"},

	"serviceAccount.get":                  {"GET", "/iam/v1/serviceAccounts/{serviceAccountId}"},
	"serviceAccount.list":                 {"GET", "/iam/v1/serviceAccounts"},
	"serviceAccount.create":               {"POST", "/iam/v1/serviceAccounts"},
	"serviceAccount.update":               {"PATCH", "/iam/v1/serviceAccounts/{serviceAccountId}"},
	"serviceAccount.delete":               {"DELETE", "/iam/v1/serviceAccounts/{serviceAccountId}"},
	"serviceAccount.suspend":              {"POST", "/iam/v1/serviceAccounts/{serviceAccountId}:suspend"},
	"serviceAccount.reactivate":           {"POST", "/iam/v1/serviceAccounts/{serviceAccountId}:reactivate"},
	"serviceAccount.listOperations":       {"GET", "/iam/v1/serviceAccounts/{serviceAccountId}/operations"},
	"serviceAccount.listAccessBindings":   {"GET", "/iam/v1/serviceAccounts/{resourceId}:listAccessBindings"},
	"serviceAccount.setAccessBindings":    {"POST", "/iam/v1/serviceAccounts/{resourceId}:setAccessBindings"},
	"serviceAccount.updateAccessBindings": {"POST", "/iam/v1/serviceAccounts/{resourceId}:updateAccessBindings"},

	"key.get":    {"GET", "/iam/v1/keys/{keyId}"},
	"key.list":   {"GET", "/iam/v1/keys"},
	"key.create": {"POST", "/iam/v1/keys"},
	"key.update": {"PATCH", "/iam/v1/keys/{keyId}"},
	"key.delete": {"DELETE", "/iam/v1/keys/{keyId}"},

	"apiKey.get":        {"GET", "/iam/v1/apiKeys/{apiKeyId}"},
	"apiKey.list":       {"GET", "/iam/v1/apiKeys"},
	"apiKey.listScopes": {"GET", "/iam/v1/apiKeyScopes"},
	"apiKey.create":     {"POST", "/iam/v1/apiKeys"},
	"apiKey.update":     {"PATCH", "/iam/v1/apiKeys/{apiKeyId}"},
	"apiKey.delete":     {"DELETE", "/iam/v1/apiKeys/{apiKeyId}"},

	"accessKey.get":    {"GET", "/iam/aws-compatibility/v1/accessKeys/{accessKeyId}"},
	"accessKey.list":   {"GET", "/iam/aws-compatibility/v1/accessKeys"},
	"accessKey.create": {"POST", "/iam/aws-compatibility/v1/accessKeys"},
	"accessKey.update": {"PATCH", "/iam/aws-compatibility/v1/accessKeys/{accessKeyId}"},
	"accessKey.delete": {"DELETE", "/iam/aws-compatibility/v1/accessKeys/{accessKeyId}"},

	"group.get":                  {"GET", "/organization-manager/v1/groups/{groupId}"},
	"group.list":                 {"GET", "/organization-manager/v1/groups"},
	"group.create":               {"POST", "/organization-manager/v1/groups"},
	"group.update":               {"PATCH", "/organization-manager/v1/groups/{groupId}"},
	"group.delete":               {"DELETE", "/organization-manager/v1/groups/{groupId}"},
	"group.listMembers":          {"GET", "/organization-manager/v1/groups/{groupId}:listMembers"},
	"group.updateMembers":        {"POST", "/organization-manager/v1/groups/{groupId}:updateMembers"},
	"group.listOperations":       {"GET", "/organization-manager/v1/groups/{groupId}/operations"},
	"group.listAccessBindings":   {"GET", "/organization-manager/v1/groups/{resourceId}:listAccessBindings"},
	"group.setAccessBindings":    {"POST", "/organization-manager/v1/groups/{resourceId}:setAccessBindings"},
	"group.updateAccessBindings": {"POST", "/organization-manager/v1/groups/{resourceId}:updateAccessBindings"},

	"member.list":   {"GET", "/organization-manager/v1/organizations/{organizationId}/users"},
	"member.delete": {"DELETE", "/organization-manager/v1/organizations/{organizationId}/users/{subjectId}"},

	"account.create":                     {"POST", "/partner/v1/billingAccounts"},
	"account.get":                        {"GET", "/billing/v1/billingAccounts/{id}"},
	"account.list":                       {"GET", "/billing/v1/billingAccounts"},
	"account.bindBillableObject":         {"POST", "/billing/v1/billingAccounts/{billingAccountId}/billableObjectBindings"},
	"account.listBillableObjectBindings": {"GET", "/billing/v1/billingAccounts/{billingAccountId}/billableObjectBindings"},
	"account.listAccessBindings":         {"GET", "/billing/v1/billingAccounts/{resourceId}:listAccessBindings"},
	"account.updateAccessBindings":       {"PATCH", "/billing/v1/billingAccounts/{resourceId}:updateAccessBindings"},
	"invitation.incoming":                {"GET", "/partner/v1/invitations:incoming"},
	"invitation.accept":                  {"POST", "/partner/v1/subaccounts/{subaccountId}:acceptInvitation"},

	"customer.list":                 {"GET", "/billing/v1/customers"},
	"customer.invite":               {"POST", "/billing/v1/customers:invite"},
	"customer.createResellerServed": {"POST", "/billing/v1/customers:createResellerServedCustomer"},
	"customer.activate":             {"POST", "/billing/v1/customers/{customerId}:activate"},
	"customer.suspend":              {"POST", "/billing/v1/customers/{customerId}:suspend"},

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
	cached, identity := s.OAuthToken, map[string]any{"yandexPassportOauthToken": s.OAuthToken}
	if s.AccountKey != nil {
		jwt, err := s.AccountKey.jwt(time.Now())
		if err != nil {
			return "", err
		}
		cached, identity = s.AccountKey.ID, map[string]any{"jwt": jwt}
	}
	if token, ok := r.tokens[cached]; ok {
		return token, nil
	}
	got, err := r.send("", "token.create", identity)
	if err != nil {
		return "", err
	}
	token, ok := got.Message["iamToken"].(string)
	if !ok {
		return "", fmt.Errorf("no IAM token in %+v", got)
	}
	r.tokens[cached] = token
	return token, nil
}

// jwt is what a program without an SDK makes of a key to sign in with.
func (k *accountKey) jwt(now time.Time) (string, error) {
	block, _ := pem.Decode([]byte(k.PrivateKey))
	if block == nil {
		return "", errors.New("the private key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return "", fmt.Errorf("the private key is a %T", parsed)
	}
	header, err := json.Marshal(map[string]any{"alg": "PS256", "typ": "JWT", "kid": k.ID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": k.ServiceAccountID, "aud": "https://iam.api.cloud.yandex.net/iam/v1/tokens", "iat": now.Unix(), "exp": now.Unix() + 3600,
	})
	if err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		return "", err
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
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
