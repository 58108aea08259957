package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// How long a unit that is away, or hung, may hold a call, and how long it may take
// to be found again once it is ready.
const (
	awayWithin  = 5 * time.Second
	hungWithin  = 40 * time.Second
	foundWithin = 10 * time.Second
)

// TestUnitAway kills one unit after the other, and hangs one. Calls that need it say
// UNAVAILABLE in bounded time, the others go on, and it is found again.
func TestUnitAway(t *testing.T) {
	s := startSplit(t)
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ann := s.createUser("ann")
	a := &caller{t: t, conn: conn, rest: s.http, user: ann, token: s.createToken("ann")}
	cloud := a.create("before")
	a.cloud, a.org = cloud.GetId(), cloud.GetOrganizationId()

	for _, tt := range []struct {
		unit string
		away map[string]bool // the calls that need the unit
	}{
		{"resourcemanager", map[string]bool{"cloud": true}},
		{"accessbindings", map[string]bool{"cloud": true, "role": true}},
		{"identity", map[string]bool{"token": true}}, // keys that were read are kept
	} {
		t.Run(tt.unit, func(t *testing.T) {
			a := *a
			a.t = t
			for _, one := range s.processesOf(tt.unit) {
				one.kill()
			}
			for name, call := range a.calls() {
				if tt.away[name] {
					a.refused(name, call, awayWithin)
				} else if err := call(); err != nil {
					t.Errorf("%s: %v, though it does not need %s", name, err, tt.unit)
				}
			}
			for _, one := range s.processesOf(tt.unit) {
				one.start()
			}
			a.found()
			a.create("after-" + tt.unit)
		})
	}
	t.Run("hung", func(t *testing.T) {
		a := *a
		a.t = t
		process := s.unit["resourcemanager"].cmd.Process
		hang(t, process)
		a.refused("cloud", a.calls()["cloud"], hungWithin)
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		a.found()
	})
}

// hang stops a process and waits until it stands: each thread stops by itself.
func hang(t *testing.T, process *os.Process) {
	t.Helper()
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", process.Pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("no threads of %d: %v", process.Pid, err)
		}
		running := slices.ContainsFunc(threads, func(file string) bool {
			stat, err := os.ReadFile(file)
			return err == nil && !strings.Contains(string(stat), ") T ")
		})
		if !running {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the process does not stop")
		}
	}
}

// caller is somebody who goes on calling.
type caller struct {
	t     *testing.T
	conn  *grpc.ClientConn
	rest  string
	user  user
	token string
	org   string // made with the first cloud
	cloud string
}

func (c *caller) context() context.Context {
	return metadata.AppendToOutgoingContext(c.t.Context(), "authorization", "Bearer "+c.token)
}

// create makes a cloud, for which every unit does something.
func (c *caller) create(name string) *rmv1.Cloud {
	c.t.Helper()
	op, err := rmv1.NewCloudServiceClient(c.conn).Create(c.context(), &rmv1.CreateCloudRequest{OrganizationId: c.org, Name: name})
	if err != nil {
		c.t.Fatalf("create %s: %v", name, err)
	}
	cloud := new(rmv1.Cloud)
	if err := op.GetResponse().UnmarshalTo(cloud); err != nil {
		c.t.Fatal(err)
	}
	return cloud
}

// calls are one to each unit that owns something.
func (c *caller) calls() map[string]func() error {
	return map[string]func() error{
		"cloud": func() error {
			_, err := rmv1.NewCloudServiceClient(c.conn).Get(c.context(), &rmv1.GetCloudRequest{CloudId: c.cloud})
			return err
		},
		"role": func() error {
			_, err := iamv1.NewRoleServiceClient(c.conn).Get(c.context(), &iamv1.GetRoleRequest{RoleId: "viewer"})
			return err
		},
		"token": func() error {
			_, err := iamv1.NewIamTokenServiceClient(c.conn).Create(c.context(), &iamv1.CreateIamTokenRequest{
				Identity: &iamv1.CreateIamTokenRequest_YandexPassportOauthToken{YandexPassportOauthToken: c.user.OAuthToken},
			})
			return err
		},
	}
}

