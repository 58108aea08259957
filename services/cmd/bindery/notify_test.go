package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The password of the mail server comes by the environment or a file, never by the
// command line, which every user of the machine can read.
func TestMailFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const url = "smtp://ann:secret@mail.example:25"
	for _, tt := range []struct {
		name  string
		flags notifyFlags
		args  []string
		user  string
		bad   bool
		shown bool
	}{
		{name: "none"},
		{name: "by the environment", flags: notifyFlags{SMTP: url, MailFrom: "a@b.example"}, args: []string{"bindery", "serve", "all"}, user: "ann"},
		{name: "as an argument", flags: notifyFlags{SMTP: url, MailFrom: "a@b.example"}, args: []string{"bindery", "serve", "--smtp", url}, shown: true, bad: true},
		{name: "as one argument", flags: notifyFlags{SMTP: url, MailFrom: "a@b.example"}, args: []string{"bindery", "serve", "--smtp=" + url}, shown: true, bad: true},
		{name: "by a file", flags: notifyFlags{SMTP: "smtp://ann@mail.example", SMTPPasswordFile: file, MailFrom: "a@b.example"}, args: []string{"--smtp", "smtp://ann@mail.example"}, user: "ann"},
		{name: "no sender", flags: notifyFlags{SMTP: "smtp://mail.example"}, bad: true},
		{name: "a sender without a server", flags: notifyFlags{MailFrom: "a@b.example"}, bad: true},
		{name: "no URL", flags: notifyFlags{SMTP: "mail.example", MailFrom: "a@b.example"}, bad: true},
	} {
		c, err := tt.flags.config(tt.args)
		if (err != nil) != tt.bad || errors.Is(err, errPasswordShown) != tt.shown {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && (c.SMTP.User != tt.user || tt.user != "" && c.SMTP.Password != "secret") {
			t.Errorf("%s: configuration of user %q", tt.name, c.SMTP.User)
		}
	}
}
