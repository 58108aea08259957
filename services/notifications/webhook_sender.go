package notifications

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"code.dny.dev/ssrf"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/bindery-iam/bindery/pkg/secret"
)

// Bounds of one request to a webhook.
const (
	webhookTimeout   = 15 * time.Second // all of it
	webhookDial      = 5 * time.Second
	webhookHandshake = 5 * time.Second
	webhookHeader    = 16 << 10 // bytes of the answer's header; its body is not read
)

// webhookSender tells programs, by requests as Standard Webhooks has them.
type webhookSender struct {
	store  *Store
	sealer *secret.Sealer
	client *http.Client
	now    func() time.Time
}

// newGuard says which addresses may be called: public ones, on the ports for webhooks,
// and the networks that the operator names.
func newGuard(c Config) *ssrf.Guardian {
	opts := []ssrf.Option{ssrf.WithPorts(c.WebhookPorts...)}
	v4, v6 := split(c.WebhookAllow)
	return ssrf.New(append(opts, ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))...)
}

// newWebhookClient returns a client that calls nothing but what the guard lets it. The
// guard judges each address when it is dialed, after the name was resolved: a name
// that leads elsewhere the second time gains nothing. No proxy is asked, no redirect
// followed, no connection kept.
func newWebhookClient(guard *ssrf.Guardian, conf *tls.Config) *http.Client {
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	dialer := &net.Dialer{Timeout: webhookDial, Control: guard.Safe, KeepAlive: -1}
	return &http.Client{
		Timeout:       webhookTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: webhookHandshake,
			ResponseHeaderTimeout: webhookTimeout, MaxResponseHeaderBytes: webhookHeader, DisableKeepAlives: true, DisableCompression: true,
		},
	}
}

// errTold410 is the answer by which a program ends its subscription.
var errTold410 = errors.New("the webhook answered 410: it wants no more")

// send calls a webhook. It has been told when it answers with a status from 200 to 299.
func (w *webhookSender) send(ctx context.Context, n Notice, d Delivery) error {
	sub, err := w.store.Subscriber(ctx, w.store.db, d.Target)
	switch {
	case errors.Is(err, errGone):
		return &final{Dropped, errors.New("the subscriber was removed")}
	case err != nil:
		return err
	case sub.Disabled:
		return &final{Dropped, errors.New("the webhook is disabled")}
	}
	req, err := w.request(ctx, sub, n, d)
	if err != nil {
		return err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("call the webhook: %w", withoutURL(err))
	}
	_ = resp.Body.Close() // it is of no interest
	switch {
	case resp.StatusCode == http.StatusGone:
		return &final{Dropped, errTold410}
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Errorf("the webhook answered %d", resp.StatusCode)
	}
	return nil
}

// withoutURL is what went wrong with a request, without its URL: a path or a query may
// be what lets others in.
func withoutURL(err error) error {
	var whole *url.Error
	if errors.As(err, &whole) {
		return whole.Err
	}
	return err
}

// request is the signed request of one attempt. Its id and body are the same at each;
// the time that is signed is that of the attempt, so that none can be replayed later.
func (w *webhookSender) request(ctx context.Context, sub Subscriber, n Notice, d Delivery) (*http.Request, error) {
	body, err := json.Marshal(payloadOf(n))
	if err != nil {
		return nil, fmt.Errorf("write webhook: %w", err)
	}
	key, err := sealedSecrets.Open(w.sealer, sub.ID, sub.Secret)
	if err != nil {
		return nil, err
	}
	signer, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		return nil, fmt.Errorf("sign webhook: %w", err)
	}
	at := w.now()
	signature, err := signer.Sign(d.ID, at, body)
	if err != nil {
		return nil, fmt.Errorf("sign webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sub.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("write webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "bindery")
	req.Header.Set(standardwebhooks.HeaderWebhookID, d.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, fmt.Sprint(at.Unix()))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return req, nil
}

// payload is the body of a request to a webhook: type, timestamp and data, as Standard
// Webhooks has them.
type payload struct {
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"`
	Data      payloadData `json:"data"`
}

type payloadData struct {
	NoticeID       string            `json:"notice_id"`
	OrganizationID string            `json:"organization_id,omitempty"`
	Path           []payloadResource `json:"path"` // NT-5
	Title          string            `json:"title"`
	Text           string            `json:"text"`
	Details        map[string]string `json:"details"`
}

type payloadResource struct {
	Type string `json:"resource_type"`
	ID   string `json:"resource_id"`
	Name string `json:"resource_name,omitempty"`
}

func payloadOf(n Notice) payload {
	p := payload{Type: n.GetEvent(), Timestamp: n.TakenAt.UTC(), Data: payloadData{
		NoticeID: n.GetId(), OrganizationID: n.organization(), Title: n.GetTitle(), Text: n.GetText(),
		Details: n.GetDetails(), Path: []payloadResource{},
	}}
	if p.Data.Details == nil {
		p.Data.Details = map[string]string{}
	}
	for _, at := range n.GetPath() {
		p.Data.Path = append(p.Data.Path, payloadResource{at.GetType(), at.GetId(), at.GetName()})
	}
	return p
}

// organization is the one that a notice is about.
func (n Notice) organization() string {
	if path := n.GetPath(); len(path) > 0 && path[0].GetType() == typeOrganization {
		return path[0].GetId()
	}
	return n.GetOrganizationId()
}