// refused wants UNAVAILABLE in time and again, with nothing said of the inside.
func (c *caller) refused(name string, call func() error, within time.Duration) {
	c.t.Helper()
	for range 3 {
		begun := time.Now()
		err := call()
		if took := time.Since(begun); took > within {
			c.t.Errorf("%s: refused after %v, want %v", name, took, within)
		}
		if status.Code(err) != codes.Unavailable {
			c.t.Errorf("%s: %v, want UNAVAILABLE", name, err)
		} else if message := status.Convert(err).Message(); strings.Contains(message, "127.0.0.1") || strings.Contains(message, "connect") {
			c.t.Errorf("%s: %q tells how the inside looks", name, message)
		}
	}
}

// found wants every call to succeed soon, at both doors.
func (c *caller) found() {
	c.t.Helper()
	deadline := time.Now().Add(foundWithin)
	for name, call := range c.calls() {
		for err := call(); err != nil; err = call() {
			if status.Code(err) != codes.Unavailable || time.Now().After(deadline) {
				c.t.Fatalf("%s: not found again: %v", name, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.rest+"/resource-manager/v1/clouds/"+c.cloud, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		c.t.Errorf("REST: %s", resp.Status)
	}
}

// TestGatewayPassesOn holds the gateway of split units to what only it can do wrong.
func TestGatewayPassesOn(t *testing.T) {
	s := startSplit(t)
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s.createUser("ann")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+s.createToken("ann"))

	t.Run("headers of a success", func(t *testing.T) {
		var header metadata.MD
		_, err := iamv1.NewRoleServiceClient(conn).Get(metadata.AppendToOutgoingContext(ctx, "x-request-id", "mine"),
			&iamv1.GetRoleRequest{RoleId: "viewer"}, grpc.Header(&header))
		if err != nil || strings.Join(header.Get("x-request-id"), ",") != "mine" || len(header.Get("x-server-trace-id")) != 1 {
			t.Errorf("%v: header %v", err, header)
		}
	})
	t.Run("trailer of a refusal", func(t *testing.T) {
		var header, trailer metadata.MD
		_, err := iamv1.NewRoleServiceClient(conn).Get(ctx, &iamv1.GetRoleRequest{RoleId: "nothing.of.the.kind"}, grpc.Header(&header), grpc.Trailer(&trailer))
		if status.Code(err) != codes.NotFound || len(status.Convert(err).Details()) == 0 {
			t.Errorf("%v, want NOT_FOUND with its details", err)
		}
		if len(header.Get("x-request-id")) != 0 || len(trailer.Get("x-request-id")) != 1 {
			t.Errorf("header %v, trailer %v; the ids belong into the trailer alone", header, trailer)
		}
	})
	t.Run("internal methods", func(t *testing.T) {
		_, err := brmv1.NewPlaceServiceClient(conn).GetPlace(ctx, &brmv1.GetPlaceRequest{FolderId: "any"})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%v, want a method that nobody has heard of", err)
		}
	})
	t.Run("unit credentials", func(t *testing.T) {
		forged := metadata.AppendToOutgoingContext(ctx, "bindery-unit", "u1.gateway.accessbindings.1.AA")
		if _, err := iamv1.NewRoleServiceClient(conn).Get(forged, &iamv1.GetRoleRequest{RoleId: "viewer"}); err != nil {
			t.Errorf("%v: a header that says nothing here was passed on", err)
		}
	})
	t.Run("health", func(t *testing.T) {
		for _, name := range []string{"", "yandex.cloud.iam.v1.RoleService", "yandex.cloud.operation.OperationService", "yandex.cloud.resourcemanager.v1.CloudService"} {
			resp, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
			for range 50 { // it is looked at from time to time
				if resp.GetStatus() == healthv1.HealthCheckResponse_SERVING {
					break
				}
				time.Sleep(20 * time.Millisecond)
				resp, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
			}
			if err != nil || resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
				t.Errorf("%q: %v %v", name, resp.GetStatus(), err)
			}
		}
		_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "bindery.resourcemanager.v1.PlaceService"})
		if status.Code(err) != codes.NotFound {
			t.Errorf("health of an internal service: %v, want NOT_FOUND", err)
		}
	})
}
