package authz

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // lets a connection look at the health of its servers
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Dialing says where the checker is, and as whom it is called.
type Dialing struct {
	// Addresses are host:port, of the gateway or of the unit accessbindings; several with
	// commas between, or a name that has several addresses, take turns.
	Addresses string

	// CAs verify the servers; nil means those of the system.
	CAs *x509.CertPool

	// Plaintext speaks without TLS. For loopback.
	Plaintext bool

	// Token returns the IAM token of the service itself, for calls that it makes as
	// itself, such as following. It is asked for each call; nil for none.
	Token func(ctx context.Context) (string, error)
}

// How long a server that is away can hold a call, and how soon it is found again.
const (
	callDeadline  = 10 * time.Second // of a call without one, its retries included
	connectWithin = 3 * time.Second
	slowestRetry  = 2 * time.Second
	pingEvery     = 15 * time.Second
	pingTimeout   = 5 * time.Second
	dialingScheme = "checkers"
	longestAnswer = 64 << 20
)

// Dial returns a connection for NewClient and for package replica. It does not wait for a
// server. Its calls take turns among the servers that say they are ready, are tried again
// when one is away, and end after 10 seconds unless their context ends before.
func Dial(d Dialing) (*grpc.ClientConn, error) {
	if d.Addresses == "" {
		return nil, errors.New("dial the checker: no address")
	}
	list := manual.NewBuilderWithScheme(dialingScheme)
	target := "dns:///" + d.Addresses
	if all := strings.Split(d.Addresses, ","); len(all) > 1 {
		var state resolver.State
		for _, addr := range all {
			host, _, _ := strings.Cut(addr, ":")
			state.Addresses = append(state.Addresses, resolver.Address{Addr: addr, ServerName: host})
		}
		list.InitialState(state)
		target = dialingScheme + ":///" + all[0]
	}
	creds := credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: d.CAs})
	if d.Plaintext {
		creds = insecure.NewCredentials()
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithResolvers(list), grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
		grpc.WithDefaultServiceConfig(fmt.Sprintf(`{
			"loadBalancingConfig": [{"round_robin": {}}],
			"healthCheckConfig": {"serviceName": %q},
			"methodConfig": [{"name": [{}], "retryPolicy": {
				"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
				"retryableStatusCodes": ["UNAVAILABLE"]}}]}`, accessservicev2.AccessService_ServiceDesc.ServiceName)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: slowestRetry},
			MinConnectTimeout: connectWithin,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(longestAnswer)),
		grpc.WithChainUnaryInterceptor(deadline),
	}
	if d.Token != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer{d.Token, !d.Plaintext}))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial the checker: %w", err)
	}
	return conn, nil
}

// deadline bounds calls that have none.
func deadline(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callDeadline)
		defer cancel()
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// bearer sends a token with each call.
type bearer struct {
	token  func(context.Context) (string, error)
	secure bool
}

// GetRequestMetadata returns the authorization header.
func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, fmt.Errorf("token of the service: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity keeps the token off plain connections.
func (b bearer) RequireTransportSecurity() bool { return b.secure }
