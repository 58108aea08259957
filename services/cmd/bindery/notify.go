package main

import (
	"errors"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/services/notifications"
)

// notifyFlags say how people are told of what becomes of what is theirs.
type notifyFlags struct {
	SMTP             string `name:"smtp" placeholder:"URL" help:"Server that takes mail: smtp://[USER@]HOST[:PORT], smtps:// for TLS from the first byte on. BINDERY_SMTP may hold USER:PASSWORD. Mail goes to the log when empty."`
	SMTPPasswordFile string `name:"smtp-password-file" placeholder:"FILE" help:"File with the password of the mail server."`
	MailFrom         string `placeholder:"ADDRESS" help:"Sender of mail. Required with --smtp."`

	WebhookAllow []netip.Prefix `placeholder:"CIDR" help:"Network that webhooks may lead to beside public addresses. Once for each."`
	WebhookPort  []uint16       `placeholder:"PORT" help:"Port that webhooks may lead to, instead of 443 and 8443. Once for each."`
}

var errPasswordShown = errors.New("--smtp: a password on the command line is shown to every user of the machine: give the URL by BINDERY_SMTP, or the password by --smtp-password-file")

// config is the configuration of the unit notifications. args are those of the
// process.
func (f notifyFlags) config(args []string) (notifications.Config, error) {
	c := notifications.Config{MailFrom: f.MailFrom, WebhookAllow: f.WebhookAllow, WebhookPorts: f.WebhookPort}
	if f.SMTP == "" {
		if f.SMTPPasswordFile != "" || f.MailFrom != "" {
			return c, errors.New("--smtp-password-file and --mail-from go with --smtp")
		}
		return c, c.Validate()
	}
	if u, err := url.Parse(f.SMTP); err == nil {
		_, has := u.User.Password()
		if has && slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, f.SMTP) }) {
			return c, errPasswordShown
		}
	}
	var err error
	if c.SMTP, err = notifications.ParseSMTP(f.SMTP, f.SMTPPasswordFile); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// set puts the configured unit in the place of the one of the list.
func (f notifyFlags) set(units []server.Unit) error {
	c, err := f.config(os.Args)
	if err != nil {
		return err
	}
	for i, u := range units {
		if u.Name == notifications.Name {
			units[i] = c.Unit()
		}
	}
	return nil
}
