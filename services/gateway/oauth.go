package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/apierr"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// tokenPath is the token endpoint of OAuth (RFC 6749, section 3.2). Its requests are
// forms, and its errors have a shape of their own, so it is no translation of a method.
const tokenPath = "/oauth/token"

// maxForm is the largest form that the endpoint reads, in bytes.
const maxForm = 64 << 10

// oauth is the token endpoint.
type oauth struct {
	mux      *runtime.ServeMux
	exchange identityv1.TokenExchangeServiceClient
	grants   map[string]grantType
}

// grantType answers a request of one grant_type, or refuses it by an oauthError.
type grantType func(ctx context.Context, form url.Values, answer *runtime.ServerMetadata) (*tokenAnswer, error)

// tokenAnswer is a successful answer (RFC 6749, section 5.1; RFC 8693, section 2.2.1).
type tokenAnswer struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type,omitempty"`
	TokenType       string `json:"token_type"`
	ExpiresIn       int64  `json:"expires_in"` // seconds
}

// oauthError is a refusal (RFC 6749, section 5.2).
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	status      int
}

func (e *oauthError) Error() string { return e.Code + ": " + e.Description }

func refuse(code, description string) *oauthError {
	return &oauthError{Code: code, Description: description, status: http.StatusBadRequest}
}

// registerOAuth adds the token endpoint to a mux.
func registerOAuth(_ context.Context, mux *runtime.ServeMux, conn *grpc.ClientConn) error {
	o := &oauth{mux: mux, exchange: identityv1.NewTokenExchangeServiceClient(conn)}
	o.grants = map[string]grantType{grantExchange: o.exchangeToken}
	errs := []error{mux.HandlePath(http.MethodPost, tokenPath, o.token)}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		errs = append(errs, mux.HandlePath(method, tokenPath, o.onlyPost))
	}
	return errors.Join(errs...)
}

func (o *oauth) onlyPost(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	w.Header().Set("Allow", http.MethodPost)
	answerOAuth(w, http.StatusMethodNotAllowed, refuse("invalid_request", "the token endpoint takes POST"))
}

// token answers a request of any grant type.
func (o *oauth) token(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	r.Header.Del("Authorization") // no grant here is of a client that has a password
	ctx, err := runtime.AnnotateContext(r.Context(), o.mux, r, identityv1.TokenExchangeService_ExchangeToken_FullMethodName, runtime.WithHTTPPathPattern(tokenPath))
	if err != nil {
		answerOAuth(w, http.StatusBadRequest, refuse("invalid_request", "a header cannot be read"))
		return
	}
	var meta runtime.ServerMetadata
	answer, err := o.answer(ctx, w, r, &meta)
	for _, md := range []metadata.MD{meta.HeaderMD, meta.TrailerMD} {
		for key, header := range answerHeaders {
			if v := md.Get(key); len(v) > 0 {
				w.Header().Set(header, v[0])
			}
		}
	}
	if err == nil {
		answerOAuth(w, http.StatusOK, answer)
		return
	}
	refusal := oauthErrorOf(err)
	switch refusal.status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	answerOAuth(w, refusal.status, refusal)
}

func (o *oauth) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, meta *runtime.ServerMetadata) (*tokenAnswer, error) {
	form, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	kind := form.Get("grant_type")
	if kind == "" {
		return nil, refuse("invalid_request", "grant_type is missing")
	}
	grant, known := o.grants[kind]
	if !known {
		return nil, refuse("unsupported_grant_type", "grant_type must be "+grantExchange)
	}
	return grant(ctx, form, meta)
}

