package notifications

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"go.uber.org/zap"
)

// sender tells one recipient of a notice. An error that no repetition mends is a
// final one.
type sender interface {
	send(ctx context.Context, n Notice, d Delivery) error
}

// final is an error after which a delivery ends in a state.
type final struct {
	state State
	err   error
}

// Error is that of the cause.
func (f *final) Error() string { return f.err.Error() }

// Unwrap returns the cause.
func (f *final) Unwrap() error { return f.err }

// logMailer writes mail into the log: for an installation without a mail server.
type logMailer struct{ log *zap.Logger }

// send writes one line. Its fields are these and no others: the text of a notice and
// its details may hold what is for the recipient alone.
func (m *logMailer) send(_ context.Context, n Notice, d Delivery) error {
	m.log.Info("notice", zap.String("delivery_id", d.ID), zap.String("notice_id", n.GetId()), zap.String("event", n.GetEvent()),
		zap.String("organization_id", n.organization()), zap.String("recipient", d.Target), zap.String("title", n.GetTitle()))
	return nil
}

// smtpTimeout bounds each exchange with the mail server.
const smtpTimeout = 20 * time.Second

// smtpMailer hands mail to a server, each in a session of its own.
type smtpMailer struct {
	server SMTP
	from   string
	domain string // right of the @ in Message-IDs
	tls    *tls.Config
}

func newSMTPMailer(cfg Config) (*smtpMailer, error) {
	from, err := netmail.ParseAddress(cfg.MailFrom)
	if err != nil {
		return nil, fmt.Errorf("sender of mail: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.tls != nil {
		conf = cfg.tls.Clone()
	}
	conf.ServerName = cfg.SMTP.Host
	_, domain, _ := strings.Cut(from.Address, "@")
	return &smtpMailer{server: cfg.SMTP, from: from.String(), domain: domain, tls: conf}, nil
}

// options are those of a session. Without TLS a password is never sent: STARTTLS is
// used where it is offered, and with a password it must be.
func (m *smtpMailer) options() []mail.Option {
	opts := []mail.Option{mail.WithPort(m.server.Port), mail.WithTimeout(smtpTimeout), mail.WithTLSConfig(m.tls), mail.WithTLSPolicy(mail.TLSOpportunistic)}
	if m.server.Implicit {
		opts = append(opts, mail.WithSSL())
	}
	if m.server.User != "" {
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory), mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover),
			mail.WithUsername(m.server.User), mail.WithPassword(string(m.server.Password)))
	}
	return opts
}

// send hands a mail to the server. It has been told when the server has taken it.
func (m *smtpMailer) send(ctx context.Context, n Notice, d Delivery) error {
	msg, err := m.compose(n, d)
	if err != nil {
		return &final{Dead, err}
	}
	client, err := mail.NewClient(m.server.Host, m.options()...)
	if err != nil {
		return fmt.Errorf("mail server: %w", err)
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return fmt.Errorf("mail server: %w", m.redact(err))
	}
	defer func() { _ = client.CloseWithSMTPClient(session) }() // the mail is taken, or not
	if err := client.SendWithSMTPClient(session, msg); err != nil {
		var refused *mail.SendError
		if errors.As(err, &refused) && refused.ErrorCode() >= 500 && !refused.IsTemp() {
			return &final{Dead, m.redact(err)}
		}
		return m.redact(err)
	}
	return nil
}

// redact keeps the password out of what a server or a library says, as it is and as it
// goes over the wire when one signs in (AUTH LOGIN, AUTH PLAIN).
func (m *smtpMailer) redact(err error) error {
	password, text := string(m.server.Password), err.Error()
	if password == "" {
		return err
	}
	for _, shown := range []string{password, "\x00" + m.server.User + "\x00" + password} {
		for _, spelt := range []string{shown, base64.RawStdEncoding.EncodeToString([]byte(shown))} {
			text = strings.ReplaceAll(text, spelt, m.server.Password.String())
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// compose makes the mail of a delivery. Everything in its headers is an address that
// was parsed, an id of ours, or encoded by the library, so that no text ends a line.
func (m *smtpMailer) compose(n Notice, d Delivery) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(m.from); err != nil {
		return nil, fmt.Errorf("sender of mail: %w", err)
	}
	if err := msg.To(d.Target); err != nil {
		return nil, fmt.Errorf("recipient of mail: %w", err)
	}
	msg.SetMessageIDWithValue(d.ID + "@" + m.domain)
	msg.SetDateWithValue(n.TakenAt)
	msg.Subject(subject(n))
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Bindery-Notice", n.GetId())
	msg.SetGenHeader("X-Bindery-Event", n.GetEvent())
	msg.SetBodyString(mail.TypeTextPlain, text(n))
	return msg, nil
}
