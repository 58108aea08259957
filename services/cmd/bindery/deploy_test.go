package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

const deploy = "../../../deploy"

// deployed is how a folder of deploy/ runs each unit: the arguments, and the
// environment, as lines NAME=value.
type deployed map[string]struct {
	args []string
	env  []string
}

// TestDeploy reads what deploy/ gives to operators through the real flags, and holds
// the units against each other: each knows whom it calls, and is trusted there.
func TestDeploy(t *testing.T) {
	for _, tt := range []struct {
		name string
		read func(*testing.T) deployed
		keys string // the folder of keys, and whose it is there
		own  func(unit string) string
		pub  func(unit string) string
		seal map[string]string // seal keys, by unit
	}{
		{
			"systemd", readSystemd, "/etc/bindery/keys/",
			func(unit string) string { return unit + ".key" }, func(unit string) string { return unit + ".key.pub" },
			map[string]string{"identity": "seal.key", "notifications": "seal.key"},
		},
		{
			"compose", readCompose, "/keys/",
			func(string) string { return "own/unit.key" }, func(unit string) string { return "public/" + unit + ".pub" },
			map[string]string{"identity": "own/seal.key", "notifications": "own/seal.key"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := tt.read(t)
			commands := map[string]serveCommand{}
			for name, unit := range all {
				dir := t.TempDir()
				for peer := range all {
					writeKey(t, filepath.Join(dir, tt.own(name)), filepath.Join(dir, tt.pub(peer)))
				}
				if tt.seal[name] != "" {
					if err := secret.CreateSealKey(filepath.Join(dir, tt.seal[name])); err != nil {
						t.Fatal(err)
					}
				}
				for _, line := range unit.env {
					key, value, _ := strings.Cut(line, "=")
					t.Setenv(key, strings.ReplaceAll(value, tt.keys, dir+"/"))
				}
				serve := parse(t, unit.args...)
				for _, line := range unit.env {
					key, _, _ := strings.Cut(line, "=")
					os.Unsetenv(key) // Setenv restores it at the end
				}
				if !slices.Equal(serve.Units, []string{name}) {
					t.Errorf("%s serves %v", name, serve.Units)
				}
				if _, err := serve.options(func(string) *sqldb.DB { return nil }); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				commands[name] = serve
			}
			for _, u := range unitNames(units()) {
				if _, ok := commands[u]; !ok {
					t.Errorf("unit %s is not run", u)
				}
			}
			for name, serve := range commands {
				wantKnown(t, name, serve, commands)
			}
		})
	}
}

// wantKnown wants a unit to be known to those that it calls, at the ports on which
// they listen.
func wantKnown(t *testing.T, name string, serve serveCommand, all map[string]serveCommand) {
	t.Helper()
	for peer, address := range serve.Peer {
		to := all[peer]
		if to.TrustUnit[name] == "" {
			t.Errorf("%s calls %s, which does not trust it", name, peer)
		}
		if !strings.HasSuffix(address, to.Listen) {
			t.Errorf("%s finds %s at %s, and it listens on %s", name, peer, address, to.Listen)
		}
	}
	for caller := range serve.TrustUnit {
		if all[caller].Peer[name] == "" {
			t.Errorf("%s trusts %s, which does not call it", name, caller)
		}
	}
	if tables(name) != strings.Contains(serve.DatabaseURL, "bindery_"+name+"@") {
		t.Errorf("%s: database %q", name, serve.DatabaseURL)
	}
}

// tables reports whether a unit keeps anything.
func tables(name string) bool {
	chosen, err := choose([]string{name})
	return err == nil && len(chosen[0].Migrations) > 0
}

// writeKey makes a key in the place of a unit's own, if there is none, and puts a
// public key beside it.
func writeKey(t *testing.T, own, public string) {
	t.Helper()
	for _, dir := range []string{filepath.Dir(own), filepath.Dir(public)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(own); err != nil {
		if _, err := authn.CreateUnitKey(own); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(own + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(public, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// parse reads a command line of serve.
func parse(t *testing.T, args ...string) serveCommand {
	t.Helper()
	var line cli
	parser, err := kong.New(&line, grammar()...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatalf("bindery %s: %v", strings.Join(args, " "), err)
	}
	return line.Serve
}

// readSystemd reads the environment files, and how systemd starts a unit with them.
func readSystemd(t *testing.T) deployed {
	files, err := filepath.Glob(deploy + "/env/*.env")
	if err != nil {
		t.Fatal(err)
	}
	start := directive(t, "bindery@.service", "ExecStart")
	if file := directive(t, "bindery@.service", "EnvironmentFile"); file != directive(t, "bindery-migrate@.service", "EnvironmentFile") || file != "/etc/bindery/%i.env" {
		t.Errorf("the services read %s", file)
	}
	if migrate := directive(t, "bindery-migrate@.service", "ExecStart"); migrate != strings.Replace(start, " serve ", " migrate ", 1) {
		t.Errorf("migrated by %q, and started by %q", migrate, start)
	}
	units := deployed{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".env")
		unit := units[name]
		unit.args = strings.Fields(strings.ReplaceAll(start, "%i", name))[1:]
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			if line := lines.Text(); line != "" && !strings.HasPrefix(line, "#") {
				unit.env = append(unit.env, line)
			}
		}
		units[name] = unit
	}
	return units
}

// directive returns the one value of a directive of a systemd unit.
func directive(t *testing.T, file, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "systemd", file))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(string(text), -1)
	if len(found) != 1 {
		t.Fatalf("%s: %d times %s", file, len(found), name)
	}
	return found[0][1]
}

// readCompose reads the services that are units.
func readCompose(t *testing.T) deployed {
	text, err := os.ReadFile(deploy + "/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	units := deployed{}
	for name, service := range file.Services {
		if len(service.Command) == 0 || service.Command[0] != "serve" {
			continue
		}
		unit := units[name]
		unit.args = service.Command
		for key, value := range service.Environment {
			unit.env = append(unit.env, fmt.Sprintf("%s=%s", key, value))
		}
		units[name] = unit
	}
	return units
}