// readForm reads the parameters of a request, each there once: what the URL holds counts
// for nothing, since URLs are logged (RFC 6749, sections 2.3.1 and 3.2).
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, refuse("invalid_request", "Content-Type must be application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return nil, refuse("invalid_request", "parameters go into the body, not into the URL")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, refuse("invalid_request", "the body is no form of at most 64 KiB")
	}
	for name, values := range r.PostForm {
		if len(values) > 1 && name != "audience" && name != "resource" { // which may be (RFC 8693, section 2.1)
			return nil, refuse("invalid_request", "a parameter is there twice")
		}
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			return nil, refuse("invalid_request", "a parameter is no UTF-8") // which no message can hold
		}
	}
	return r.PostForm, nil
}

// Names of RFC 8693.
const (
	grantExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypePrefix = "urn:ietf:params:oauth:token-type:"
	typeAccessToken = tokenTypePrefix + "access_token"
	typeIDToken     = tokenTypePrefix + "id_token"
	typeJWT         = tokenTypePrefix + "jwt"
)

// exchangeToken is token exchange (RFC 8693): the token of a workload becomes an IAM
// token of the service account that is the audience.
func (o *oauth) exchangeToken(ctx context.Context, form url.Values, meta *runtime.ServerMetadata) (*tokenAnswer, error) {
	kind := form.Get("subject_token_type")
	switch {
	case form.Get("subject_token") == "":
		return nil, refuse("invalid_request", "subject_token is missing")
	case kind != typeIDToken && kind != typeJWT:
		return nil, refuse("invalid_request", "subject_token_type must be "+typeIDToken+" or "+typeJWT)
	case form.Has("requested_token_type") && form.Get("requested_token_type") != typeAccessToken:
		return nil, refuse("invalid_request", "requested_token_type must be "+typeAccessToken)
	case form.Has("actor_token") || form.Has("actor_token_type"):
		return nil, refuse("invalid_request", "a workload has no actor")
	case len(form["audience"]) != 1 || form.Get("audience") == "":
		return nil, refuse("invalid_target", "audience must be the id of one service account")
	case form.Has("resource"):
		return nil, refuse("invalid_target", "a token is good for all that its service account may do: name no resource")
	case form.Get("scope") != "":
		return nil, refuse("invalid_scope", "a token is good for all that its service account may do: name no scope")
	}
	resp, err := o.exchange.ExchangeToken(ctx, &identityv1.ExchangeTokenRequest{
		ServiceAccountId: form.Get("audience"), SubjectToken: form.Get("subject_token"),
	}, grpc.Header(&meta.HeaderMD), grpc.Trailer(&meta.TrailerMD))
	if err != nil {
		return nil, err
	}
	return &tokenAnswer{
		AccessToken: resp.GetIamToken(), IssuedTokenType: typeAccessToken, TokenType: "Bearer",
		ExpiresIn: max(int64(math.Floor(time.Until(resp.GetExpiresAt().AsTime()).Seconds())), 0),
	}, nil
}

// oauthErrorOf is an error as OAuth tells it. A subject token that is not good is an
// invalid request (RFC 8693, section 2.2.2). Details and internals stay here.
func oauthErrorOf(err error) *oauthError {
	var refusal *oauthError
	if errors.As(err, &refusal) {
		return refusal
	}
	switch apierr.CodeOf(err) {
	case codes.InvalidArgument:
		return refuse("invalid_request", "a parameter is too long, or no text")
	case codes.Unauthenticated, codes.NotFound, codes.PermissionDenied, codes.FailedPrecondition:
		return refuse("invalid_request", "the token is not good for this audience")
	case codes.ResourceExhausted:
		return &oauthError{"temporarily_unavailable", "too many requests, try again later", http.StatusTooManyRequests}
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		return &oauthError{"temporarily_unavailable", "the token cannot be judged at the moment, try again", http.StatusServiceUnavailable}
	default:
		return &oauthError{"server_error", "", http.StatusInternalServerError}
	}
}

// answerOAuth writes an answer, which nobody may keep (RFC 6749, section 5.1).
func answerOAuth(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	raw, err := json.Marshal(body)
	if err != nil {
		status, raw = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	w.WriteHeader(status)
	_, _ = w.Write(raw) // a caller that is gone needs no answer
}
