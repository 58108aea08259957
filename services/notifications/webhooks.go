package notifications

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
)

// secretPrefix begins the secret of a webhook, as Standard Webhooks has it.
const secretPrefix = "whsec_"

// secretSize is the number of random bytes of a secret.
const secretSize = 32

// createdWebhook is what the answers of the methods that make webhooks have in common.
type createdWebhook struct {
	answer proto.Message
	fill   func(sub *notificationv1.Subscriber, secret string)
}

// createWebhook makes a webhook a subscriber of a resource (NT-3). Its secret is in the
// answer, which an idempotency key keeps sealed, and nowhere else in the clear. Fails:
// RESOURCE_NOT_FOUND, TOO_MANY_SUBSCRIBERS.
func (s *Service) createWebhook(ctx context.Context, on Ref, hook *notificationv1.Webhook, made createdWebhook) error {
	if err := s.checkWebhook(hook); err != nil {
		return err
	}
	path, err := s.admit(ctx, on, nil)
	if err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.keys.Answer(ctx, tx, made.answer, func() error {
			there, err := s.lock(ctx, tx, on)
			if err != nil {
				return err
			}
			if len(there) >= maxSubscribers {
				return errTooManySubscribers
			}
			raw := make([]byte, secretSize)
			_, _ = rand.Read(raw) // never fails: the runtime ends the process instead
			sub := s.subscriber(ctx, on)
			sub.URL, sub.Events = hook.GetUrl(), hook.GetEvents()
			sub.Secret = s.sealer.Seal(sealedSecrets.Purpose(sub.ID), raw)
			if _, err := s.store.InsertSubscriber(ctx, tx, sub); err != nil {
				return err
			}
			made.fill(sub.proto(), secretPrefix+base64.StdEncoding.EncodeToString(raw))
			return s.record(ctx, tx, path, map[string]any{"added": []string{sub.ID}})
		})
		return err
	})
}

// checkWebhook refuses what could never be called, and filters that would never match.
// Where a name leads is judged at each call, when it is resolved.
func (s *Service) checkWebhook(hook *notificationv1.Webhook) error {
	u, err := url.Parse(hook.GetUrl())
	switch {
	case err != nil || u.Hostname() == "":
		return apierr.InvalidField("webhook.url", "must be an https URL with a host")
	case u.User != nil || u.Fragment != "":
		return apierr.InvalidField("webhook.url", "must not hold a user, a password or a fragment")
	}
	port := uint64(443)
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return apierr.InvalidField("webhook.url", "must name a port up to 65535")
		}
	}
	if !slices.Contains(s.cfg.WebhookPorts, uint16(port)) {
		return apierr.InvalidField("webhook.url", "must use one of the ports %s", ports(s.cfg.WebhookPorts))
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && s.guard.SafeAddr(addr.Unmap()) != nil {
		return apierr.InvalidField("webhook.url", "must lead to a public address")
	}
	for i, event := range hook.GetEvents() {
		if !notice.Known(event) && !slices.ContainsFunc(notice.Events, func(e string) bool { return family(e) == event }) {
			return apierr.InvalidField(fmt.Sprintf("webhook.events[%d]", i), "%q is neither an event nor a family of events", event)
		}
	}
	return nil
}

// noteWebhook keeps since when a webhook fails. One that took nothing for three quarters
// of GiveUpAfter, so that its deliveries begin to be dead, or that wants no more, is
// disabled, of which people are told.
func (s *Service) noteWebhook(ctx context.Context, tx *sql.Tx, subscriberID string, sent error) error {
	sub, err := s.store.Subscriber(ctx, tx, subscriberID)
	if errors.Is(err, errGone) || err == nil && sub.Disabled {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case sent == nil && sub.FailingSince.IsZero():
		return nil
	case sent == nil:
		return s.store.SetFailing(ctx, tx, sub.ID, time.Time{}, false)
	case sub.FailingSince.IsZero():
		sub.FailingSince = s.now()
	}
	disabled := errors.Is(sent, errTold410) || s.now().Sub(sub.FailingSince) >= s.cfg.GiveUpAfter/4*3
	if err := s.store.SetFailing(ctx, tx, sub.ID, sub.FailingSince, disabled); err != nil || !disabled {
		return err
	}
	n := &notificationv1.Notice{
		Id: notice.ID(notice.WebhookDisabled, sub.ID), Event: notice.WebhookDisabled,
		Title: "A webhook is not called any more",
		Text: "The webhook " + sub.ID + " took no notice since " + sub.FailingSince.UTC().Format("2006-01-02 15:04 UTC") +
			", or asked for no more. It is disabled: remove it and create it anew once it works.",
		Details: map[string]string{"subscriber_id": sub.ID},
		Recipients: &notificationv1.Notice_Audience{Audience: &notificationv1.Audience{
			Resource: &accessv1.Resource{Type: sub.On.Type, Id: sub.On.ID},
		}},
	}
	_, err = s.takeIn(ctx, tx, Notice{Notice: n, TakenBy: Name, TakenAt: s.now()})
	return err
}

// family is the part of an event before the dot.
func family(event string) string {
	name, _, _ := strings.Cut(event, ".")
	return name
}

// wants reports whether a subscriber is told of an event.
func (s Subscriber) wants(event string) bool {
	return len(s.Events) == 0 || slices.Contains(s.Events, event) || slices.Contains(s.Events, family(event))
}

func ports(all []uint16) string {
	texts := make([]string, len(all))
	for i, p := range all {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, ", ")
}
